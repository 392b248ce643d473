package once

import (
	"context"
	"errors"
	"fmt"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/queue"
)

// A desktop that is busy is asked for after 20 s once more, one whose disk is being changed after 5 min (what Terraform
// waits).
const (
	conflictWait = 20 * time.Second
	diskWait     = 5 * time.Minute
)

// refused records a refusal that may pass, or because of which the batch may be divided.
func (w *write) refused(ctx context.Context, reason ledger.Reason, wait time.Duration) error {
	now := w.wall()
	next := w.record
	next.Lease, next.SignedAt = time.Time{}, time.Time{}
	next.Refused = &ledger.Refusal{Since: now, NotBefore: now.Add(max(w.paced(wait), time.Millisecond)), Last: reason}
	if r := w.record.Refused; r != nil {
		next.Refused.Since = r.Since
	}
	if err := w.settle(ctx, refusedNow, next); err != nil {
		return fmt.Errorf("record the refusal: %w", err)
	}
	return nil
}

// afterRefusal decides about a command that was refused: it is divided, ends after the deadline, waits, or is attempted
// once more. Where an earlier call of it was proved absent, the refusal may be that call's effect: then its job is adopted.
func (w *write) afterRefusal(ctx context.Context) error {
	if !w.record.Resent.IsZero() {
		found, err := w.op.FindJob(ctx, w.record.Detail, w.record.Resent)
		if err == nil {
			err = w.dropOthers(ctx, &found)
		}
		if err != nil { // not an end: an earlier call may be there that cannot be seen now
			return queue.RetryAfter(w.margin(), fmt.Errorf("an earlier call of it cannot be looked for: %w", err))
		}
		if job := found.whole(w.record.Detail.DesktopIDs); job != "" {
			if adopted, err := w.adopt(ctx, job, found, w.record.Resent); adopted || err != nil {
				return err
			}
		}
	}
	refused := w.record.Refused
	left := refused.NotBefore.Sub(w.wall())
	if refused.Last.Divide {
		outcome, err := w.op.Divide(ctx, w.record.Detail, refused.Last.Failure, left > 0)
		if failed, ok := queue.AsFailed(err); ok {
			o := w.failed(failed)
			outcome, err = &o, nil
		}
		switch {
		case err != nil:
			return queue.Sooner(err, w.Pace)
		case outcome != nil:
			return w.end(ctx, divided, *outcome)
		}
	}
	if w.Now().Sub(refused.Since) >= w.ConflictDeadline {
		return w.end(ctx, deadline, w.failed(&queue.FailedError{Failure: refused.Last.Failure}))
	}
	if left > 0 {
		return queue.RetryAfter(left, errors.New("the service refused the call for now"))
	}
	return w.attempt(ctx)
}
