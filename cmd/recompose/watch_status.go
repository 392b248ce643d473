package main

import (
	"context"
	"errors"

	"recompose/shared/ledger"
	"recompose/shared/permit"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/service"
	"recompose/shared/workspace"
)

// status completes what this worker answers to people who ask why nothing moves.
func (w *watch) status(ctx context.Context, s *natsqueue.WorkerStatus) {
	s.Lists = w.unreadable()
	api, q, freeze := w.parts()
	if q == nil {
		if why, since := w.whyNotYet(); why != nil {
			s.Stopped = &natsqueue.WorkerStopped{Since: since.UTC(), Reason: "it has not started yet: " + why.Error()}
		}
		return
	}
	if s.Stopped != nil {
		s.Stopped.KeyRefused = workspace.IsUnauthorized(q.Status().Stopped)
	}
	s.Throttled = throttledBy(api.Limits())
	if freeze == nil {
		return
	}
	s.Ledger = w.unfit(ctx)
	switch f, err := freeze.Frozen(ctx); {
	case err != nil && s.Ledger != nil: // it is in the same ledger
	case isClaim(err):
		s.Service = err.Error()
	case err != nil:
		s.Unknown = err.Error()
	case f != nil:
		s.Frozen = &natsqueue.WorkerFrozen{Reason: f.Reason, By: f.By, At: f.At}
	}
}

// throttledBy are the rate limits that hold calls back now. A rate that is lowered holds none back while there is room.
func throttledBy(limits []workspace.Limit) (throttled []natsqueue.WorkerThrottled) {
	for _, l := range limits {
		if !l.PausedUntil.IsZero() || !l.Unlimited && l.Level < 1 && l.Tokens < 0 {
			throttled = append(throttled, natsqueue.WorkerThrottled{
				Calls: l.Calls, PerMinute: l.PerMinute, Until: l.PausedUntil.UTC(), Status: l.Status,
			})
		}
	}
	return throttled
}

func isClaim(err error) bool {
	_, ok := errors.AsType[*service.ClaimError](err)
	return ok
}

// unfit reports that the ledger lets no write begin; nil where it does.
func (w *watch) unfit(ctx context.Context) *natsqueue.WorkerLedger {
	w.mu.Lock()
	l := w.ledger
	w.mu.Unlock()
	err := l.Fit(ctx, "")
	if err == nil {
		return nil
	}
	if lost := lossOf(err); lost != nil {
		return lost
	}
	return &natsqueue.WorkerLedger{Reason: err.Error()}
}

// lossOf is the loss of records that an error is; nil where it is another one.
func lossOf(err error) *natsqueue.WorkerLedger {
	if lost, ok := errors.AsType[*ledger.LostError](err); ok {
		return &natsqueue.WorkerLedger{Reason: lost.Reason, Accept: lost.Accept}
	}
	return nil
}

// unreadable is why a list of desktops cannot be read; "" where both can.
func (w *watch) unreadable() string {
	if _, err := w.lists.Describe(); err != nil {
		return placeOf(err)
	}
	return ""
}

// placeOf is the error of a list without what stands in it.
func placeOf(err error) string {
	if f, ok := errors.AsType[*permit.FileError](err); ok {
		return f.Place()
	}
	return err.Error()
}
