// Package memledger keeps ledger records in memory. They are lost when the process ends, and a command whose record is
// lost can act a second time: use it only with an emulator and in tests.
package memledger

import (
	"context"
	"fmt"

	"recompose/shared/ledger"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

// Store is a ledger.Store. Its methods are safe for concurrent use.
type Store struct{ values *memstore.Store }

var _ ledger.Store = (*Store)(nil)

// New makes an empty ledger.
func New() *Store { return &Store{memstore.New()} }

// Values returns the store that the ledger uses.
func (s *Store) Values() store.Store { return s.values }

// Get reads a record.
func (s *Store) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	return ledger.Read(ctx, s.values, key)
}

// Put stores a record that replaces the one with this revision.
func (s *Store) Put(ctx context.Context, key string, r ledger.Record, old store.Revision) (store.Revision, error) {
	data, err := ledger.Encode(r)
	if err != nil {
		return 0, fmt.Errorf("ledger record %s: %w", key, err)
	}
	rev, err := s.values.Put(ctx, key, data, old)
	if err != nil {
		return 0, fmt.Errorf("ledger record: %w", err)
	}
	return rev, nil
}

// Fit returns nil: records are lost only with the process.
func (s *Store) Fit(context.Context, string) error { return nil }

// Missing returns nil.
func (s *Store) Missing(context.Context, string, string) error { return nil }
