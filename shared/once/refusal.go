package once

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// diskWait is how long a rebuild waits while the disk of a desktop is being changed. Source: Terraform provider.
const diskWait = 5 * time.Minute

// lookAfterRefusal is how long a command waits before it looks for its job after an answer without one: the answer may
// be to a second copy of a request whose first copy was accepted. It is 2 min with the service's window of 15
// min, and always longer than a claim. So if another command began the conflicting job and its worker was killed, that
// command can be redelivered and claim its job first.
func (e *Engine) lookAfterRefusal() time.Duration {
	sendWithin, leaseAfter := e.claimTimes()
	return max(e.Config.SignatureWindow*2/15, sendWithin+leaseAfter+time.Second)
}

// refused records a refusal. A refusal does not prove that nothing was done: the network may deliver a request twice,
// so the refusal may answer the second copy of an accepted request. So the signing date and the baseline stay in the
// record, and the job of the call is looked for first.
func (w *write) refused(ctx context.Context, reason ledger.Reason, answeredAt time.Time) error {
	var wait time.Duration
	switch {
	case noEffect(reason):
	case reason.Class == string(workspace.DiskBusy):
		wait = max(w.lookAfterRefusal(), w.Paced(diskWait))
	default: // a 400 too: the meaning of its code is not documented
		wait = w.lookAfterRefusal()
	}
	next := w.answeredWithoutJob(answeredAt, wait)
	next.Lease, next.SignedAt, next.Sent = time.Time{}, time.Time{}, time.Time{}
	since := w.answeredAt(w.api.ServiceNow()) // the answer may have set the clock wrong
	next.Refused = &ledger.Refusal{Since: since, NotBefore: next.EarlierNext, Times: 1, Last: reason}
	if r := w.record.Refused; r != nil {
		next.Refused.Since, next.Refused.Times = r.Since, r.Times+1
	}
	if err := w.settle(ctx, refusedNow, next); err != nil {
		return fmt.Errorf("record the refusal: %w", err)
	}
	return nil
}

// answeredWithoutJob returns the record with its call as the earlier call, whose job is looked for after wait and
// before a further call. Until the time that the call may take is over, the service may take another copy of the request,
// even if the Date of this answer is earlier or missing.
func (w *write) answeredWithoutJob(date time.Time, wait time.Duration) ledger.Record {
	next := w.record
	sendWithin, _ := w.claimTimes()
	next.Earlier, next.EarlierUntil, next.EarlierLooks = next.SignedAt, next.SignedAt.Add(sendWithin), 0
	if at := w.answeredAt(date); at.After(next.EarlierUntil) {
		next.EarlierUntil = at
	}
	next.EarlierNext = w.api.ServiceNow().Add(wait)
	return next
}

// afterRefusal looks for the job of a refused command. If a complete look finds none, the command is divided, ends, or
// is attempted once more.
func (w *write) afterRefusal(ctx context.Context) error {
	refused := w.record.Refused
	if left := w.left(refused.NotBefore); left > 0 {
		return queue.RetryAfter(left, fmt.Errorf(
			"the service refused the call for now (%s); before the next call, the job list is checked for a job of this one",
			refusalText(refused.Last.Failure)))
	}
	if done, err := w.lookForEarlier(ctx); done || err != nil {
		return err
	}
	if err := w.CheckExpiry(w.c.Envelope); err != nil && mayPass(refused.Last) { // it would wait for nothing
		failed, _ := queue.AsFailed(err)
		return w.end(ctx, refusedEnd, w.failed(w.doubted(ctx, failed)))
	}
	if refused.Last.Divide {
		outcome, err := w.op.Divide(ctx, w.record.Detail, refused.Last.Failure, refused.Times > 1)
		if failed, ok := queue.AsFailed(err); ok {
			return w.end(ctx, refusedEnd, w.failed(w.doubted(ctx, failed)))
		}
		switch {
		case workspace.IsUnauthorized(err), err != nil && !w.overdue():
			return queue.DividedBy(err, w.Config.Pace)
		case outcome != nil:
			return w.end(ctx, divided, *outcome)
		}
	}
	failed := &queue.FailedError{Failure: refused.Last.Failure}
	switch {
	case !mayPass(refused.Last):
		if !noEffect(refused.Last) {
			failed = w.doubted(ctx, failed)
		}
		return w.end(ctx, refusedEnd, w.failed(failed))
	case w.c.FailBusy && !refused.Last.Divide:
		failed.Failure.Kind = events.KindConflict
		return w.end(ctx, refusedEnd, w.failed(w.doubted(ctx, failed)))
	case w.overdue():
		return w.endRefused(ctx, failed)
	}
	return w.prepareAndCall(ctx)
}

// endRefused ends a command that was refused for too long. If a further preparation finds the work done, the command
// does not fail.
func (w *write) endRefused(ctx context.Context, failed *queue.FailedError) error {
	_, outcome, err := w.op.Prepare(ctx, w.record.Detail, ledger.Detail{})
	if retry, ok := errors.AsType[*queue.RetryError](err); ok {
		err = retry.Err
	}
	switch {
	case workspace.IsUnauthorized(err):
		return queue.Stop(err)
	case err != nil:
		failed = inDoubt(failed, err.Error())
	case outcome != nil:
		return w.end(ctx, nothingToCall, *outcome)
	default:
		failed = w.doubted(ctx, failed)
	}
	return w.end(ctx, deadline, w.failed(failed))
}

// doubted sets the effect of a failure to unknown if an earlier call of the command may have been accepted: no job of
// it is listed, but its desktops have changed since. A failure that already has an effect is returned unchanged.
func (w *write) doubted(ctx context.Context, failed *queue.FailedError) *queue.FailedError {
	if w.record.Earlier.IsZero() || failed.Effect != "" {
		return failed
	}
	if len(w.partial) > 0 {
		return inDoubt(failed, fmt.Sprintf("jobs %s have some of the desktops", strings.Join(w.partial, ", ")))
	}
	unchanged, why, err := w.op.Unchanged(ctx, w.record.Detail, UnlistedTask)
	switch {
	case err != nil:
		return inDoubt(failed, err.Error())
	case unchanged:
		return failed
	}
	return inDoubt(failed, why)
}

const acceptedEarlier = "the service may have accepted an earlier call of this command: "

// inDoubt returns a copy of the failure whose effect is unknown, with the reason.
func inDoubt(failed *queue.FailedError, why string) *queue.FailedError {
	doubted := *failed
	doubted.Effect = events.EffectUnknown
	detail := acceptedEarlier + why
	if d := failed.Failure.ErrorDetail; d != "" {
		detail = d + "; " + detail
	}
	doubted.Failure.ErrorDetail = detail
	return &doubted
}

// refusalText describes the service's refusal.
func refusalText(f events.Failure) string {
	text := f.Kind
	if f.HTTPStatus != 0 {
		text += fmt.Sprintf(", status %d", f.HTTPStatus)
	}
	if f.ErrorCode != "" {
		text += ", " + f.ErrorCode
	}
	return text + ": " + f.ErrorMsg
}

// noEffect reports whether the service itself, which gives a code, refused for a reason that holds for each copy of the
// call. What a gateway or a proxy answers may follow a copy that was accepted.
func noEffect(r ledger.Reason) bool {
	class := workspace.Class(r.Class)
	return r.Failure.ErrorCode != "" && (class == workspace.NotFound || class == workspace.Forbidden)
}

// lookForEarlier looks for the job of an earlier call of the command, before anything else is done for it. done means
// that the job was adopted or the command ended. If done is false and err is nil, a complete look found no job of the
// command.
func (w *write) lookForEarlier(ctx context.Context) (done bool, err error) {
	if w.record.Earlier.IsZero() {
		return false, nil
	}
	if left := w.left(w.record.EarlierNext); left > 0 {
		return false, queue.RetryAfter(left, errors.New("the job of an earlier call may not be listed yet"))
	}
	d, from := w.record.Detail, w.record.Earlier
	found, err := w.findJobs(ctx, from, w.record.EarlierUntil)
	if workspace.IsUnauthorized(err) {
		return false, queue.Stop(err)
	}
	whole := found.whole(d.DesktopIDs)
	if err == nil && len(whole) == 1 {
		if adopted, err := w.adopt(ctx, whole[0], found, from); adopted || err != nil {
			return adopted, err
		}
	}
	switch {
	case err != nil:
	case len(whole) > 1:
		err = fmt.Errorf("each of the jobs %s may be that of the call", strings.Join(whole, ", "))
	case found.Incomplete != "":
		err = errors.New(found.Incomplete)
	case len(found.Jobs) > 0 && w.record.EarlierLooks < fewestLooks: // perhaps not all desktops of the job are listed yet
		err = fmt.Errorf("jobs %s have some of the desktops", strings.Join(found.ids(), ", "))
	default:
		// The jobs seen now cannot be the job of a further call. A job with some of the desktops may be that of a part.
		w.record.Detail.Known, w.record.Detail.KnownAll = union(d.Known, without(found.Seen, found.ids())), true
		w.partial = found.ids()
		return w.finishDivision(ctx)
	}
	err = fmt.Errorf("the job of an earlier call cannot be looked for: %w", err)
	if !w.overdue() || w.record.EarlierLooks < fewestLooks {
		looked := w.record
		looked.EarlierLooks++
		if err := w.move(ctx, notFoundYet, looked); err != nil {
			return false, err
		}
		return false, queue.RetryAfter(w.margin(), err)
	}
	failed := &queue.FailedError{Effect: events.EffectUnknown, Failure: events.Failure{Kind: events.KindUnknownOutcome}}
	if r := w.record.Refused; r != nil {
		failed.Failure = r.Last.Failure
		if mayPass(r.Last) {
			failed.Failure.Kind = events.KindConflict
		}
	}
	failed.Failure.ErrorDetail = acceptedEarlier + err.Error()
	return true, w.end(ctx, deadline, w.failed(failed))
}

// finishDivision divides a command if an earlier delivery stored its parts but did not publish them: these parts are
// final, and this command must make no further call for their desktops.
func (w *write) finishDivision(ctx context.Context) (done bool, err error) {
	parts, err := w.storedParts(ctx)
	if err != nil || len(parts) == 0 {
		return false, err
	}
	return true, w.end(ctx, divided, *Split(w.op, [][]string{w.record.Detail.DesktopIDs}))
}

// union returns the ids of both lists, sorted and without duplicates.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// mayPass reports whether a refusal is temporary, so that the call is retried.
func mayPass(r ledger.Reason) bool {
	return r.Class == string(workspace.Conflict) || r.Class == string(workspace.DiskBusy)
}

// overdue reports whether the command has been retried for ConflictDeadline.
func (w *write) overdue() bool {
	if r := w.record.Refused; r != nil {
		return w.api.ServiceNow().Sub(r.Since) >= w.Config.ConflictDeadline
	}
	return w.api.ServiceNow().Sub(w.record.Earlier) >= w.Config.ConflictDeadline
}
