package worker

import (
	"context"
	"errors"

	"recompose/shared/ledger"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/workspace"
)

// status completes the response of this worker to `recompose wait`, which reports why a chain is quiet.
func (w *Worker) status(ctx context.Context, s *natsqueue.WorkerStatus) {
	if _, err := w.describe(ctx); err != nil {
		s.Lists = placeOf(err)
	}
	api, q, safe := w.running()
	if q == nil {
		if since, why := w.whyNotYet(); why != nil {
			s.Stopped = &natsqueue.WorkerStopped{Since: since.UTC(), Reason: "it has not started yet: " + why.Error()}
		}
		return
	}
	if s.Stopped != nil {
		s.Stopped.KeyRefused = isKeyRefused(q.Status().Stopped)
	}
	if u := api.Unreached(); u != nil {
		s.Unreached = &natsqueue.WorkerUnreached{Since: u.Since.UTC(), Reason: u.Why.Error()}
	}
	s.Throttled = throttledBy(api.Limits())
	if safe == nil {
		return
	}
	s.Ledger = w.unfit(ctx)
	f, err := safe.Frozen(ctx)
	switch {
	case err != nil && s.Ledger == nil: // freeze and lists are in the ledger's store: its loss is the reason
		s.FreezeUnknown, s.Lists = err.Error(), ""
	case err != nil:
		s.Lists = ""
	case f != nil:
		s.Frozen = f
	}
	s.Service = otherService(ctx, safe)
}

// otherService returns an error text if the deployment works on another service than this worker; "" if not, or if that
// cannot be read now.
func otherService(ctx context.Context, safe *safety.Safety) string {
	if stop, ok := errors.AsType[*safety.Stop](safe.SameService(ctx)); ok && stop.Reason == safety.OtherService {
		return stop.Error()
	}
	return ""
}

// throttledBy returns the rate limits that delay calls now. A lowered rate delays none while tokens are left.
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

// unfit returns why the ledger allows no write; nil if it does.
func (w *Worker) unfit(ctx context.Context) *natsqueue.WorkerLedger {
	err := w.parts.Ledger.Fit(ctx, "")
	if err == nil {
		return nil
	}
	if lost := lossOf(err); lost != nil {
		return lost
	}
	return &natsqueue.WorkerLedger{Reason: err.Error()}
}

// lossOf returns the loss of records that an error reports; nil for another error.
func lossOf(err error) *natsqueue.WorkerLedger {
	if lost, ok := errors.AsType[*ledger.LostError](err); ok {
		return &natsqueue.WorkerLedger{Reason: lost.Reason, Accept: lost.Accept}
	}
	return nil
}

// placeOf returns the error of a list without its content.
func placeOf(err error) string {
	if f, ok := errors.AsType[*safety.FileError](err); ok {
		return f.Redacted()
	}
	return err.Error()
}
