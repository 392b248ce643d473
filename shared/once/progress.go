package once

import (
	"context"
	"errors"

	"recompose/events"
	"recompose/shared/store"
)

// JobProgress records the progress of the job of a command, in percent. It returns true if this progress is new and
// must be published; a record without a job has none. It is recorded first, so it is published at most once.
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
