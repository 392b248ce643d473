// Package dynamoledger keeps ledger records in the table of a dynamostore, and detects the loss of records.
//
// The key of a record is a command's identity, "job/…" or "read/…". The item "epoch" identifies the table. All other
// items belong to other packages.
package dynamoledger

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/store"
	"recompose/shared/store/dynamostore"
)

// Keep is how long a record is kept after it was last put. If the same command is delivered after that, it could act a
// second time, unless its time shows that it is too old; no queue keeps a message nearly as long.
const Keep = 400 * 24 * time.Hour

// Options of a Store. Only Table is required.
type Options struct {
	dynamostore.Options // Now also decides when a record expires

	Worker string       // the name of this process in a report of lost records
	Log    *slog.Logger // nil: silent
}

// Store is a ledger.Store. Its methods are safe for concurrent use.
type Store struct {
	values *dynamostore.Store
	now    func() time.Time
	worker string
	log    *slog.Logger
	life   life
}

var _ ledger.Store = (*Store)(nil)

// New makes a store. It makes no call, so a cold start does not wait for it; the error names the missing setting.
func New(o Options) (*Store, error) {
	values, err := dynamostore.New(o.Options)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &Store{values: values, now: o.Now, worker: o.Worker, log: o.Log}, nil
}

// Values returns the store that the ledger uses.
func (s *Store) Values() store.Store { return s.values }

// Get reads a record with a strongly consistent read. It blocks for at most five seconds or until ctx ends.
func (s *Store) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	return ledger.Read(ctx, s.values, key)
}

// Put stores a record that replaces the one with this revision; zero: there must be none. It blocks until DynamoDB has
// stored it, for at most five seconds or until ctx ends.
//
// The error is store.ErrConflict by errors.Is if there is another record. After any other error the record may have
// been stored.
func (s *Store) Put(ctx context.Context, key string, r ledger.Record, old store.Revision) (store.Revision, error) {
	data, err := ledger.Encode(r)
	if err != nil {
		return 0, fmt.Errorf("ledger record %s: %w", key, err)
	}
	rev, err := s.values.PutUntil(ctx, key, data, old, s.now().Add(Keep))
	if err != nil {
		return 0, fmt.Errorf("ledger record: %w", err)
	}
	return rev, nil
}
