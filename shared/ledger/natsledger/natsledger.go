// Package natsledger keeps ledger records in the bucket of a natsstore, and detects the loss of records.
//
// For a moment, a leader of the bucket that has been replaced can return an older record. That is safe for this use:
// records only move forward, so whatever an older copy shows as done was done, and acting on missing progress takes a
// Put, which a quorum refuses.
package natsledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/ledger"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
)

// Options of a Store. The zero value works.
type Options struct {
	natsstore.Options

	Worker string       // the name of this worker in a report of lost records
	Log    *slog.Logger // default: silent
}

// Store is a ledger.Store. Its methods are safe for concurrent use.
type Store struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	values *natsstore.Store
	// rollouts is the bucket of rollouts, of which only the state is read.
	rollouts *natsstore.Store
	o        Options
	bucket   string
	events   string // the stream that keeps the epoch
	life     life
}

var _ ledger.Store = (*Store)(nil)

const within = 5 * time.Second // for one answer, unless the context ends earlier

// New opens the ledger, and creates its bucket if there is none. Many workers may call it at once. The error names how
// an existing bucket differs from a safe one, except for limits that could delete records: Fit reports those, and only
// Options.Mend removes them. The caller keeps ownership of the connection.
func New(ctx context.Context, nc *nats.Conn, o Options) (*Store, error) {
	values, err := natsstore.Open(ctx, nc, o.Options)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	rollouts, err := natsstore.Open(ctx, nc, natsstore.Options{Deployment: o.Deployment, Bucket: natsstore.Rollouts, Direct: true})
	if err != nil {
		return nil, fmt.Errorf("open the bucket of rollouts: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(within))
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &Store{
		nc: nc, js: js, values: values, rollouts: rollouts, o: o, bucket: values.Bucket(),
		events: natsstore.InDeployment(o.Deployment, "RECOMPOSE_EVENTS"),
	}, nil
}

// Values returns the store that the ledger uses.
func (s *Store) Values() store.Store { return s.values }

// Get reads a record from the leader. It blocks for at most five seconds or until ctx ends.
func (s *Store) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	r, rev, err := s.get(ctx, key)
	if err != nil {
		return ledger.Record{}, 0, fmt.Errorf("ledger record %s: %w", key, err)
	}
	return r, rev, nil
}

func (s *Store) get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	data, rev, err := s.values.Get(ctx, key)
	if deleted, ok := errors.AsType[*natsstore.DeletedError](err); ok {
		err = s.deleted(ctx, key, uint64(deleted.Mark))
	}
	if err != nil {
		return ledger.Record{}, 0, err
	}
	s.life.saw(uint64(rev))
	r, err := ledger.Decode(data)
	return r, rev, err
}

// Put stores a record that replaces the one with this revision; zero: there must be none. It blocks until the server
// has stored it, for at most five seconds or until ctx ends.
//
// The error is store.ErrConflict by errors.Is if there is another record. After any other error the record may have
// been stored. A put that shows a loss of the bucket still succeeds, and Fit reports the loss.
func (s *Store) Put(ctx context.Context, key string, r ledger.Record, old store.Revision) (store.Revision, error) {
	data, err := ledger.Encode(r)
	if err == nil && s.life.current().ID == "" { // a put before the first comparison could hide a loss
		if err = s.Fit(ctx, ""); errors.Is(err, ledger.ErrLost) {
			err = nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("ledger record %s: %w", key, err)
	}
	floor, isNew := s.life.highest(), old == 0
	rev, err := s.values.Update(ctx, key, data, old)
	if isNew && errors.Is(err, store.ErrConflict) {
		_, _, there := s.values.Get(ctx, key)
		deleted, ok := errors.AsType[*natsstore.DeletedError](there)
		if ok && uint64(deleted.Mark) <= s.life.current().Floor { // its loss was accepted
			isNew = false // the key exists, with a delete marker
			rev, err = s.values.Update(ctx, key, data, deleted.Mark)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("ledger record: %w", err)
	}
	s.life.stored(uint64(rev), floor, isNew)
	return rev, nil
}
