package once

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/safety"
)

// lastChecks runs directly before a call. An error means that the call must not be made: a queue.FailedError ends the
// command, any other error delays it.
func (w *write) lastChecks(ctx context.Context) error {
	if err := w.CheckExpiry(w.c.Envelope); err != nil {
		return err
	}
	if err := w.checkLedger(ctx); err != nil {
		return err
	}
	// Last: an operator accepts a loss during a freeze, and the freeze must be read after that.
	var rollouts error
	var reading sync.WaitGroup
	reading.Go(func() {
		_, rollouts = queue.Guarded(func() (struct{}, error) { return struct{}{}, w.checkRollouts(ctx) })
	})
	err := w.checkSafety(ctx)
	read := w.wall()
	reading.Wait()
	if err == nil && rollouts == nil && w.wall().Sub(read) > slowRead {
		return w.checkSafety(ctx)
	}
	if err == nil || retried(err) && rollouts != nil && !retried(rollouts) {
		return rollouts
	}
	return err
}

// slowRead is how much longer than the freeze the rollouts may take to be read. After that, the freeze is read once more.
const slowRead = time.Second

// CheckExpiry fails a command whose expirytime has passed, or that is older than RECOMPOSE_COMMAND_MAX_AGE.
func (e *Engine) CheckExpiry(command events.Envelope) error {
	now := e.Now()
	if err := checkExpiryTime(command, now); err != nil {
		return err
	}
	if t := command.Time; !t.IsZero() && now.Sub(t) > e.Config.CommandMaxAge {
		return queue.Failed(events.KindExpired,
			"time: the command (or the event that caused it) was sent at %s, more than %v ago (RECOMPOSE_COMMAND_MAX_AGE); "+
				"send a new command if it is still wanted", t.Format(time.RFC3339), e.Config.CommandMaxAge)
	}
	return nil
}

// checkExpiryTime fails a command whose expirytime has passed.
func checkExpiryTime(e events.Envelope, now time.Time) error {
	if e.Expiry.IsZero() || now.Before(e.Expiry) {
		return nil
	}
	return queue.Failed(events.KindExpired, "expirytime: passed at %s; send a new command if it is still wanted",
		e.Expiry.Format(time.RFC3339))
}

// freezeWait is how long a write waits for a person to thaw writes or to accept the loss of records.
const freezeWait = 30 * time.Second

// checkLedger delays a write while the ledger may have lost the record of what the command has done.
func (w *write) checkLedger(ctx context.Context) error {
	_, err := w.fits.Get(ctx, w.c.Epoch)
	switch {
	case errors.Is(err, ledger.ErrLost):
		return queue.RetryAfter(freezeWait, err)
	case err != nil:
		return queue.RetryAfter(StoreWait, fmt.Errorf("the ledger: %w", err))
	}
	return nil
}

// checkSafety fails a write that the lists of desktops do not allow. It delays a write while writes are stopped.
func (w *write) checkSafety(ctx context.Context) error {
	if w.Safety == nil {
		return nil
	}
	err := w.Safety.Check(ctx, w.c.DesktopIDs)
	if refused, ok := errors.AsType[*safety.NotAllowed](err); ok {
		failed := queue.Failed(events.KindNotAllowed, "%v", refused)
		if len(refused.Desktops) < len(w.c.DesktopIDs) { // one forbidden desktop fails the whole command
			failed.Failure.ErrorMsg += "; none of the command was done"
			failed.Failure.ErrorDetail = events.NotAllowedDetail + strings.Join(refused.Desktops, ", ")
		}
		return failed
	}
	return w.held(ctx, err)
}

// earlyFor is how long an early check counts for the commands that follow.
const earlyFor = time.Second

// checkEarly delays a write whose call would be held back, before anything is read for it. Each call has lastChecks of its
// own, so the commands of a second share one early check that found nothing.
func (w *write) checkEarly(ctx context.Context) error {
	begun := w.wall()
	if last := w.early.Load(); last != nil && begun.Sub(*last).Abs() < earlyFor {
		return nil
	}
	if err := w.checkLedger(ctx); err != nil {
		return err
	}
	if w.Safety != nil {
		if err := w.held(ctx, w.Safety.Stopped(ctx)); err != nil {
			return err
		}
	}
	w.early.Store(&begun)
	return nil
}

// held returns the reason why a write waits as a verdict; nil if err is nil.
func (w *write) held(ctx context.Context, err error) error {
	stop, ok := errors.AsType[*safety.Stop](err)
	switch {
	case ok && stop.Reason == safety.Frozen:
		return queue.RetryAfter(freezeWait, stop)
	case ok && stop.Reason == safety.Unreadable:
		w.Log.WarnContext(ctx, "no write begins while what could stop it cannot be read", "error", stop)
		if f, ok := errors.AsType[*safety.FileError](err); ok { // the sender of a command must not see the content of a list
			err = errors.New(f.Redacted())
		}
		return queue.RetryAfter(StoreWait, err)
	case err != nil:
		return queue.RetryAfter(StoreWait, err)
	}
	return nil
}
