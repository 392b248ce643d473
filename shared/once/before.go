package once

import (
	"context"
	"fmt"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
)

// What is asked directly before a write: is it too late, are writes frozen, is a desktop not allowed?

// expired tells whether it is too late for the command.
func (r Rules) expired(c queue.Command) *queue.FailedError {
	now, most := r.Now(), r.MaxAge
	if most == 0 {
		most = DefaultMaxAge
	}
	if e := c.Envelope.Expiry; !e.IsZero() && !now.Before(e) {
		return queue.Failed(events.KindExpired, "expirytime: passed at %s; send the command again if it is still wanted", e.Format(time.RFC3339))
	}
	if t := c.Envelope.Time; !t.IsZero() && now.Sub(t) > most {
		return queue.Failed(events.KindExpired, "time: the command or its cause is of %s, older than %v (RECOMPOSE_COMMAND_MAX_AGE); send it again if it is still wanted", t.Format(time.RFC3339), most)
	}
	return nil
}

// freezeWait is how long a write waits that finds the writes frozen.
const freezeWait = 30 * time.Second

// frozen keeps a write waiting while the writes are frozen.
func (r Rules) frozen(ctx context.Context) error {
	if r.Switch == nil {
		return nil
	}
	freeze, err := r.Switch.Frozen(ctx)
	if err != nil {
		return queue.RetryAfter(StoreWait, fmt.Errorf("read whether writes are frozen: %w", err))
	}
	if freeze == nil {
		return nil
	}
	return queue.RetryAfter(freezeWait, fmt.Errorf("writes are frozen by %s: %s", freeze.By, freeze.Reason))
}

// refusedByLists ends a write that the lists do not allow, and keeps one waiting while they cannot be read.
func (r Rules) refusedByLists(ctx context.Context, w Write, fail func(*queue.FailedError) *ledger.End) (*ledger.End, error) {
	if r.Lists == nil {
		return nil, nil
	}
	refused, err := r.Lists.Refused(ctx, w.DesktopIDs)
	if err != nil {
		if r.Writer.Log != nil {
			r.Writer.Log.WarnContext(ctx, "nothing is written while a list of desktops cannot be read", "error", err)
		}
		return nil, queue.RetryAfter(StoreWait, err)
	}
	if len(refused) == 0 {
		return nil, nil
	}
	failed := events.Failure{Kind: events.KindNotAllowed, ErrorMsg: "the lists of desktops do not allow " + few(refused)}
	if len(refused) < len(w.DesktopIDs) {
		failed.ErrorMsg += "; none of the command was done"
		failed.ErrorDetail = "not allowed: " + strings.Join(refused, ", ")
	}
	return fail(&queue.FailedError{Failure: failed}), nil // about all of them: none is rebuilt
}
