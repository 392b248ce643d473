package natsledger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"recompose/shared/ledger"
	"recompose/shared/store"
)

const (
	lossKey    = "lost" // key of a loss that a worker has found, for all workers. No record can have this key
	acceptWith = "recompose setup --accept-ledger-loss"
	watchEvery = time.Minute
)

// loss is the value under lossKey.
type loss struct {
	Reason string `json:"reason"`
	By     string `json:"by,omitempty"`
	In     string `json:"in"`              // the epoch in which it was found
	Other  string `json:"other,omitempty"` // the epoch of a message that contradicts the bucket
}

// keep stores a loss in the bucket, because later puts could hide it. If it cannot be stored, this process records a
// doubt, which the next comparison stores.
func (s *Store) keep(ctx context.Context, l loss, state bucket, must bounds) (string, error) {
	data, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	rev, err := s.values.Update(ctx, lossKey, data, state.lossAt)
	if errors.Is(err, store.ErrConflict) {
		return l.Reason, nil // another worker has found the same loss at this moment
	}
	if err != nil {
		s.life.doubt(l.Reason)
		return "", fmt.Errorf("%s; store this loss in the bucket: %w", l.Reason, err)
	}
	if state.has.seq >= must.seq || uint64(rev) <= must.seq {
		return l.Reason, nil
	}
	// The server that stored the loss has more than the one that answered: that one had been replaced as leader and
	// returned an older state.
	if state, err = s.look(ctx); err != nil {
		return "", err
	}
	state.loss = loss{}
	if reason, _ := judge(state, s.life.current(), must); reason != "" {
		return reason, nil
	}
	return "", errors.Join(errors.New("a server answered with an older state of the bucket"), s.values.Delete(ctx, lossKey, rev))
}

// deleted judges a record that was deleted: it is absent only after an accepted loss.
func (s *Store) deleted(ctx context.Context, key string, seq uint64) error {
	if err := s.Fit(ctx, ""); err != nil {
		return err
	}
	if seq <= s.life.current().Floor {
		return store.ErrNotFound
	}
	return s.lose(ctx, fmt.Sprintf("record %s was deleted; send a command that must run once more under a new id", key), "")
}

// Missing records that a record is missing although the message of an accepted job requires it. It blocks like Fit.
func (s *Store) Missing(ctx context.Context, key, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 4*within)
	defer cancel()
	if err := s.Fit(ctx, id); err != nil {
		return err
	}
	if s.life.current().Accepted(id) {
		return nil
	}
	switch r, _, err := s.get(ctx, key); {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case r.JobID != "" || r.End != nil:
		return nil // the server that answered before was no longer the leader
	}
	return s.lose(ctx, fmt.Sprintf("it has no record %s of a job that the service has accepted", key), id)
}

// lose stores a loss that a single record has shown.
func (s *Store) lose(ctx context.Context, reason, other string) error {
	state, err := s.look(ctx)
	if err != nil {
		return err
	}
	found := loss{Reason: reason, By: s.o.Worker, In: s.life.current().ID, Other: other}
	if reason, err = s.keep(ctx, found, state, bounds{}); err != nil {
		return err
	}
	return s.show(ctx, reason)
}

// Accept begins a new epoch with the bucket in its present state: the headers of earlier events no longer require
// anything. It blocks until the server has stored the epoch, and may be repeated.
func (s *Store) Accept(ctx context.Context) error {
	s.life.comparing.Lock()
	defer s.life.comparing.Unlock()
	out, err := s.outside(ctx)
	if err != nil {
		return err
	}
	state, err := s.look(ctx)
	if err != nil {
		return err
	}
	if !state.there {
		return fmt.Errorf("bucket %s does not exist: run recompose setup", s.bucket)
	}
	if state.damage != "" {
		if err := s.values.Delete(ctx, lossKey, state.lossAt); err != nil {
			return err
		}
	}
	next := epoch{Since: out.last, Floor: state.has.seq, Rollouts: state.rollouts, RolloutsFloor: state.removed}
	next.ID, next.Store = state.made+"/"+rand.Text(), state.made
	next.Before = out.epoch.Ended(out.newest, state.loss.In, state.loss.Other)
	return s.remember(ctx, next)
}

// Epoch returns the id of the last epoch that was found; "" before the first Fit.
func (s *Store) Epoch() string { return s.life.current().ID }

// Watch checks once a minute and after each reconnect whether the ledger is complete, so that the log shows a loss
// before a write waits for it. It returns when ctx ends.
func (s *Store) Watch(ctx context.Context) {
	status := s.nc.StatusChanged(nats.CONNECTED)
	defer s.nc.RemoveStatusListener(status)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := s.Fit(ctx, ""); err != nil && !errors.Is(err, ledger.ErrLost) && ctx.Err() == nil {
			s.o.Log.DebugContext(ctx, "check of the ledger failed; it is retried", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-status:
		case <-tick.C:
		}
	}
}
