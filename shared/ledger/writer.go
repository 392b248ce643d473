package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Times of one claim. A call that has not answered within SendWithin is given up; the claim itself holds a little
// longer, so that nobody else takes the record while the call may still be on its way out of this process.
const (
	SendWithin = 30 * time.Second
	LeaseAfter = 15 * time.Second
	recordTime = 10 * time.Second // to record what came of a call, even while the worker stops
)

// Writer carries out write commands at most once each. All its methods may be repeated: that is their purpose.
type Writer struct {
	Store      Store
	Owner      string           // names this worker in records
	Now        func() time.Time // this machine's wall clock
	ServiceNow func() time.Time // the service's clock, in which calls are signed
	Log        *slog.Logger     // default: silent
}

// Call is one write command and how to carry it out.
type Call struct {
	Key    string // identity of the command
	Digest string // of its data

	// Prepare reads what must be known before the call. Detail is kept in the record. An end means that there is
	// nothing to call; an error leaves no trace in the ledger.
	Prepare func(ctx context.Context) (detail json.RawMessage, end *End, err error)
	// Check is asked directly before the call. An end means that it may not be made.
	Check func(ctx context.Context) (*End, error)
	// Send makes the call, signed with signedAt. It is asked at most once in a claim.
	Send func(ctx context.Context, signedAt time.Time, detail json.RawMessage) (Sent, error)
	// Judge tells what an error of Send means.
	Judge func(err error) Judgement
	// Unknown is the end of a command whose call has an outcome that nobody recorded.
	Unknown func(err error) End
}

// Sent is a call that the service accepted.
type Sent struct {
	JobID  string
	At     time.Time       // the service's clock
	Detail json.RawMessage // replaces the detail of Prepare
}

// Judgement is what an error of a call means for its command.
type Judgement struct {
	MayHaveExecuted bool // the service may have taken the call: it must not be made again
	End             *End // the command ends so; nil: nothing was done and another attempt may be made
}

// ReusedError says that the key belongs to a command with other data.
type ReusedError struct{ Record Record }

func (e *ReusedError) Error() string { return "the id was used before by a command with other data" }

// ErrLate says that this worker stood still so long between its intent and its call that it let go. Nothing was sent.
var ErrLate = errors.New("this worker stood still before its call; nothing was sent")

// BusyError says that another worker holds the command.
type BusyError struct{ For time.Duration }

func (e *BusyError) Error() string {
	return fmt.Sprintf("another worker holds the command for %v", e.For.Round(time.Second))
}

// Do carries the command out, or finds what was done before. It returns a record that is accepted or ended.
//
// The error is a *ReusedError; a *BusyError, to be asked again after its time; an error of Prepare, Check or Send that
// left nothing done at the service, so that a later attempt may be made; or one of the store.
func (w Writer) Do(ctx context.Context, c Call) (Record, error) {
	for {
		r, rev, err := w.Store.Get(ctx, c.Key)
		if errors.Is(err, ErrNotFound) {
			r, err = Record{Digest: c.Digest}, nil
		}
		if err != nil {
			return Record{}, fmt.Errorf("read the ledger: %w", err)
		}
		if r.Digest != "" && r.Digest != c.Digest {
			return r, &ReusedError{Record: r}
		}
		switch r.State() {
		case Ended, Accepted:
			return r, nil
		case Intent:
			if left := r.Lease.Sub(wall(w.Now())); left > 0 {
				return r, &BusyError{For: left}
			}
			w.log().WarnContext(ctx, "a call was begun and its outcome was never recorded", "owner", r.Owner, "signed_at", r.SignedAt)
			end := c.Unknown(nil)
			r.End = &end
			if _, err = w.Store.Put(ctx, c.Key, r, rev); err == nil {
				return r, nil
			}
		case Free:
			r.Digest = c.Digest
			r, err = w.claimAndCall(ctx, c, r, rev)
			if err == nil {
				return r, nil
			}
		}
		if !errors.Is(err, ErrConflict) {
			return r, err
		}
	}
}

// claimAndCall takes a free record through intent, call and outcome.
func (w Writer) claimAndCall(ctx context.Context, c Call, r Record, rev Revision) (Record, error) {
	detail, end, err := c.Prepare(ctx)
	if err != nil {
		return r, err
	}
	if end != nil {
		r.End = end
		_, err = w.Store.Put(ctx, c.Key, r, rev)
		return r, err
	}
	begun := wall(w.Now())
	r.Fence++
	r.Owner, r.Detail = w.Owner+"#"+rand.Text(), detail // no two claims are the same, so put knows its own
	r.Lease = begun.Add(SendWithin + LeaseAfter)
	r.SignedAt = w.ServiceNow().UTC().Truncate(time.Second)
	if rev, err = w.put(ctx, c.Key, r, rev); err != nil {
		return r, fmt.Errorf("claim the command: %w", err)
	}

	// From here on the record says that a call may be on its way. What became of it must be recorded, whatever ctx does.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), SendWithin+recordTime)
	defer cancel()
	if end, err = c.Check(ctx); err != nil || end != nil {
		return w.settle(after, c.Key, r, rev, end, err)
	}
	late := wall(w.Now()).Sub(begun)
	if late >= SendWithin || late < 0 {
		return w.settle(after, c.Key, r, rev, nil, fmt.Errorf("%w (%v)", ErrLate, late))
	}
	sendCtx, cancelSend := context.WithTimeout(ctx, SendWithin-late)
	defer cancelSend()
	sent, err := c.Send(sendCtx, r.SignedAt, detail)
	if err != nil {
		j := c.Judge(err)
		if j.MayHaveExecuted {
			end := c.Unknown(err)
			return w.settle(after, c.Key, r, rev, &end, nil)
		}
		return w.settle(after, c.Key, r, rev, j.End, err)
	}
	r.JobID, r.Accepted, r.Detail, r.Lease = sent.JobID, sent.At, sent.Detail, time.Time{}
	if err := w.record(after, c.Key, r, rev); err != nil {
		w.log().ErrorContext(ctx, "a job was accepted and could not be recorded", "job_id", sent.JobID, "error", err)
		return r, fmt.Errorf("record job %s: %w", sent.JobID, err)
	}
	return r, nil
}

// settle ends the claim: with an end, or released for another attempt after err. Nothing was done at the service
// unless the end says so.
func (w Writer) settle(ctx context.Context, key string, r Record, rev Revision, end *End, err error) (Record, error) {
	if end != nil {
		r.End, err = end, nil
	} else {
		r.SignedAt, r.Lease, r.Detail = time.Time{}, time.Time{}, nil
	}
	if put := w.record(ctx, key, r, rev); put != nil {
		return r, errors.Join(err, fmt.Errorf("record what became of the call: %w", put))
	}
	return r, err
}

// record puts what became of a call, again and again until ctx ends: the call cannot be taken back, so what is known
// of it must not be lost to a store that fails for a moment.
func (w Writer) record(ctx context.Context, key string, r Record, old Revision) error {
	_, err := backoff.Retry(ctx, func() (Revision, error) {
		rev, err := w.put(ctx, key, r, old)
		if errors.Is(err, ErrConflict) {
			err = backoff.Permanent(err)
		}
		return rev, err
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()))
	return err
}

// put is Store.Put, and knows its own work: a put that was stored without an answer is not a conflict when it is
// found again.
func (w Writer) put(ctx context.Context, key string, r Record, old Revision) (Revision, error) {
	rev, err := w.Store.Put(ctx, key, r, old)
	if err == nil {
		return rev, nil
	}
	stored, rev, again := w.Store.Get(ctx, key)
	if again == nil && rev > old && same(stored, r) {
		return rev, nil
	}
	return 0, err
}

// same compares records as they are stored.
func same(a, b Record) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// End puts the end of a command in its record, unless it has one already, and returns the end that stands. Whoever
// comes second says what the first one said.
func (w Writer) End(ctx context.Context, key string, end End) (End, error) {
	for {
		r, rev, err := w.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return End{}, fmt.Errorf("read the ledger: %w", err)
		}
		if r.End != nil {
			return *r.End, nil
		}
		r.End = &end
		if _, err = w.Store.Put(ctx, key, r, rev); err == nil {
			return end, nil
		}
		if !errors.Is(err, ErrConflict) {
			return End{}, fmt.Errorf("record the end: %w", err)
		}
	}
}

func (w Writer) log() *slog.Logger {
	if w.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.Log
}

// wall drops the monotonic reading: a machine that was suspended sees by its wall clock only that time has passed.
func wall(t time.Time) time.Time { return t.Round(0) }
