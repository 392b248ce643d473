package once

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/permit"
	"recompose/shared/queue"
)

// mayGo is asked directly before a call. An error means that the call may not be made: a queue.FailedError ends the
// command, any other error holds it back.
func (w *write) mayGo(ctx context.Context) error {
	if err := w.checkExpiry(); err != nil {
		return err
	}
	if err := w.remembered(ctx); err != nil {
		return err
	}
	if err := w.checkFreeze(ctx); err != nil { // after the ledger: who accepts a loss freezes writes first
		return err
	}
	return w.checkLists(ctx)
}

// checkExpiry fails a command that comes too late.
func (w *write) checkExpiry() error {
	now := w.Now()
	if e := w.c.Envelope.Expiry; !e.IsZero() && !now.Before(e) {
		return queue.Failed(events.KindExpired, "expirytime: passed at %s; send the command again if it is still wanted", e.Format(time.RFC3339))
	}
	if t := w.c.Envelope.Time; !t.IsZero() && now.Sub(t) > w.MaxAge {
		return queue.Failed(events.KindExpired, "time: the command or its cause is of %s, older than %v (RECOMPOSE_COMMAND_MAX_AGE); send it again if it is still wanted", t.Format(time.RFC3339), w.MaxAge)
	}
	return nil
}

// freezeWait is how long a write waits that finds the writes frozen.
const freezeWait = 30 * time.Second

// checkFreeze holds a write back while the writes are frozen.
func (w *write) checkFreeze(ctx context.Context) error {
	if w.Switch == nil {
		return nil
	}
	freeze, err := w.Switch.Frozen(ctx)
	switch {
	case err != nil:
		return queue.RetryAfter(StoreWait, fmt.Errorf("no write may begin: %w", err))
	case freeze != nil:
		return queue.RetryAfter(freezeWait, fmt.Errorf("writes are frozen by %s: %s", freeze.By, freeze.Reason))
	}
	return nil
}

// remembered holds a write back while the ledger may have lost what the command has done.
func (w *write) remembered(ctx context.Context) error {
	err := w.Store.Fit(ctx, w.c.Epoch)
	switch {
	case errors.Is(err, ledger.ErrLost):
		return queue.RetryAfter(freezeWait, err)
	case err != nil:
		return queue.RetryAfter(StoreWait, fmt.Errorf("the ledger: %w", err))
	}
	return nil
}

// checkLists fails a write that the lists do not allow, and holds one back while they cannot be read.
func (w *write) checkLists(ctx context.Context) error {
	if w.Lists == nil {
		return nil
	}
	refused, err := w.Lists.Refused(ctx, w.c.DesktopIDs)
	if err != nil {
		w.Log.WarnContext(ctx, "nothing is written while a list of desktops cannot be read", "error", err)
		if f, ok := errors.AsType[*permit.FileError](err); ok { // what stands in a list is for its owner
			err = errors.New(f.Place())
		}
		return queue.RetryAfter(StoreWait, fmt.Errorf("a list of desktops cannot be read: %w", err))
	}
	if len(refused) == 0 {
		return nil
	}
	failed := queue.Failed(events.KindNotAllowed, "the lists of desktops do not allow %s", few(refused))
	if len(refused) < len(w.c.DesktopIDs) { // all desktops of the command fail: none is rebuilt
		failed.Failure.ErrorMsg += "; none of the command was done"
		failed.Failure.ErrorDetail = "not allowed: " + strings.Join(refused, ", ")
	}
	return failed
}

// few names the first ids of a list.
func few(ids []string) string {
	const most = 5
	if len(ids) <= most {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:most], ", "), len(ids)-most)
}
