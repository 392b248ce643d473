// Package once carries out write commands, each at most once: it is what rebuild and desktoptoimage have in common.
//
//	read what must be known ─▶ record the intent ─▶ directly before: expiry, lists ─▶ the call ─▶ record the job ─▶ say it
//
// A second delivery says what the first one said, without a call.
package once

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/permit"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// Rules are what holds for every write.
type Rules struct {
	Writer       ledger.Writer
	ProjectID    string        // the worker's own; a command for another is refused
	MaxAge       time.Duration // of the cause of a write; a later wipe is worse than none. Zero: 6 hours
	MaxDelayTime int64         // minutes; zero: events.DefaultMaxDelay
	Lists        permit.Lists  // which desktops may be written to; nil: all
	// ConflictDeadline is how long a desktop that is busy is asked for again. Zero: DefaultConflictDeadline.
	ConflictDeadline time.Duration
	Pace             float64       // divides the waits after a refusal; zero: 1
	Switch           ledger.Switch // stops all writes while it is on; nil: there is none
	Now              func() time.Time
}

// DefaultMaxAge is how old the cause of a write may be.
const DefaultMaxAge = 6 * time.Hour

// Detail is what the ledger keeps beside the job, so that job.accepted can be said again.
type Detail struct {
	DesktopIDs []string           `json:"desktop_ids"` // in the call
	Skipped    []string           `json:"skipped,omitempty"`
	Previous   []events.ImageInfo `json:"previous,omitempty"`
	Deadline   time.Time          `json:"deadline,omitzero"`
	Warning    *events.Failure    `json:"warning,omitempty"`
	RequestID  string             `json:"request_id,omitempty"`
	// Known are the jobs that the desktops had before the call; KnownAll tells that the list of them was complete.
	Known    []string `json:"known,omitempty"`
	KnownAll bool     `json:"known_all,omitempty"`
	// Volumes are the system disks before the call, of desktops whose image will not show a rebuild.
	Volumes map[string]string `json:"volumes,omitempty"`
}

// Write is a write command on its way.
type Write struct {
	Function   string // its token
	Command    queue.Command
	Data       any           // decoded; its JSON is what the digest is of
	ProjectID  string        // that the command names, if any
	DesktopIDs []string      // that the command is about
	Watch      time.Duration // how long its job is watched

	// Prepare reads what must be known before the call. An outcome ends the command without one.
	Prepare func(ctx context.Context) (Detail, *queue.Outcome, error)
	// Send makes the call.
	Send func(ctx context.Context, signedAt time.Time, d Detail) (workspace.Accepted, error)
	// Accepted completes what job.accepted says.
	Accepted func(*events.JobAccepted)
	// Search finds the job of a lost call.
	Search Search
	// Part is the data of the same command for some of its desktops; nil where it cannot be divided.
	Part func(desktopIDs []string) any
	// Hopeless tells why no desktop could be written to so, if that is plain, before a refused batch is divided.
	Hopeless func(ctx context.Context) (why string, err error)
}

// Do carries the command out, or finds what was done before, and says it.
func (r Rules) Do(ctx context.Context, w Write) ([]queue.Outcome, error) {
	if err := queue.CheckProject(w.ProjectID, r.ProjectID); err != nil {
		return nil, err
	}
	call, err := r.call(w)
	if err != nil {
		return nil, err
	}
	record, err := r.Writer.Do(ctx, call)
	if reused, ok := errors.AsType[*ledger.ReusedError](err); ok {
		return nil, &queue.FailedError{
			Failure:    events.Failure{Kind: events.KindIDReused, ErrorMsg: "id: " + reused.Error() + "; send new data under a new id"},
			DesktopIDs: w.DesktopIDs, About: call.Digest,
		}
	}
	if wait, ok := errors.AsType[*ledger.WaitError](err); ok {
		return nil, queue.RetryAfter(wait.For, wait)
	}
	if errors.Is(err, ledger.ErrLate) {
		return nil, queue.RetryAfter(time.Second, err)
	}
	if _, ok := errors.AsType[*ledger.StoreError](err); ok {
		return nil, queue.RetryAfter(StoreWait, err)
	}
	if err != nil {
		return nil, r.sooner(verdict.NotDone(err, w.Command.Failures, w.DesktopIDs...))
	}
	return w.say(record)
}

// sooner divides the wait of a verdict by the pace.
func (r Rules) sooner(err error) error {
	if again, ok := err.(*queue.RetryError); ok { //nolint:errorlint // the verdict itself, not what is behind another one
		return &queue.RetryError{After: r.paced(again.After), Err: again.Err, Failed: again.Failed}
	}
	return err
}

// GiveUp ends a command that used up its deliveries, by what the ledger knows of it. It ends the very record that it
// judged: where another worker has moved the record on meanwhile, it judges again.
func (r Rules) GiveUp(ctx context.Context, w Write, reason string) ([]queue.Outcome, error) {
	for {
		record, rev, err := r.Writer.Store.Get(ctx, w.Command.Identity())
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return nil, err
		}
		failed := queue.Failed(events.KindAttemptsUsedUp, "%s", reason)
		failed.DesktopIDs = w.DesktopIDs
		switch record.State() {
		case ledger.Accepted, ledger.Ended:
			return w.say(record)
		case ledger.Intent:
			if left := record.Lease.Sub(r.Now()); left > 0 {
				return nil, queue.RetryAfter(left, errors.New(reason))
			}
			failed.Effect = events.EffectUnknown
		case ledger.Looking:
			failed.Effect = events.EffectUnknown
		case ledger.Free:
		}
		if record.End, err = w.end(failed.Outcome(w.Command), r.Now()); err != nil {
			return nil, err
		}
		if _, err = r.Writer.Store.Put(ctx, w.Command.Identity(), record, rev); err == nil {
			return []queue.Outcome{Again(*record.End)}, nil
		}
		if !errors.Is(err, ledger.ErrConflict) {
			return nil, fmt.Errorf("record the end: %w", err)
		}
	}
}

// CheckDelay refuses a delay_time that nobody can mean.
func (r Rules) CheckDelay(field string, minutes int64) error {
	most := r.MaxDelayTime
	if most == 0 {
		most = events.DefaultMaxDelay
	}
	if minutes > most {
		return queue.Failed(events.KindInvalid, "%s: must be at most %d minutes (RECOMPOSE_MAX_DELAY_TIME); got %d", field, most, minutes)
	}
	return nil
}

// call is the write as the ledger sees it.
func (r Rules) call(w Write) (ledger.Call, error) {
	sum, err := digest(w.Data)
	if err != nil {
		return ledger.Call{}, err
	}
	called := 0
	fail := func(e *queue.FailedError) *ledger.End {
		if e.DesktopIDs == nil {
			e.DesktopIDs = w.DesktopIDs
		}
		end, err := w.end(e.Outcome(w.Command), r.Now())
		if err != nil { // a struct of strings that cannot be written
			panic(err)
		}
		return end
	}
	return ledger.Call{
		Key:    w.Command.Identity(),
		Digest: sum,
		Prepare: func(ctx context.Context) (json.RawMessage, *ledger.End, error) {
			if e := r.expired(w.Command); e != nil {
				return nil, fail(e), nil
			}
			if err := r.frozen(ctx); err != nil {
				return nil, nil, err
			}
			detail, outcome, err := w.Prepare(ctx)
			if failed, ok := err.(*queue.FailedError); ok { //nolint:errorlint // only an end by itself counts
				if failed.Failure.Kind == events.KindNotFound && w.Part != nil && len(w.DesktopIDs) > 1 {
					// Even the question before the call is refused because of a desktop that is gone.
					end, err := r.divide(ctx, w, Detail{DesktopIDs: w.DesktopIDs}, refusal{Class: workspace.NotFound, Failure: failed.Failure}, true, fail)
					return nil, end, err
				}
				return nil, fail(failed), nil
			}
			if err != nil {
				return nil, nil, err
			}
			if outcome != nil {
				end, err := w.end(*outcome, r.Now())
				return nil, end, err
			}
			kept, err := json.Marshal(detail)
			return kept, nil, err
		},
		Check: func(ctx context.Context) (*ledger.End, error) {
			if e := r.expired(w.Command); e != nil {
				return fail(e), nil
			}
			if err := r.frozen(ctx); err != nil {
				return nil, err
			}
			return r.refusedByLists(ctx, w, fail)
		},
		Send: func(ctx context.Context, signedAt time.Time, kept json.RawMessage) (ledger.Sent, error) {
			var d Detail
			if err := json.Unmarshal(kept, &d); err != nil {
				return ledger.Sent{}, &workspace.Error{Operation: w.Command.Envelope.Type, Class: workspace.NotSent, Err: err}
			}
			called = len(d.DesktopIDs)
			accepted, err := w.Send(ctx, signedAt, d)
			if err != nil {
				return ledger.Sent{}, err
			}
			at := accepted.Date
			if at.IsZero() {
				at = r.Writer.ServiceNow()
			}
			d.Deadline, d.RequestID = at.Add(w.Watch), accepted.RequestID
			if accepted.Warning != nil {
				warning := verdict.Failure(accepted.Warning)
				d.Warning = &warning
			}
			kept, err = json.Marshal(d)
			return ledger.Sent{JobID: accepted.JobID, At: at, Detail: kept}, err
		},
		Judge: func(err error) ledger.Judgement { return r.judge(w, called, err, fail) },
		Look: func(ctx context.Context, record ledger.Record, signedAt time.Time, past bool) (ledger.Finding, error) {
			return r.look(ctx, w, record, signedAt, past)
		},
		Refused: func(ctx context.Context, record ledger.Record) (*ledger.End, error) {
			end, err := r.refused(ctx, w, record, fail)
			if failed, ok := err.(*queue.FailedError); ok { //nolint:errorlint // only an end by itself counts
				return fail(failed), nil
			}
			return end, err
		},
		Unknown: func(err error) ledger.End {
			e := &queue.FailedError{Effect: events.EffectUnknown, DesktopIDs: w.DesktopIDs}
			reason := "the worker that made the call did not live to record its answer"
			if err != nil {
				e.Failure, reason = verdict.Failure(err), err.Error()
			}
			e.Failure.Kind = events.KindUnknownOutcome
			e.Failure.ErrorMsg = "the service may have taken the call; look at the desktops before sending anything again: " + reason
			return *fail(e)
		},
	}, nil
}

func digest(data any) (string, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("digest of the command: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// StoreWait is how long a command waits whose record cannot be read or written.
const StoreWait = 15 * time.Second

func (r Rules) paced(d time.Duration) time.Duration {
	if r.Pace <= 0 {
		return d
	}
	return time.Duration(float64(d) / r.Pace)
}

// AcceptedID is the id of the job.accepted event of the command with this identity.
func AcceptedID(identity string) string { return events.Derive(identity, "job.accepted") }

// say says how the record stands: the end, with the job behind it, for whoever was not there when it was accepted.
func (w Write) say(record ledger.Record) ([]queue.Outcome, error) {
	switch end := record.End; {
	case end == nil:
		return w.accepted(record)
	case end.Causation != AcceptedID(w.Command.Identity()):
		return []queue.Outcome{Again(*end)}, nil
	default:
		said, err := w.accepted(record)
		return append(said, Again(*end)), err
	}
}

// accepted says the job of the record.
func (w Write) accepted(record ledger.Record) ([]queue.Outcome, error) {
	var d Detail
	if err := json.Unmarshal(record.Detail, &d); err != nil {
		return nil, fmt.Errorf("read the ledger record: %w", err)
	}
	accepted := events.JobAccepted{
		Command: w.Command.Ref(), JobID: record.JobID, AcceptedAt: record.Accepted, Deadline: d.Deadline,
		DesktopIDs: d.DesktopIDs, Skipped: d.Skipped, Previous: d.Previous, Warning: d.Warning, RequestID: d.RequestID,
	}
	w.Accepted(&accepted)
	return []queue.Outcome{{
		Type: events.TypeJobAccepted, ID: AcceptedID(w.Command.Identity()), Time: record.Accepted, Data: accepted,
	}}, nil
}

// end is an outcome as the ledger keeps it.
func (w Write) end(o queue.Outcome, now time.Time) (*ledger.End, error) {
	data, err := json.Marshal(o.Data)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", o.Type, err)
	}
	c := w.Command
	return &ledger.End{
		ID: events.Derive(c.Identity(), o.About...), Source: events.Source(w.Function), Type: o.Type, Causation: c.Envelope.ID,
		Time: now.UTC(), Data: data,
	}, nil
}

// Again says an end as it stands in the ledger.
func Again(e ledger.End) queue.Outcome {
	return queue.Outcome{ID: e.ID, Source: e.Source, Type: e.Type, Causation: e.Causation, Time: e.Time, Data: e.Data}
}

// few names the first ids of a list.
func few(ids []string) string {
	const most = 5
	if len(ids) <= most {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
}
