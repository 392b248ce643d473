package once

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// Times of one claim. A call may take SendWithin. The claim lasts LeaseAfter longer, so that no other worker takes the
// record while this process may still send the call. Both shrink with the signature window, so the claim always ends
// first.
const (
	SendWithin = 30 * time.Second
	LeaseAfter = 15 * time.Second
	recordTime = 10 * time.Second // to record the outcome of a call, even while the worker stops
	keepWithin = 3 * time.Second  // to record what was read before a call
)

func (e *Engine) claimTimes() (sendWithin, leaseAfter time.Duration) {
	return min(SendWithin, e.Config.SignatureWindow/3), min(LeaseAfter, e.Config.SignatureWindow/6)
}

// errLate is the reason if the worker was suspended after it recorded its intent. It made no call.
var errLate = errors.New("this worker was suspended before its call; nothing was sent")

// errShort is the reason if what came before the call has taken most of the time of an invocation.
var errShort = errors.New("this invocation has too little time left for a call")

// mostlyOver reports whether ctx ends before a call that takes so long, and more of its time is over than is left: a call that
// its end cuts off would have to be looked for. An invocation that was short from its beginning is used as it is.
func (w *write) mostlyOver(ctx context.Context, within time.Duration) bool {
	deadline, limited := ctx.Deadline()
	left := time.Until(deadline)
	return limited && left < within && left < time.Since(w.began)
}

// attempt prepares the call of a free command and makes it. An earlier call is looked for first.
func (w *write) attempt(ctx context.Context) error {
	if done, err := w.lookForEarlier(ctx); done || err != nil {
		return err
	}
	return w.prepareAndCall(ctx)
}

func (w *write) prepareAndCall(ctx context.Context) error {
	d, outcome, err := w.prepare(ctx)
	if failed, ok := queue.AsFailed(err); ok {
		o := w.failed(w.doubted(ctx, failed))
		outcome, err = &o, nil
	}
	switch {
	case err != nil:
		return w.heldBack(ctx, d, queue.DividedBy(err, w.Config.Pace))
	case outcome != nil:
		return w.end(ctx, nothingToCall, *outcome)
	}
	return w.call(ctx, claimed, d)
}

// prepare makes the checks that need no call, and prepares the write. The checks are repeated directly before the call.
func (w *write) prepare(ctx context.Context) (ledger.Detail, *queue.Outcome, error) {
	if err := w.CheckExpiry(w.c.Envelope); err != nil {
		return ledger.Detail{}, nil, err
	}
	if err := w.checkEarly(ctx); err != nil {
		return ledger.Detail{}, nil, err
	}
	if err := w.api.CheckTurn(); err != nil { // what is read now would be read once more
		return ledger.Detail{}, nil, verdict.NotDone(err, w.c.Failures, w.c.DesktopIDs...)
	}
	if !w.record.Earlier.IsZero() {
		return w.op.Prepare(ctx, w.record.Detail, ledger.Detail{})
	}
	return w.op.Prepare(ctx, ledger.Detail{}, w.record.Detail)
}

// heldBack keeps what was read for a first call that cannot be made yet, and returns why not: check-images is a write by
// the service's limits, and need not be repeated.
func (w *write) heldBack(ctx context.Context, d ledger.Detail, why error) error {
	was := w.record.Detail
	if w.state() != Free || !w.record.Earlier.IsZero() || d.ReadAt.IsZero() || d.ReadAt.Equal(was.ReadAt) && len(d.Volumes) <= len(was.Volumes) {
		return why
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepWithin) // the end of ctx may be why
	defer cancel()
	kept := w.record
	kept.Detail = d
	if err := w.move(ctx, preparationKept, kept); err != nil {
		w.Log.WarnContext(ctx, "what was read before a call was not recorded and is read once more", "error", err)
	}
	return why
}

// call records the intent, makes the call and records its outcome.
func (w *write) call(ctx context.Context, on Event, d ledger.Detail) error {
	if err := w.api.AwaitTurn(ctx); err != nil { // before the checks, so that they see what changes during this wait
		return w.heldBack(ctx, d, queue.DividedBy(verdict.NotDone(err, w.c.Failures, w.c.DesktopIDs...), w.Config.Pace))
	}
	begun := w.wall()
	sendWithin, leaseAfter := w.claimTimes()
	if w.mostlyOver(ctx, sendWithin) {
		w.api.DropTurn()
		return w.heldBack(ctx, d, queue.Hold(0, errShort))
	}
	intent := w.record
	if on == proofOfNone {
		intent.Unclear = nil
		intent.Earlier, intent.EarlierUntil = intent.SignedAt, intent.SignedAt.Add(w.fence())
		intent.EarlierNext, intent.EarlierLooks = time.Time{}, 0
	}
	intent.Detail = d
	intent.Fence++
	intent.Owner = w.Owner + "#" + rand.Text() // no two claims are equal, so that put knows its own
	intent.Lease = begun.Add(sendWithin + leaseAfter)
	intent.Sent = begun
	intent.SignedAt, intent.Undated = w.api.ServiceNow().UTC().Truncate(time.Second), !w.api.SignaturesExpire()
	if err := w.move(ctx, on, intent); err != nil {
		w.api.DropTurn()
		return fmt.Errorf("claim the command: %w", err)
	}

	// From here on, the record means that a call may be on its way: its outcome must be recorded, even if ctx ends.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), SendWithin+recordTime)
	defer cancel()
	if err := w.lastChecks(ctx); err != nil {
		w.api.DropTurn()
		return w.noCall(after, w.record, queue.DividedBy(err, w.Config.Pace))
	}
	late := w.wall().Sub(begun)
	if late >= sendWithin || late < 0 {
		w.api.DropTurn()
		return w.noCall(after, w.record, queue.RetryAfter(time.Second, fmt.Errorf("%w (%v)", errLate, late)))
	}
	sendCtx, cancelSend := context.WithTimeout(ctx, sendWithin-late)
	defer cancelSend()
	accepted, err := w.op.Send(sendCtx, intent.SignedAt, d)
	switch {
	case err != nil:
		return w.answered(after, err)
	case slices.Contains(d.Known, accepted.JobID):
		return w.lost(after, fmt.Errorf("the answer names job %s, which the desktops had before the call", accepted.JobID))
	}
	return w.accepted(after, accepted)
}

// accepted records the job with which the service answered.
func (w *write) accepted(ctx context.Context, a workspace.Accepted) error {
	// The answer names the job, so the job is the command's, even if claiming it fails.
	if _, err := w.claimJob(ctx, a.JobID); err != nil {
		w.Log.WarnContext(ctx, "claim of a job failed", "job_id", a.JobID, "error", err)
	}
	at, d := w.answeredAt(a.Date), w.record.Detail
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

// answeredAt is when the call was answered, by the service's clock. That is the Date of the answer, unless there is none, or
// it is that of a machine whose clock would have refused the signature.
func (w *write) answeredAt(date time.Time) time.Time {
	if date.Sub(w.record.SignedAt).Abs() > w.fence() {
		return w.record.SignedAt
	}
	return date.UTC()
}

// withJob returns the record with its accepted job.
func withJob(r ledger.Record, jobID string, at time.Time, d ledger.Detail) ledger.Record {
	r.JobID, r.Accepted, r.Detail, r.Lease, r.Unclear, r.Refused = jobID, at, d, time.Time{}, nil, nil
	return r
}

// answered records what an error of the call means.
func (w *write) answered(ctx context.Context, err error) error {
	e, ok := errors.AsType[*workspace.Error](err)
	if !ok || e.MayHaveExecuted() && !e.Coded() {
		return w.lost(ctx, err)
	}
	reason := ledger.Reason{Class: string(e.Class), Failure: verdict.Failure(err)}
	batch := len(w.record.Detail.DesktopIDs) > 1 && w.op.Part(w.record.Detail.DesktopIDs) != nil
	switch {
	case e.Class == workspace.Conflict, e.Coded() && e.Code == workspace.CodeBusy:
		reason.Class, reason.Failure.Kind, reason.Divide = string(workspace.Conflict), events.KindConflict, batch
		return w.refused(ctx, reason, e.Date)
	case e.Class == workspace.DiskBusy, e.Coded():
		return w.refused(ctx, reason, e.Date)
	}
	decided := queue.DividedBy(verdict.NotDone(err, w.c.Failures), w.Config.Pace)
	if e.Status == 0 {
		return w.noCall(ctx, w.record, decided)
	}
	// This may be the answer to the second copy of a request whose first copy was accepted.
	if _, failed := queue.AsFailed(decided); failed {
		reason.Divide = batch && (e.Class == workspace.Refused || e.Class == workspace.NotFound)
		return w.refused(ctx, reason, e.Date)
	}
	return w.noCall(ctx, w.answeredWithoutJob(e.Date, w.lookAfterRefusal()), decided)
}

// noCall records that the service did nothing, and returns err for the next attempt; a queue.FailedError ends the
// command.
func (w *write) noCall(ctx context.Context, next ledger.Record, err error) error {
	next.Lease = time.Time{}
	if failed, ok := queue.AsFailed(err); ok {
		end, bad := w.asEnd(w.failed(w.doubted(ctx, failed)))
		if bad != nil {
			return bad
		}
		next.End = end
		return w.settle(ctx, refusedEnd, next)
	}
	on := notSent
	next.SignedAt, next.Sent = time.Time{}, time.Time{}
	if next.Refused != nil {
		on = stillRefused
	}
	if put := w.settle(ctx, on, next); put != nil { // the verdict still holds: it may stop the worker
		w.Log.WarnContext(ctx, "record that nothing was sent", "error", put)
	}
	return err
}

// lost records that the service may have accepted the call.
func (w *write) lost(ctx context.Context, err error) error {
	next := w.record
	next.Lease = time.Time{}
	now := w.api.ServiceNow()
	next.Unclear = &ledger.Unclear{Since: now, Next: now.Add(w.nextLook(next.SignedAt)), Reason: err.Error()}
	if err := w.settle(ctx, answerLost, next); err != nil {
		return fmt.Errorf("record that the answer was lost: %w", err)
	}
	w.OnRecovery("unknown")
	return nil
}

// takeOver waits until the lease of an intent ends, and then begins to look for its call.
func (w *write) takeOver(ctx context.Context) error {
	if left := w.record.Lease.Sub(w.wall()); left > 0 {
		return queue.RetryAfter(left, errors.New("another worker holds the command"))
	}
	w.Log.WarnContext(ctx, "a call was begun and its outcome was never recorded", "owner", w.record.Owner, "signed_at", w.record.SignedAt)
	next := w.record
	next.Fence++
	next.Owner, next.Lease = w.Owner+"#"+rand.Text(), time.Time{}
	now := w.api.ServiceNow()
	next.Unclear = &ledger.Unclear{Since: now, Next: now, Reason: noAnswer, Announce: 1}
	if err := w.move(ctx, leaseOver, next); err != nil {
		return err
	}
	w.OnRecovery("unknown")
	return nil
}

const noAnswer = "the worker that made the call ended before it recorded an answer"

// failed returns the command.failed of the command, for all its desktops unless the error names some.
func (w *write) failed(e *queue.FailedError) queue.Outcome {
	failed := *e
	if failed.DesktopIDs == nil {
		failed.DesktopIDs = w.c.DesktopIDs
	}
	return failed.Outcome(w.c.Command)
}

// asEnd converts an outcome of the command to the form that its record stores.
func (w *write) asEnd(o queue.Outcome) (*ledger.End, error) {
	o.ID = events.Derive(w.c.Identity(), o.About...)
	o.Source, o.Causation, o.Time = events.Source(w.c.Function), w.c.Envelope.ID, w.Now().UTC()
	return asEnd(o)
}

// end records the end of the command. If the command is divided, its parts inherit its earlier call.
func (w *write) end(ctx context.Context, on Event, o queue.Outcome) error {
	if split, ok := o.Data.(events.CommandSplit); ok && on != foundInParts && !w.record.Earlier.IsZero() {
		parts, err := w.storeSplit(ctx, split)
		if err != nil {
			return err
		}
		o = *Split(w.op, parts)
	}
	ended := w.record
	var err error
	if ended.End, err = w.asEnd(o); err != nil {
		return err
	}
	return w.move(ctx, on, ended)
}
