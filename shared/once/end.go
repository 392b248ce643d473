package once

import (
	"cmp"
	"context"
	"errors"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
)

// GiveUp ends a command that used up its deliveries, by what the ledger knows of it. It ends the very record that it
// judged: where another worker changed the record meanwhile, it judges anew.
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
		if !errors.Is(err, ledger.ErrConflict) {
			return nil, err
		}
	}
}

// EndOf gives the end of a command as it was published; nil if it has none.
func (e *Engine) EndOf(ctx context.Context, command events.CommandRef) (*queue.Outcome, error) {
	r, _, err := e.get(ctx, events.Identity(command.Source, command.ID))
	if err != nil || r.End == nil {
		return nil, err
	}
	end := Republish(*r.End, r.Digest)
	return &end, nil
}

// EndJob records the end of the job of a command, unless the command has an end already, and gives the end that stands:
// two workers that see a job end differently publish the same.
func (e *Engine) EndJob(ctx context.Context, command events.CommandRef, o queue.Outcome) (queue.Outcome, error) {
	key := events.Identity(command.Source, command.ID)
	for {
		r, rev, err := e.get(ctx, key)
		if err != nil {
			return queue.Outcome{}, err
		}
		if r.End != nil {
			return Republish(*r.End, r.Digest), nil
		}
		ended := r
		ended.Digest = cmp.Or(r.Digest, command.Digest) // the id belongs to this data, also where the record was lost
		if ended.End, err = asEnd(o); err != nil {
			return queue.Outcome{}, err
		}
		_, err = e.put(ctx, key, r, jobEnded, ended, rev)
		if err == nil {
			return Republish(*ended.End, ended.Digest), nil
		}
		if !errors.Is(err, ledger.ErrConflict) {
			return queue.Outcome{}, err
		}
	}
}
