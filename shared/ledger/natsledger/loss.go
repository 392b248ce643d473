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
	lossKey    = "lost" // in the bucket: what a worker has found, for all workers. No record can have this key
	acceptWith = "recompose setup --accept-ledger-loss"
	watchEvery = time.Minute
)

// loss is what stands under lossKey.
type loss struct {
	Reason string `json:"reason"`
	By     string `json:"by,omitempty"`
	In     string `json:"in"`              // the epoch in which it was found
	Other  string `json:"other,omitempty"` // the epoch of a message that does not fit
}

// keep stores a loss in the bucket, because puts that are still to come could hide it. What it cannot store stays a doubt
// of this process, which the next comparison stores.
func (s *Store) keep(ctx context.Context, l loss, is bucket, must bounds) (string, error) {
	data, err := json.Marshal(l)
	if err != nil {
		return "", err
	}
	rev, err := s.values.Update(ctx, lossKey, data, is.lossAt)
	if errors.Is(err, store.ErrConflict) {
		return l.Reason, nil // another worker has just found the same
	}
	if err != nil {
		s.life.doubt(l.Reason)
		return "", fmt.Errorf("%s; that cannot be stored in the bucket: %w", l.Reason, err)
	}
	if is.has.seq >= must.seq || uint64(rev) <= must.seq {
		return l.Reason, nil
	}
	// The server that stores has more than the one that answered, which had lost its place and knew an older state.
	if is, err = s.look(ctx); err != nil {
		return "", err
	}
	is.loss = loss{}
	if reason, _ := judge(is, s.life.current(), must); reason != "" {
		return reason, nil
	}
	return "", errors.Join(errors.New("a server answered with an older state of the bucket"), s.values.Delete(ctx, lossKey, rev))
}

// deleted judges a record that somebody has deleted: only an accepted loss makes it none.
func (s *Store) deleted(ctx context.Context, key string, seq uint64) error {
	if err := s.Fit(ctx, ""); err != nil {
		return err
	}
	if seq <= s.life.current().Floor {
		return store.ErrNotFound
	}
	return s.lose(ctx, fmt.Sprintf("record %s was deleted; a command that is to be done once more needs a new id", key), "")
}

// Missing takes note that there is no record with the key, where the message of an accepted job requires one. It blocks
// as Fit does.
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
		return nil // the server that answered before had lost its place
	}
	return s.lose(ctx, fmt.Sprintf("it has no record %s of a job that the service has accepted", key), id)
}

// lose keeps a loss that a single record has shown.
func (s *Store) lose(ctx context.Context, reason, other string) error {
	is, err := s.look(ctx)
	if err != nil {
		return err
	}
	found := loss{Reason: reason, By: s.o.Worker, In: s.life.current().ID, Other: other}
	if reason, err = s.keep(ctx, found, is, bounds{}); err != nil {
		return err
	}
	return s.show(ctx, reason)
}

// Accept begins a new epoch with the bucket as it is: what the headers of events before it require counts no more. It
// blocks until the server has stored it, and may be repeated.
func (s *Store) Accept(ctx context.Context) error {
	s.life.comparing.Lock()
	defer s.life.comparing.Unlock()
	out, err := s.outside(ctx)
	if err != nil {
		return err
	}
	is, err := s.look(ctx)
	if err != nil {
		return err
	}
	if !is.there {
		return fmt.Errorf("bucket %s is not there: run recompose setup", s.bucket)
	}
	if is.damage != "" {
		if err := s.values.Delete(ctx, lossKey, is.lossAt); err != nil {
			return err
		}
	}
	next := epoch{Since: out.last, Floor: is.has.seq}
	next.ID, next.Store = is.made+"/"+rand.Text(), is.made
	next.Before = out.epoch.Ended(out.newest, is.loss.In, is.loss.Other)
	return s.remember(ctx, next)
}

// Epoch is the id of the epoch that was found last; "" before the first Fit.
func (s *Store) Epoch() string { return s.life.current().ID }

// Watch looks once a minute and after each reconnect whether the ledger fits, so that the log shows a loss before a write
// waits for it. It returns when ctx ends.
func (s *Store) Watch(ctx context.Context) {
	status := s.nc.StatusChanged(nats.CONNECTED)
	defer s.nc.RemoveStatusListener(status)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := s.Fit(ctx, ""); err != nil && !errors.Is(err, ledger.ErrLost) && ctx.Err() == nil {
			s.o.Log.DebugContext(ctx, "whether the ledger has all its records cannot be known now", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-status:
		case <-tick.C:
		}
	}
}
