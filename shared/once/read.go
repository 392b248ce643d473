package once

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/store"
)

// Read wraps a function that only reads, so that each of its commands ends once: the end is recorded before it is
// published, and each later delivery publishes the recorded end. So there is no second end, even if the worker dies
// after publishing and the service answers differently later, or the command uses up its deliveries. A command whose
// expirytime has passed ends as expired, without a call.
//
// At the first delivery of a message no record is read before the call. The end is put only if there is none, so the
// recorded end is published in any case; a command that was sent twice costs a second call at most.
//
// reduce, if it is not nil, returns the part of an answer's data that the ledger may keep.
func (e *Engine) Read(f queue.Function, reduce func(data any) any) queue.Function {
	handle := f.Handle
	f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if c.Digest == "" { // the data is invalid, and is refused in the same way each time
			return handle(ctx, c)
		}
		r := e.read(c)
		if !c.First {
			if err := r.get(ctx); err != nil {
				return nil, err
			}
		}
		if r.end != nil {
			return []queue.Outcome{republish(*r.end, r.digest)}, nil
		}
		outcomes, err := e.handleInTime(ctx, handle, c)
		end, ended := asEndOfRead(f.Name, c, outcomes, err)
		if !ended {
			return outcomes, err
		}
		return r.record(ctx, end, reduce)
	}
	f.GiveUp = func(ctx context.Context, c queue.Command, reason string) ([]queue.Outcome, error) {
		if c.Digest == "" {
			return nil, nil
		}
		r := e.read(c)
		if err := r.get(ctx); err != nil {
			return nil, err
		}
		if r.end != nil {
			return []queue.Outcome{republish(*r.end, r.digest)}, nil
		}
		failed := queue.Failed(events.KindAttemptsUsedUp, "%s", reason)
		failed.DeadLetter = queue.DeadLetterID(c.Identity(), f.Name, queue.ClassUsedUp)
		end, _ := asEndOfRead(f.Name, c, nil, failed)
		return r.record(ctx, end, nil)
	}
	return f
}

// handleInTime handles a command, but fails it if its expirytime has passed. A reaction inherits the expirytime of the
// write before it, but still runs after that: it proves what the write has done.
func (e *Engine) handleInTime(
	ctx context.Context, handle func(context.Context, queue.Command) ([]queue.Outcome, error), c queue.Command,
) ([]queue.Outcome, error) {
	if !c.IsReaction() {
		if err := checkExpiryTime(c.Envelope, e.Now()); err != nil {
			return nil, err
		}
	}
	return handle(ctx, c)
}

// asEndOfRead returns the outcome that ends a read; false if the read has not ended. Invalid data needs no record.
func asEndOfRead(function string, c queue.Command, outcomes []queue.Outcome, err error) (queue.Outcome, bool) {
	var end queue.Outcome
	switch failed, isFailed := queue.AsFailed(err); {
	case err == nil && len(outcomes) == 1:
		end = outcomes[0]
	case isFailed && failed.Failure.Kind != events.KindInvalid:
		end = failed.Outcome(c)
		end.About = c.AboutData(end.About...)
	default:
		return end, false
	}
	if end.ID == "" {
		end.ID = events.Derive(c.Identity(), end.About...)
	}
	end.Source, end.Causation = events.Source(function), c.Envelope.ID
	return end, true
}

// read is the record of a command that only reads: it has nothing but the end.
type read struct {
	*Engine
	key    string
	digest string
	end    *ledger.End
	rev    store.Revision
}

// read is the record of a command, which get reads. The key has the digest in it: a read with other data is another one.
func (e *Engine) read(c queue.Command) *read {
	return &read{Engine: e, digest: c.Digest, key: "read/" + events.Derive(c.Identity(), c.Envelope.Type, c.Digest)}
}

func (r *read) get(ctx context.Context) error {
	record, rev, err := r.Engine.get(ctx, r.key)
	if err != nil {
		return err
	}
	r.end, r.rev = record.End, rev
	if r.end == nil {
		return nil
	}
	end := *r.end
	if end.Data, err = unpacked(end.Data); err != nil {
		return fmt.Errorf("read the end of a command: %w", err)
	}
	r.end = &end
	return nil
}

// record records an end. If another worker has recorded one, it returns that.
func (r *read) record(ctx context.Context, o queue.Outcome, reduce func(data any) any) ([]queue.Outcome, error) {
	o.Time = r.Now().UTC()
	reduced := o
	if reduce != nil && o.Type != events.TypeCommandFailed {
		reduced.Data = reduce(o.Data)
	}
	kept, err := asEnd(reduced)
	if err != nil {
		return nil, err
	}
	if reduce == nil {
		o.Data = kept.Data
	}
	if kept.Data, err = packed(kept.Data); err != nil {
		return nil, err
	}
	_, err = r.Store.Put(ctx, r.key, ledger.Record{End: kept}, r.rev)
	if err == nil {
		return []queue.Outcome{o}, nil
	}
	before := r.rev
	if failed := r.get(ctx); failed != nil {
		return nil, failed
	}
	if r.end != nil && r.rev > before { // stored by another worker, or by us though the answer was lost
		return []queue.Outcome{republish(*r.end, r.digest)}, nil
	}
	return nil, queue.RetryAfter(StoreWait, fmt.Errorf("the ledger: %w", err))
}

// packedFrom is the size from which the data of an end is compressed: a store takes values up to 300 KB, and the
// answer for 5,000 desktops is larger.
const packedFrom = 64 << 10

// archive holds compressed data.
type archive struct {
	Gzip []byte `json:"gzip"`
}

func packed(data json.RawMessage) (json.RawMessage, error) {
	if len(data) < packedFrom {
		return data, nil
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("compress the end of a command: %w", err)
	}
	return json.Marshal(archive{b.Bytes()})
}

func unpacked(data json.RawMessage) (json.RawMessage, error) {
	if !bytes.HasPrefix(data, []byte(`{"gzip":`)) {
		return data, nil
	}
	var a archive
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(a.Gzip))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
