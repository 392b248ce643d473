package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Times of one claim. A call that has not answered within SendWithin is given up; the claim itself holds a little
// longer, so that nobody else takes the record while the call may still be on its way out of this process. Both are
// shorter where the signature window is, so that it always outlasts the claim: what a test shows with a short window
// holds for the long one.
const (
	SendWithin = 30 * time.Second
	LeaseAfter = 15 * time.Second
	recordTime = 10 * time.Second // to record what came of a call, even while the worker stops
)

// Window is the age at which the service refuses a signature, unless a writer is told otherwise.
const Window = 15 * time.Minute

// Writer carries out write commands at most once each. All its methods may be repeated: that is their purpose.
type Writer struct {
	Store      Store
	Owner      string           // names this worker in records
	Now        func() time.Time // this machine's wall clock
	ServiceNow func() time.Time // the service's clock, in which calls are signed
	Window     time.Duration    // zero: Window
	// Resend lets a call be made again that was proved absent past the fence. Only where signatures expire: nothing
	// else keeps a call that is still on its way from being taken late.
	Resend bool
	Log    *slog.Logger // default: silent
	// Saw, if set, is told what the search for a call of unknown outcome came to: unknown, adopted, resent.
	Saw func(what string)
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
	// Look looks for what became of a call of unknown outcome that was signed with signedAt; past tells that the
	// service would refuse that signature by now. If it is nil, such a command ends as Unknown says.
	Look func(ctx context.Context, r Record, signedAt time.Time, past bool) (Finding, error)
	// Refused is asked about a refusal that may pass: an end, or neither, to try again when the time has come.
	Refused func(ctx context.Context, r Record) (*End, error)
	// Unknown is the end of a command whose call has an outcome that cannot be known; err, if any, is why.
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
	MayHaveExecuted bool            // the service may have taken the call: it must be looked for, not made again
	End             *End            // the command ends so; nil: nothing was done and another attempt may be made
	Refusal         json.RawMessage // instead of an end: a refusal that may pass, or that Refused decides about
	RetryIn         time.Duration   // of a refusal
}

// Finding is what a look came to; the zero value is nothing yet.
type Finding struct {
	Job    *Sent     // the call's job: the command adopts it, unless another command has
	End    *End      // the command ends so
	Absent bool      // proved by a complete look: there is no job, and the desktops are as they were
	Date   time.Time // of an absence: the service's clock at the look
	Why    string    // why it is neither, in words
}

// ReusedError says that the key belongs to a command with other data.
type ReusedError struct{ Record Record }

func (e *ReusedError) Error() string { return "the id was used before by a command with other data" }

// ErrLate says that this worker stood still so long between its intent and its call that it let go. Nothing was sent.
var ErrLate = errors.New("this worker stood still before its call; nothing was sent")

// WaitError says that the command must come again after a time: another worker holds it, or the outcome of its call is
// being looked for, or the service refused it for now.
type WaitError struct {
	For time.Duration
	Why string
}

func (e *WaitError) Error() string { return fmt.Sprintf("%s; again in %v", e.Why, e.For) }

// StoreError is a failure of the store: nothing is wrong with the command, and it may be tried again.
type StoreError struct{ Err error }

func (e *StoreError) Error() string { return "the ledger: " + e.Err.Error() }
func (e *StoreError) Unwrap() error { return e.Err }

// Get reads a record: ErrNotFound if there is none, else a *StoreError.
func (w Writer) Get(ctx context.Context, key string) (Record, Revision, error) {
	r, rev, err := w.Store.Get(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = &StoreError{err}
	}
	return r, rev, err
}

// store puts a record: ErrConflict if there is another by now, else a *StoreError.
func (w Writer) store(ctx context.Context, key string, r Record, old Revision) (Revision, error) {
	rev, err := w.Store.Put(ctx, key, r, old)
	if err != nil && !errors.Is(err, ErrConflict) {
		err = &StoreError{err}
	}
	return rev, err
}

// errAnew says that the record has moved on: read it again.
var errAnew = errors.New("read the record again")

// Do carries the command out, or finds what was done before. It returns a record that is accepted or ended.
//
// The error is a *ReusedError; a *WaitError, to be asked again after its time; an error of Prepare, Check, Send or
// Refused that left nothing done at the service, so that a later attempt may be made; or one of the store.
func (w Writer) Do(ctx context.Context, c Call) (Record, error) {
	for {
		r, rev, err := w.Get(ctx, c.Key)
		if errors.Is(err, ErrNotFound) {
			r, err = Record{Digest: c.Digest}, nil
		}
		if err != nil {
			return Record{}, err
		}
		if r.Digest != "" && r.Digest != c.Digest {
			return r, &ReusedError{Record: r}
		}
		r.Digest = c.Digest
		switch r.State() {
		case Ended, Accepted:
			return r, nil
		case Intent:
			r, err = w.takeOver(ctx, c, r, rev)
		case Looking:
			r, err = w.look(ctx, c, r, rev)
		case Free:
			r, err = w.attempt(ctx, c, r, rev)
		}
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, errAnew) {
			return r, err
		}
	}
}

// takeOver waits for the lease of an intent, and then begins to look for what became of it.
func (w Writer) takeOver(ctx context.Context, c Call, r Record, rev Revision) (Record, error) {
	now := wall(w.Now())
	if left := r.Lease.Sub(now); left > 0 {
		return r, &WaitError{For: left, Why: "another worker holds the command"}
	}
	w.log().WarnContext(ctx, "a call was begun and its outcome was never recorded", "owner", r.Owner, "signed_at", r.SignedAt)
	r.Fence++
	r.Owner, r.Lease = w.owner(), time.Time{}
	r.Unclear = &Unclear{Next: now, Reason: "the worker that made the call did not live to record its answer"}
	if _, err := w.store(ctx, c.Key, r, rev); err != nil {
		return r, err
	}
	w.saw("unknown")
	return r, errAnew
}

// attempt takes a free record through intent, call and outcome.
func (w Writer) attempt(ctx context.Context, c Call, r Record, rev Revision) (Record, error) {
	if r.Refused != nil {
		if end, err := w.afterRefusal(ctx, c, &r); err != nil {
			return r, err
		} else if end != nil {
			r.End = end
		}
		if r.State() != Free {
			_, err := w.store(ctx, c.Key, r, rev)
			return r, err
		}
	}
	detail, end, err := c.Prepare(ctx)
	if err != nil {
		return r, err
	}
	if end != nil {
		r.End = end
		_, err = w.store(ctx, c.Key, r, rev)
		return r, err
	}
	r.Detail = detail
	return w.claimAndCall(ctx, c, r, rev)
}

// afterRefusal decides about a command that was refused: it ends, waits, or is tried again (no end, no error). Where
// an earlier call of it had an unknown outcome, the refusal may be that call's doing: then its job is adopted.
func (w Writer) afterRefusal(ctx context.Context, c Call, r *Record) (*End, error) {
	if !r.Resent.IsZero() && c.Look != nil {
		found, err := c.Look(ctx, *r, r.Resent, false)
		if err != nil { // not an end: an earlier call may be there that cannot be seen now
			return nil, &WaitError{For: w.margin(), Why: fmt.Sprintf("an earlier call of it cannot be looked for: %v", err)}
		}
		if found.Job != nil {
			if ours, err := w.ClaimJob(ctx, found.Job.JobID, c.Key); err != nil {
				return nil, err
			} else if ours {
				w.saw("adopted")
				r.adopt(*found.Job)
				return nil, nil
			}
		}
	}
	end, err := c.Refused(ctx, *r)
	if err != nil || end != nil {
		return end, err
	}
	if left := r.Refused.NotBefore.Sub(wall(w.Now())); left > 0 {
		return nil, &WaitError{For: left, Why: "the service refused the call for now"}
	}
	return nil, nil
}

// claimAndCall records the intent, makes the call and records what came of it. The detail is the record's.
func (w Writer) claimAndCall(ctx context.Context, c Call, r Record, rev Revision) (Record, error) {
	begun := wall(w.Now())
	sendWithin, leaseAfter := min(SendWithin, w.window()/3), min(LeaseAfter, w.window()/6)
	r.Fence++
	r.Owner = w.owner()
	r.Lease = begun.Add(sendWithin + leaseAfter)
	r.SignedAt = w.ServiceNow().UTC().Truncate(time.Second)
	rev, err := w.put(ctx, c.Key, r, rev)
	if err != nil {
		return r, fmt.Errorf("claim the command: %w", err)
	}

	// From here on the record says that a call may be on its way. What became of it must be recorded, whatever ctx does.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), SendWithin+recordTime)
	defer cancel()
	end, err := c.Check(ctx)
	if err != nil || end != nil {
		return w.settle(after, c.Key, r, rev, Judgement{End: end}, err)
	}
	late := wall(w.Now()).Sub(begun)
	if late >= sendWithin || late < 0 {
		return w.settle(after, c.Key, r, rev, Judgement{}, fmt.Errorf("%w (%v)", ErrLate, late))
	}
	sendCtx, cancelSend := context.WithTimeout(ctx, sendWithin-late)
	defer cancelSend()
	sent, err := c.Send(sendCtx, r.SignedAt, r.Detail)
	if err != nil {
		return w.settle(after, c.Key, r, rev, c.Judge(err), err)
	}
	if _, err := w.ClaimJob(after, sent.JobID, c.Key); err != nil { // the answer names it: it is ours whoever has claimed it
		w.log().WarnContext(ctx, "a job could not be claimed", "job_id", sent.JobID, "error", err)
	}
	r.adopt(sent)
	if err := w.record(after, c.Key, r, rev); err != nil {
		w.log().ErrorContext(ctx, "a job was accepted and could not be recorded", "job_id", sent.JobID, "error", err)
		return r, fmt.Errorf("record job %s: %w", sent.JobID, err)
	}
	return r, nil
}

// adopt makes the job the record's.
func (r *Record) adopt(s Sent) {
	r.JobID, r.Accepted, r.Lease, r.Unclear, r.Refused = s.JobID, s.At, time.Time{}, nil, nil
	if s.Detail != nil {
		r.Detail = s.Detail
	}
}

// settle ends the claim by what the error of its call means: the record is ended, free for another attempt, or unclear.
func (w Writer) settle(ctx context.Context, key string, r Record, rev Revision, j Judgement, err error) (Record, error) {
	now := wall(w.Now())
	r.Lease = time.Time{}
	switch {
	case j.MayHaveExecuted:
		r.Unclear = &Unclear{Next: now.Add(w.nextLook(r.SignedAt)), Reason: err.Error()}
		err = errAnew
	case j.End != nil:
		r.End, err = j.End, nil
	case j.Refusal != nil:
		since := now
		if r.Refused != nil {
			since = r.Refused.Since
		}
		r.SignedAt = time.Time{}
		r.Refused = &Refusal{Since: since, NotBefore: now.Add(max(j.RetryIn, time.Millisecond)), Data: j.Refusal}
		err = errAnew
	default:
		r.SignedAt = time.Time{}
	}
	if put := w.record(ctx, key, r, rev); put != nil {
		return r, errors.Join(err, fmt.Errorf("record what became of the call: %w", put))
	}
	if r.Unclear != nil {
		w.saw("unknown")
	}
	return r, err
}

// JobOwner is the key of the command that has a job, "" if none has.
func (w Writer) JobOwner(ctx context.Context, jobID string) (string, error) {
	r, _, err := w.Get(ctx, jobKey(jobID))
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return r.Owner, err
}

// Found makes the record of a command of which a look has shown how it stands. If there is a record, that one stands.
func (w Writer) Found(ctx context.Context, key string, r Record) error {
	if _, err := w.store(ctx, key, r, 0); !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// ClaimJob makes a job a command's own; false if another command has it.
func (w Writer) ClaimJob(ctx context.Context, jobID, key string) (bool, error) {
	claim := jobKey(jobID)
	_, err := w.store(ctx, claim, Record{JobID: jobID, Owner: key}, 0)
	if err == nil {
		return true, nil
	}
	stored, _, read := w.Get(ctx, claim)
	switch {
	case read == nil:
		return stored.Owner == key, nil
	case errors.Is(err, ErrConflict):
		return false, read
	default:
		return false, err
	}
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
	rev, err := w.store(ctx, key, r, old)
	if err == nil {
		return rev, nil
	}
	stored, rev, again := w.Get(ctx, key)
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
		r, rev, err := w.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return End{}, err
		}
		if r.End != nil {
			return *r.End, nil
		}
		r.End = &end
		if _, err = w.store(ctx, key, r, rev); err == nil {
			return end, nil
		}
		if !errors.Is(err, ErrConflict) {
			return End{}, err
		}
	}
}

func (w Writer) window() time.Duration {
	if w.Window > 0 {
		return w.Window
	}
	return Window
}

// owner names a claim; no two are the same, so that put knows its own.
func (w Writer) owner() string { return w.Owner + "#" + rand.Text() }

func (w Writer) saw(what string) {
	if w.Saw != nil {
		w.Saw(what)
	}
}

func (w Writer) log() *slog.Logger {
	if w.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.Log
}

// jobKey is the key of the record that says whose a job is. Job ids are foreign texts, so a hash stands for them.
func jobKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "job/" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// wall drops the monotonic reading: a machine that was suspended sees by its wall clock only that time has passed.
func wall(t time.Time) time.Time { return t.Round(0) }
