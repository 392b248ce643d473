package main

import (
	"context"
	"errors"

	"recompose/shared/ledger"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/workspace"
)

// status completes what this worker answers to people who ask why nothing moves.
func (w *monitor) status(ctx context.Context, s *natsqueue.WorkerStatus) {
	if _, err := w.describe(ctx); err != nil {
		s.Lists = placeOf(err)
	}
	api, q, safe := w.parts()
	if q == nil {
		if since, why := w.whyNotYet(); why != nil {
			s.Stopped = &natsqueue.WorkerStopped{Since: since.UTC(), Reason: "it has not started yet: " + why.Error()}
		}
		return
	}
	if s.Stopped != nil {
		s.Stopped.KeyRefused = isKeyRefused(q.Status().Stopped)
	}
	s.Throttled = throttledBy(api.Limits())
	if safe == nil {
		return
	}
	s.Ledger = w.unfit(ctx)
	f, err := safe.Frozen(ctx)
	switch {
	case err != nil && s.Ledger == nil: // else it is in the same ledger, and so are the lists
		s.Unknown, s.Lists = err.Error(), ""
	case err != nil:
		s.Lists = ""
	case f != nil:
		s.Frozen = &natsqueue.WorkerFrozen{Reason: f.Reason, By: f.By, At: f.At}
	}
	s.Service = otherService(ctx, safe)
}

// otherService is how the deployment's service differs from that of this worker; "" where it does not, or that cannot be
// read now.
func otherService(ctx context.Context, safe *safety.Safety) string {
	if stop, ok := errors.AsType[*safety.Stop](safe.SameService(ctx)); ok && stop.Reason == safety.OtherService {
		return stop.Error()
	}
	return ""
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

// unfit reports that the ledger lets no write begin; nil where it does.
func (w *monitor) unfit(ctx context.Context) *natsqueue.WorkerLedger {
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

// placeOf is the error of a list without what stands in it.
func placeOf(err error) string {
	if f, ok := errors.AsType[*safety.FileError](err); ok {
		return f.Place()
	}
	return err.Error()
}
