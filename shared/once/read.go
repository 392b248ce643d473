package once

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

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
// A function may return several outcomes: the pages of a list, of which only the last one is the end. The pages before it
// are recorded before the end, each in a record of its own, and published only with the end: so all pages that are ever
// published are of one reading of the list.
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
			return r.republished(ctx)
		}
		outcomes, err := e.handleInTime(ctx, handle, c)
		pages, end, ended := asEndOfRead(f.Name, c, outcomes, err)
		if !ended {
			return outcomes, err
		}
		return r.record(ctx, pages, end, reduce)
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
			return r.republished(ctx)
		}
		failed := queue.Failed(events.KindAttemptsUsedUp, "%s", reason)
		failed.DeadLetter = queue.DeadLetterID(c.Identity(), f.Name, queue.ClassUsedUp)
		_, end, _ := asEndOfRead(f.Name, c, nil, failed)
		return r.record(ctx, nil, end, nil)
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

// asEndOfRead returns the outcome that ends a read, and the pages before it; false if the read has not ended. Invalid
// data needs no record.
func asEndOfRead(
	function string, c queue.Command, outcomes []queue.Outcome, err error,
) (pages []queue.Outcome, end queue.Outcome, ended bool) {
	switch failed, isFailed := queue.AsFailed(err); {
	case err == nil && len(outcomes) > 0:
		pages, end = outcomes[:len(outcomes)-1], outcomes[len(outcomes)-1]
	case isFailed && failed.Failure.Kind != events.KindInvalid:
		end = failed.Outcome(c)
		end.About = c.AboutData(end.About...)
	default:
		return nil, end, false
	}
	if end.ID == "" {
		end.ID = events.Derive(c.Identity(), end.About...)
	}
	end.Source, end.Causation = events.Source(function), c.Envelope.ID
	for i := range pages {
		pages[i].ID, pages[i].Source, pages[i].NoEnd = events.Derive(c.Identity(), pages[i].About...), end.Source, true
	}
	return pages, end, true
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
	end, rev, err := r.getEnd(ctx, r.key)
	r.end, r.rev = end, rev
	return err
}

// getEnd returns the event in a record; nil if there is no record.
func (r *read) getEnd(ctx context.Context, key string) (*ledger.End, store.Revision, error) {
	record, rev, err := r.Engine.get(ctx, key)
	if err != nil || record.End == nil {
		return nil, rev, err
	}
	end := *record.End
	if end.Data, err = unpacked(end.Data); err != nil {
		return nil, rev, fmt.Errorf("read the end of a command: %w", err)
	}
	return &end, rev, nil
}

// republished returns the recorded end, and the recorded pages before it.
func (r *read) republished(ctx context.Context) ([]queue.Outcome, error) {
	var outcomes []queue.Outcome
	for n := 1; n < pageOf(*r.end); n++ {
		page, _, err := r.getEnd(ctx, r.pageKey(*r.end, n))
		if err != nil {
			return nil, err
		}
		if page == nil {
			return nil, fmt.Errorf("the ledger has lost page %d of the answer to the command", n)
		}
		o := republish(*page, r.digest)
		o.NoEnd = true
		outcomes = append(outcomes, o)
	}
	return append(outcomes, republish(*r.end, r.digest)), nil
}

// pageOf is the number of a list's page; 0 for other events.
func pageOf(e ledger.End) int {
	var list struct{ Page int }
	if !events.IsPage(e.Type) || json.Unmarshal(e.Data, &list) != nil {
		return 0
	}
	return list.Page
}

// pageKey is the key of the record of a page. The time of the end is in it: two workers that answer the same command at
// the same time may read two different lists.
func (r *read) pageKey(end ledger.End, page int) string {
	return r.key + "/" + events.Derive(end.ID, end.Time.Format(time.RFC3339Nano), strconv.Itoa(page))
}

// record records an end and the pages before it. If another worker has recorded an end, it returns that.
func (r *read) record(
	ctx context.Context, pages []queue.Outcome, o queue.Outcome, reduce func(data any) any,
) ([]queue.Outcome, error) {
	o.Time = r.Now().UTC()
	published := make([]queue.Outcome, 0, len(pages)+1)
	for i, page := range append(pages, o) {
		page.Time = o.Time
		kept, plain, err := keep(page, reduce)
		if err != nil {
			return nil, err
		}
		if reduce == nil {
			page.Data = plain
		}
		published = append(published, page)
		key, rev := r.key, r.rev
		if i < len(pages) {
			key, rev = r.pageKey(ledger.End{ID: o.ID, Time: o.Time}, i+1), 0
		}
		if _, err = r.Store.Put(ctx, key, ledger.Record{End: kept}, rev); err == nil {
			continue
		}
		before := r.rev
		if failed := r.get(ctx); failed != nil {
			return nil, failed
		}
		if r.end != nil && r.rev > before { // stored by another worker, or by us though the answer was lost
			return r.republished(ctx)
		}
		r.Log.WarnContext(ctx, "the end of a command cannot be recorded; retrying", "key", key, "error", err)
		return nil, queue.Hold(StoreWait, fmt.Errorf("the ledger: %w", err))
	}
	return published, nil
}

// keep returns what a record stores of an outcome, and its data, which is not compressed.
func keep(o queue.Outcome, reduce func(data any) any) (*ledger.End, json.RawMessage, error) {
	if reduce != nil && o.Type != events.TypeCommandFailed {
		o.Data = reduce(o.Data)
	}
	kept, err := asEnd(o)
	if err != nil {
		return nil, nil, err
	}
	plain := kept.Data
	kept.Data, err = packed(plain)
	return kept, plain, err
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
