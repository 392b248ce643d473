package once

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store"
)

// GiveUp ends a command that used up its deliveries, according to its record. If another worker changes the record
// meanwhile, GiveUp reads it once more and decides anew.
func (e *Engine) GiveUp(ctx context.Context, op Operation, reason string) ([]queue.Outcome, error) {
	for {
		w, err := e.open(ctx, op)
		if err != nil {
			return nil, err
		}
		failed := queue.Failed(events.KindAttemptsUsedUp, "%s", reason)
		failed.DeadLetter = queue.DeadLetterID(w.c.Identity(), w.c.Function, queue.ClassUsedUp)
		switch w.state() {
		case Accepted, Ended:
			return w.outcomes()
		case Intent:
			if left := w.record.Lease.Sub(w.wall()); left > 0 {
				return nil, queue.RetryAfter(left, errors.New(reason))
			}
			failed.Effect = events.EffectUnknown
		case Looking:
			failed.Effect = events.EffectUnknown
		case Free, Refused:
			if !w.record.Earlier.IsZero() {
				failed.Effect = events.EffectUnknown
			}
		}
		err = w.end(ctx, gaveUp, w.failed(failed))
		if err == nil {
			return w.outcomes()
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
	}
}

// EndOf returns the end of the command of an accepted job as it was published; nil if the command has not ended. epoch
// is the ledger epoch in the message of the job.
//
// The job is recorded before job.accepted is published. If the record is missing or has no job, the ledger has lost
// records, and no write begins any more. The job itself is still followed to its end, and a missing record is created
// from job.accepted, so that its command cannot make another call.
func (e *Engine) EndOf(ctx context.Context, job events.JobAccepted, epoch string) (*queue.Outcome, error) {
	key := events.Identity(job.Command.Source, job.Command.ID)
	r, rev, err := e.get(ctx, key)
	if err != nil {
		return nil, err
	}
	switch StateOf(r) {
	case Accepted:
		return nil, nil
	case Ended:
		end := republish(*r.End, r.Digest)
		return &end, nil
	}
	if err := e.Store.Missing(ctx, key, epoch); err != nil && !errors.Is(err, ledger.ErrLost) {
		return nil, queue.RetryAfter(StoreWait, fmt.Errorf("the ledger: %w", err))
	}
	if rev != 0 {
		return nil, nil
	}
	found := ledger.Record{Digest: job.Command.Digest, JobID: job.JobID, Accepted: job.AcceptedAt, Detail: ledger.Detail{
		DesktopIDs: job.DesktopIDs, Skipped: job.Skipped, Previous: job.Previous, Deadline: job.Deadline,
		Warning: job.Warning, RequestID: job.RequestID,
	}}
	if _, err = e.put(ctx, key, r, recordGone, found, 0); errors.Is(err, store.ErrConflict) {
		return nil, queue.RetryAfter(StoreWait, err)
	}
	return nil, err
}

// EndJob records the end of the job of a command, unless the command has an end already, and returns the recorded end:
// two workers that see a job end differently publish the same event. If the deployment has changed to another service,
// this worker read the wrong one: EndJob records nothing and returns a verdict.
func (e *Engine) EndJob(ctx context.Context, command events.CommandRef, o queue.Outcome) (queue.Outcome, error) {
	key := events.Identity(command.Source, command.ID)
	if e.Safety != nil {
		stop, ok := errors.AsType[*safety.Stop](e.Safety.SameService(ctx))
		if ok && stop.Reason == safety.OtherService { // if the service cannot be read, jobs still end: only writes wait
			return queue.Outcome{}, queue.RetryAfter(StoreWait, stop)
		}
	}
	for {
		r, rev, err := e.get(ctx, key)
		if err != nil {
			return queue.Outcome{}, err
		}
		if r.End != nil {
			return republish(*r.End, r.Digest), nil
		}
		ended := r
		ended.Digest = cmp.Or(r.Digest, command.Digest) // the id belongs to this data, even if the record was lost
		if ended.End, err = asEnd(o); err != nil {
			return queue.Outcome{}, err
		}
		_, err = e.put(ctx, key, r, jobEnded, ended, rev)
		if err == nil {
			return republish(*ended.End, ended.Digest), nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return queue.Outcome{}, err
		}
	}
}
