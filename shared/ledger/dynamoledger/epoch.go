package dynamoledger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/store"
)

// A table that was recreated, emptied, or restored from a backup looks like a table with fewer records. So an item of
// the table holds the table's id and a random epoch, and the messages of the functions carry that epoch. A restored
// table has the item of another table; a new table has no item, and so not the epoch of the messages in flight.

const (
	epochKey       = "epoch"            // key of the epoch. No record can have this key
	epochAttribute = "Recompose-Ledger" // of a message; package queue uses the same name
	acceptWith     = "recompose setup --aws STACK --accept-ledger-loss"
)

// epochItem is the stored form of the epoch.
type epochItem struct {
	ledger.Epoch
	Loss *loss `json:"loss,omitempty"` // set: no write begins
}

type loss struct {
	Reason string    `json:"reason"`
	By     string    `json:"by,omitempty"` // the sandbox that found the loss
	At     time.Time `json:"at"`
	Other  []string  `json:"other,omitempty"` // known epochs that contradict the table
}

// life is what this process knows about the table.
type life struct {
	mu    sync.Mutex
	table string    // id; "" until it was read
	read  time.Time // when it was
	known string    // the last epoch that was found
	shown string    // the reason that was logged last
	unfit bool      // the last Fit failed
}

func (l *life) lastKnown() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known
}

func (l *life) found(epoch string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = epoch
}

// tableFor is how long the id of the table is relied on: to delete a table and to restore a copy under its name takes longer.
const tableFor = time.Minute

// tableID returns the id of the table. It is read once a minute, and when the table turns out to be another one.
func (s *Store) tableID(ctx context.Context, other string) (string, error) {
	now := s.now().Round(0) // the monotonic clock may stand still while the sandbox is frozen
	s.life.mu.Lock()
	id, age := s.life.table, now.Sub(s.life.read).Abs()
	s.life.mu.Unlock()
	if id != "" && (other == "" || id == other) && age < tableFor {
		return id, nil
	}
	id, err := s.values.TableID(ctx)
	if err != nil {
		return "", err
	}
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	s.life.table, s.life.read = id, now
	return id, nil
}

// read reads the item; zero if there is none. The error is store.ErrDamaged by errors.Is if the value is not an epoch
// item.
func (s *Store) read(ctx context.Context) (i epochItem, rev store.Revision, err error) {
	data, rev, err := s.values.Get(ctx, epochKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return i, 0, nil
	case err != nil:
		return i, rev, err
	}
	if err := json.Unmarshal(data, &i); err != nil {
		return epochItem{}, rev, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return i, rev, nil
}

func (s *Store) write(ctx context.Context, i epochItem, old store.Revision) error {
	data, err := json.Marshal(i)
	if err == nil {
		_, err = s.values.Put(ctx, epochKey, data, old)
	}
	return err
}

// Fit checks whether a write may begin; epoch is the one in the command's message. A table without an epoch gets one,
// once, unless a message or this process knows one. It blocks for some seconds at most, or until ctx ends.
func (s *Store) Fit(ctx context.Context, epoch string) error {
	reason, err := s.fit(ctx, epoch, "")
	s.life.mu.Lock()
	s.life.unfit = err != nil || reason != ""
	s.life.mu.Unlock()
	if err != nil {
		return fmt.Errorf("check whether the ledger is complete: %w", err)
	}
	return s.show(ctx, reason)
}

// Unfit reports whether the last Fit failed. It makes no call.
func (s *Store) Unfit() bool {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	return s.life.unfit
}

// Missing records that a record is missing although the message of an accepted job requires it. It blocks like Fit.
func (s *Store) Missing(ctx context.Context, key, epoch string) error {
	reason, err := s.fit(ctx, epoch, fmt.Sprintf("it has no record %s of a job that the service has accepted", key))
	if err != nil {
		return fmt.Errorf("report a missing record: %w", err)
	}
	return s.show(ctx, reason)
}

// fit returns what is wrong with the ledger, "" for nothing. missing is the missing record, unless its loss was
// accepted.
func (s *Store) fit(ctx context.Context, epoch, missing string) (string, error) {
	for {
		i, rev, err := s.read(ctx)
		switch {
		case errors.Is(err, store.ErrDamaged):
			return "item " + epochKey + ": " + err.Error(), nil
		case err != nil:
			return "", err
		}
		table, err := s.tableID(ctx, i.Store)
		if err != nil {
			return "", err
		}
		next, changed := s.judge(i, table, epoch, missing)
		if changed {
			if err = s.write(ctx, next, rev); errors.Is(err, store.ErrConflict) {
				continue
			} else if err != nil && next.Loss == nil { // a loss that was found counts also where the role may not record it
				if IsDenied(err) {
					err = fmt.Errorf("%w: %w", ledger.ErrNoEpoch, err)
				}
				return "", err
			}
		}
		s.life.found(next.ID)
		if next.Loss != nil {
			return next.Loss.Reason, nil
		}
		return "", nil
	}
}

// IsDenied reports whether AWS refused a call because a right is missing.
func IsDenied(err error) bool {
	api, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err)
	return ok && strings.HasPrefix(api.ErrorCode(), "AccessDenied")
}

// judge decides the new content of the item from all that is known.
func (s *Store) judge(i epochItem, table, epoch, missing string) (epochItem, bool) {
	if i.Loss != nil {
		return i, false
	}
	known := s.life.lastKnown()
	there := i.ID != ""
	if !there {
		i.Epoch = ledger.Epoch{ID: table + "/" + rand.Text(), Store: table}
	}
	reason, other := "", []string(nil)
	switch {
	case there && i.Store != table:
		reason = fmt.Sprintf("its id is %s, and its records come from the table %s: it is a restored copy", table, i.Store)
	case !i.Knows(known):
		reason = "its epoch is not the one that this function has seen before: it was emptied or recreated"
		other = []string{known}
	case !i.Knows(epoch):
		reason = fmt.Sprintf("a message carries the epoch %.100q, which this table does not have: it was emptied or recreated", epoch)
		other = []string{epoch}
	case missing != "" && !i.Accepted(epoch):
		reason = missing
	default:
		return i, !there
	}
	i.Loss = &loss{Reason: reason, By: s.worker, At: s.now().UTC(), Other: other}
	return i, true
}

// show logs a change, and turns a reason into an error.
func (s *Store) show(ctx context.Context, reason string) error {
	s.life.mu.Lock()
	changed := s.life.shown != reason
	s.life.shown = reason
	s.life.mu.Unlock()
	if reason == "" {
		if changed {
			s.log.InfoContext(ctx, "the ledger is complete; writes may begin", "table", s.values.Table())
		}
		return nil
	}
	err := &ledger.LostError{Reason: "table " + s.values.Table() + ": " + reason, Accept: acceptWith}
	if changed {
		s.log.ErrorContext(ctx, "no write begins: the ledger is incomplete", "table", s.values.Table(), "error", err)
	}
	return err
}

// Stamp returns the message attributes that identify the ledger; none before the first Fit.
func (s *Store) Stamp() map[string]string {
	if known := s.life.lastKnown(); known != "" {
		return map[string]string{epochAttribute: known}
	}
	return nil
}

// Epoch returns the id of the last epoch that was found; "" before the first Fit.
func (s *Store) Epoch() string {
	known := s.life.lastKnown()
	return known
}

// Accept begins a new epoch with the table in its present state: an accepted loss stops no write. It blocks until
// DynamoDB has stored the epoch, for some seconds at most or until ctx ends, and may be repeated.
func (s *Store) Accept(ctx context.Context) error {
	for {
		i, rev, err := s.read(ctx)
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return fmt.Errorf("accept the loss: %w", err)
		}
		table, err := s.tableID(ctx, i.Store)
		if err != nil {
			return fmt.Errorf("accept the loss: %w", err)
		}
		known := s.life.lastKnown()
		ended := []string{known}
		if i.Loss != nil {
			ended = append(ended, i.Loss.Other...)
		}
		next := epochItem{Epoch: ledger.Epoch{ID: table + "/" + rand.Text(), Store: table, Before: i.Ended(ended...)}}
		if err = s.write(ctx, next, rev); err == nil {
			s.life.found(next.ID)
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("accept the loss: %w", err)
		}
	}
}
