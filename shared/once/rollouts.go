package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/rollout/fence"
	"recompose/shared/store"
)

// checkRollouts reads the rollouts directly before a call. The command of a batch ends if its rollout no longer wants
// it. Any other command ends if a rollout holds one of its desktops. While the records cannot be read, it waits.
func (w *write) checkRollouts(ctx context.Context) error {
	var err error
	switch {
	case w.c.Batch:
		err = w.checkBatch(ctx)
	case w.Rollouts != nil && !w.c.Override:
		err = w.checkClaims(ctx)
	}
	if _, failed := queue.AsFailed(err); err == nil || failed {
		return err
	}
	w.Log.WarnContext(ctx, "no write begins while the records of rollouts cannot be read", "error", err)
	return queue.RetryAfter(StoreWait, fmt.Errorf("the records of rollouts: %w", err))
}

// checkBatch fails the command of a batch that may no longer begin.
func (w *write) checkBatch(ctx context.Context) error {
	var head []byte
	ref, err := events.ParseRolloutRef(w.c.Envelope.Rollout)
	if err == nil && w.Rollouts != nil {
		if head, _, err = w.Rollouts.Get(ctx, fence.HeadKey(ref.Name)); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	err = fence.MayStart(head, w.c.Envelope.Rollout)
	if stale, is := errors.AsType[*fence.StaleError](err); is {
		return queue.Failed(events.KindExpired, "rollout: %v; the command did nothing", stale)
	}
	return err
}

// checkClaims fails a command of which a rollout holds a desktop, other than the command's own fence.
func (w *write) checkClaims(ctx context.Context) error {
	data, _, err := w.Rollouts.Get(ctx, fence.LiveKey)
	live, err := recordOf[fence.Live](store.Value{Data: data, Err: err})
	if err != nil || data != nil && len(live.Names) == 0 { // without the record it is not known which rollouts live
		return err
	}
	own, _ := events.ParseRolloutRef(w.c.Envelope.Rollout) // a rollout captures a desktop that it holds
	ids, held := w.record.Detail.DesktopIDs, map[string][]string{}
	holders := map[string]string{}
	for _, v := range w.Rollouts.GetAll(ctx, fence.ClaimKeys(ids)...) {
		claims, err := recordOf[fence.Claims](v)
		if err != nil {
			return err
		}
		maps.Copy(holders, claims.Desktops)
	}
	for _, id := range ids {
		if name := holders[fence.Fold(id)]; name != "" && name != own.Name {
			held[name] = append(held[name], id)
		}
	}
	if len(held) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(held))
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = fence.HeadKey(name)
	}
	var texts, details []string
	for i, v := range w.Rollouts.GetAll(ctx, keys...) {
		head, err := recordOf[struct {
			Phase string `json:"phase"`
		}](v)
		if err != nil {
			return err
		}
		if !fence.Over(head.Phase) { // a claim of a rollout that is over is void
			texts = append(texts, fence.HeldText(names[i], held[names[i]]))
			details = append(details, names[i]+": "+strings.Join(held[names[i]], ", "))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	failed := queue.Failed(events.KindConflict, "%s; none of the command was done", strings.Join(texts, "; "))
	failed.Failure.ErrorDetail = "held by rollouts: " + strings.Join(details, "; ")
	return failed
}

// recordOf decodes a record of a rollout; zero if there is none.
func recordOf[R any](v store.Value) (r R, err error) {
	switch {
	case errors.Is(v.Err, store.ErrNotFound):
		return r, nil
	case v.Err != nil:
		return r, v.Err
	}
	err = json.Unmarshal(v.Data, &r)
	return r, err
}
