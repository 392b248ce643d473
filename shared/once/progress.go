package once

import (
	"context"
	"errors"

	"recompose/events"
	"recompose/shared/store"
)

// JobProgress records how far the job of a command is, in percent, and reports whether to publish it: not if any worker
// recorded as much before, and not if the record has no job. Progress is recorded before it is published, so a quarter
// is never published twice; if the worker dies in between, it is not published, which does no harm.
func (e *Engine) JobProgress(ctx context.Context, command events.CommandRef, percent int) (bool, error) {
	key := events.Identity(command.Source, command.ID)
	r, rev, err := e.get(ctx, key)
	if err != nil || StateOf(r) != Accepted || percent <= r.Progress {
		return false, err
	}
	moved := r
	moved.Progress = percent
	switch _, err = e.put(ctx, key, r, jobMoved, moved, rev); {
	case errors.Is(err, store.ErrConflict): // another worker has recorded it, or the end
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}
