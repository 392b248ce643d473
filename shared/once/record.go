package once

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/store"
)

// StoreWait is how long a command waits if its record cannot be read or written.
const StoreWait = 15 * time.Second

// get reads a record; the zero record if there is none. The error is a verdict that retries the command.
func (e *Engine) get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	r, rev, err := e.Store.Get(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ledger.Record{}, 0, nil
	case errors.Is(err, store.ErrDamaged): // it may be the record of a call, so nothing ends the wait by itself
		e.Log.ErrorContext(ctx, "a record of the ledger is damaged: its command waits until the record is restored", "key", key, "error", err)
	}
	if err != nil {
		return r, rev, queue.Hold(StoreWait, fmt.Errorf("the ledger: %w", err))
	}
	return r, rev, nil
}

// put stores a changed record. A change that is not in the table of transitions is an error. The error is
// store.ErrConflict if another worker changed the record first; a failed write is a verdict.
func (e *Engine) put(ctx context.Context, key string, from ledger.Record, on Event, to ledger.Record, old store.Revision) (store.Revision, error) {
	if err := inTable(from, on, to); err != nil {
		return 0, err
	}
	e.Log.DebugContext(ctx, "a record changes", "key", key, "from", StateOf(from), "on", on, "to", StateOf(to))
	rev, err := e.Store.Put(ctx, key, to, old)
	if err == nil {
		return rev, nil
	}
	// The put may have been stored though its answer was lost; that is no conflict with another worker.
	if stored, rev, read := e.Store.Get(ctx, key); read == nil && rev > old && same(stored, to) {
		return rev, nil
	}
	if errors.Is(err, store.ErrConflict) {
		return 0, err
	}
	e.Log.WarnContext(ctx, "a record of the ledger cannot be stored; retrying", "key", key, "error", err)
	return 0, queue.RetryAfter(StoreWait, fmt.Errorf("the ledger: %w", err))
}

// move changes the record of the command.
func (w *write) move(ctx context.Context, on Event, to ledger.Record) error {
	rev, err := w.put(ctx, w.c.Identity(), w.record, on, to, w.rev)
	if err == nil {
		w.record, w.rev = to, rev
	}
	return err
}

// settle changes the record to the outcome of a call. The call cannot be undone, so it retries until ctx ends.
func (w *write) settle(ctx context.Context, on Event, to ledger.Record) error {
	_, err := backoff.Retry(ctx, func() (any, error) {
		err := w.move(ctx, on, to)
		if errors.Is(err, store.ErrConflict) {
			err = backoff.Permanent(err)
		}
		return nil, err
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()))
	if err != nil && ctx.Err() != nil { // the retries report the end of ctx instead of the store's error
		return queue.RetryAfter(StoreWait, fmt.Errorf("the ledger: %w", err))
	}
	return err
}

// same compares records as they are stored.
func same(a, b ledger.Record) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// claimJob makes a job the command's own; false if another command has it.
func (w *write) claimJob(ctx context.Context, jobID string) (bool, error) {
	claim := jobKey(jobID)
	_, err := w.Store.Put(ctx, claim, ledger.Record{JobID: jobID, Owner: w.c.Identity()}, 0)
	if err == nil {
		return true, nil
	}
	stored, _, read := w.Store.Get(ctx, claim)
	switch {
	case read == nil:
		return stored.Owner == w.c.Identity(), nil
	case errors.Is(err, store.ErrConflict):
		err = read
	}
	return false, queue.RetryAfter(StoreWait, fmt.Errorf("claim job %s: %w", jobID, err))
}

// isOthers reports whether another command has the job.
func (w *write) isOthers(ctx context.Context, jobID string) (bool, error) {
	r, _, err := w.get(ctx, jobKey(jobID))
	return r.Owner != "" && r.Owner != w.c.Identity(), err
}

// jobKey is the key of the record that names the owner of a job. The id is hashed, because it may
// contain any characters.
func jobKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "job/" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}
