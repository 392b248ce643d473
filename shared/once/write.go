package once

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// Times of one claim. A call without an answer is given up after SendWithin; the claim itself holds a little longer, so
// that no other worker takes the record while the call may still be on its way out of this process. Both are shorter
// where the signature window is, so that the window always outlasts the claim.
const (
	SendWithin = 30 * time.Second
	LeaseAfter = 15 * time.Second
	recordTime = 10 * time.Second // to record the outcome of a call, even while the worker stops
)

// errLate is why a call was not made by a worker that stood still between its intent and its call.
var errLate = errors.New("this worker stood still before its call; nothing was sent")

// attempt prepares the call of a free command and makes it.
func (w *write) attempt(ctx context.Context) error {
	d, outcome, err := w.prepare(ctx)
	if failed, ok := queue.AsFailed(err); ok {
		o := w.failed(failed)
		outcome, err = &o, nil
	}
	switch {
	case err != nil:
		return queue.Sooner(err, w.Pace)
	case outcome != nil:
		return w.end(ctx, nothingToCall, *outcome)
	}
	return w.call(ctx, claimed, d)
}

func (w *write) prepare(ctx context.Context) (ledger.Detail, *queue.Outcome, error) {
	if err := w.expired(); err != nil {
		return ledger.Detail{}, nil, err
	}
	if err := w.frozen(ctx); err != nil {
		return ledger.Detail{}, nil, err
	}
	return w.op.Prepare(ctx)
}

// call records the intent, makes the call and records its outcome.
func (w *write) call(ctx context.Context, on Event, d ledger.Detail) error {
	begun := w.wall()
	sendWithin, leaseAfter := min(SendWithin, w.Window/3), min(LeaseAfter, w.Window/6)
	intent := w.record
	if on == proofOfNone {
		intent.Resent, intent.Unclear = intent.SignedAt, nil
	}
	intent.Detail = d
	intent.Fence++
	intent.Owner = w.Owner + "#" + rand.Text() // no two claims are equal, so that put knows its own
	intent.Lease = begun.Add(sendWithin + leaseAfter)
	intent.SignedAt = w.ServiceNow().UTC().Truncate(time.Second)
	if err := w.move(ctx, on, intent); err != nil {
		return fmt.Errorf("claim the command: %w", err)
	}

	// From here on the record says that a call may be on its way: its outcome must be recorded, even if ctx ends.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), SendWithin+recordTime)
	defer cancel()
	if err := w.mayGo(ctx); err != nil {
		return w.noCall(after, queue.Sooner(err, w.Pace))
	}
	late := w.wall().Sub(begun)
	if late >= sendWithin || late < 0 {
		return w.noCall(after, queue.RetryAfter(time.Second, fmt.Errorf("%w (%v)", errLate, late)))
	}
	sendCtx, cancelSend := context.WithTimeout(ctx, sendWithin-late)
	defer cancelSend()
	accepted, err := w.op.Send(sendCtx, intent.SignedAt, d)
	if err != nil {
		return w.answered(after, err)
	}
	return w.accepted(after, accepted)
}

// accepted records the job with which the service answered.
func (w *write) accepted(ctx context.Context, a workspace.Accepted) error {
	// The answer names the job, so it is the command's, even where the claim of it fails.
	if _, err := w.claimJob(ctx, a.JobID); err != nil {
		w.Log.WarnContext(ctx, "claim of a job failed", "job_id", a.JobID, "error", err)
	}
	at := a.Date
	if at.IsZero() {
		at = w.ServiceNow()
	}
	d := w.record.Detail
	d.Deadline, d.RequestID = at.Add(w.c.Watch), a.RequestID
	if a.Warning != nil {
		warning := verdict.Failure(a.Warning)
		d.Warning = &warning
	}
	if err := w.settle(ctx, acceptedJob, withJob(w.record, a.JobID, at, d)); err != nil {
		w.Log.ErrorContext(ctx, "a job was accepted and could not be recorded", "job_id", a.JobID, "error", err)
		return fmt.Errorf("record job %s: %w", a.JobID, err)
	}
	return nil
}

// withJob is the record with its accepted job.
func withJob(r ledger.Record, jobID string, at time.Time, d ledger.Detail) ledger.Record {
	r.JobID, r.Accepted, r.Detail, r.Lease, r.Unclear, r.Refused = jobID, at, d, time.Time{}, nil, nil
	return r
}

// answered records what an error of the call means.
func (w *write) answered(ctx context.Context, err error) error {
	e, ok := errors.AsType[*workspace.Error](err)
	if !ok || e.MayHaveExecuted() {
		return w.lost(ctx, err)
	}
	reason := ledger.Reason{Class: string(e.Class), Failure: verdict.Failure(err)}
	batch := len(w.record.Detail.DesktopIDs) > 1 && w.op.Part(w.record.Detail.DesktopIDs) != nil
	switch {
	case e.Class == workspace.Conflict:
		reason.Divide = batch
		return w.refused(ctx, reason, conflictWait)
	case e.Class == workspace.DiskBusy:
		return w.refused(ctx, reason, diskWait)
	case batch && (e.Class == workspace.Refused || e.Class == workspace.NotFound):
		reason.Divide = true
		return w.refused(ctx, reason, conflictWait)
	}
	return w.noCall(ctx, queue.Sooner(verdict.NotDone(err, w.c.Failures), w.Pace))
}

// noCall records that the service did nothing, and returns err for the next attempt; a queue.FailedError ends the command.
func (w *write) noCall(ctx context.Context, err error) error {
	if failed, ok := queue.AsFailed(err); ok {
		ended, bad := w.ended(w.failed(failed))
		if bad != nil {
			return bad
		}
		ended.Lease = time.Time{}
		return w.settle(ctx, refusedEnd, ended)
	}
	next, on := w.record, notSent
	next.Lease, next.SignedAt = time.Time{}, time.Time{}
	if next.Refused != nil {
		on = stillRefused
	}
	if put := w.settle(ctx, on, next); put != nil {
		return fmt.Errorf("record that nothing was sent (%w): %w", put, err)
	}
	return err
}

// lost records that the service may have taken the call.
func (w *write) lost(ctx context.Context, err error) error {
	next := w.record
	next.Lease = time.Time{}
	next.Unclear = &ledger.Unclear{Next: w.wall().Add(w.nextLook(next.SignedAt)), Reason: err.Error()}
	if err := w.settle(ctx, answerLost, next); err != nil {
		return fmt.Errorf("record that the answer was lost: %w", err)
	}
	w.OnRecovery("unknown")
	return nil
}

// takeOver waits for the lease of an intent, and then begins to look for its call.
func (w *write) takeOver(ctx context.Context) error {
	now := w.wall()
	if left := w.record.Lease.Sub(now); left > 0 {
		return queue.RetryAfter(left, errors.New("another worker holds the command"))
	}
	w.Log.WarnContext(ctx, "a call was begun and its outcome was never recorded", "owner", w.record.Owner, "signed_at", w.record.SignedAt)
	next := w.record
	next.Fence++
	next.Owner, next.Lease = w.Owner+"#"+rand.Text(), time.Time{}
	next.Unclear = &ledger.Unclear{Next: now, Reason: noAnswer}
	if err := w.move(ctx, leaseOver, next); err != nil {
		return err
	}
	w.OnRecovery("unknown")
	return nil
}

const noAnswer = "the worker that made the call did not live to record its answer"

// failed is the command.failed of the command; of all its desktops unless the error names some.
func (w *write) failed(e *queue.FailedError) queue.Outcome {
	failed := *e
	if failed.DesktopIDs == nil {
		failed.DesktopIDs = w.c.DesktopIDs
	}
	return failed.Outcome(w.c.Command)
}

// ended is the record with an end.
func (w *write) ended(o queue.Outcome) (ledger.Record, error) {
	o.ID = events.Derive(w.c.Identity(), o.About...)
	o.Source, o.Causation, o.Time = events.Source(w.c.Function), w.c.Envelope.ID, w.Now().UTC()
	end, err := endOf(o)
	ended := w.record
	ended.End = end
	return ended, err
}

// end records the end of the command.
func (w *write) end(ctx context.Context, on Event, o queue.Outcome) error {
	ended, err := w.ended(o)
	if err != nil {
		return err
	}
	return w.move(ctx, on, ended)
}
