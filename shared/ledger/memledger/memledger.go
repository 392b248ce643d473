// Package memledger keeps ledger records in memory. What it knows is forgotten with it, and a command whose record is gone
// can act a second time: it is for an emulator, and for tests.
package memledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"recompose/shared/ledger"
)

// Store is a ledger.Store and a ledger.Switch. Like a store that outlives its process it keeps no reference to what it
// is given. Its methods may be used at the same time.
type Store struct {
	mu      sync.Mutex
	last    ledger.Revision
	records map[string]stored
	freeze  *ledger.Freeze
}

type stored struct {
	data []byte
	rev  ledger.Revision
}

var (
	_ ledger.Store  = (*Store)(nil)
	_ ledger.Switch = (*Store)(nil)
)

// New makes an empty store.
func New() *Store { return &Store{records: map[string]stored{}} }

// Get reads a record.
func (s *Store) Get(ctx context.Context, key string) (ledger.Record, ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Record{}, 0, fmt.Errorf("read ledger record %s: %w", key, err)
	}
	data, rev, err := s.Value(ctx, key)
	if err != nil {
		return ledger.Record{}, 0, err
	}
	var r ledger.Record
	if err := json.Unmarshal(data, &r); err != nil {
		return ledger.Record{}, 0, fmt.Errorf("read ledger record %s: %w", key, err)
	}
	return r, rev, nil
}

// Put stores a record in the place of the one with this revision.
func (s *Store) Put(ctx context.Context, key string, r ledger.Record, old ledger.Revision) (ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	return s.PutValue(ctx, key, data, old)
}

// Value reads a small value that is no ledger record.
func (s *Store) Value(ctx context.Context, key string) ([]byte, ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.records[key]
	if !ok {
		return nil, 0, ledger.ErrNotFound
	}
	return bytes.Clone(there.data), there.rev, nil
}

// PutValue stores a small value in the place of the one with this revision.
func (s *Store) PutValue(ctx context.Context, key string, value []byte, old ledger.Revision) (ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records[key].rev != old {
		return 0, fmt.Errorf("write %s: %w", key, ledger.ErrConflict)
	}
	s.last++
	s.records[key] = stored{bytes.Clone(value), s.last}
	return s.last, nil
}

// Fit finds that nothing is lost: what this store knows is lost only with its process.
func (s *Store) Fit(ctx context.Context, _ string) error { return ctx.Err() }

// Missing finds nothing lost, either.
func (s *Store) Missing(ctx context.Context, _, _ string) error { return ctx.Err() }

// Len is how many records there are.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// Frozen tells the freeze in force.
func (s *Store) Frozen(ctx context.Context) (*ledger.Freeze, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read whether writes are frozen: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.freeze == nil {
		return nil, nil
	}
	f := *s.freeze
	return &f, nil
}

// SetFreeze freezes writes.
func (s *Store) SetFreeze(ctx context.Context, f ledger.Freeze) error { return s.setFreeze(ctx, &f) }

// Thaw ends the freeze.
func (s *Store) Thaw(ctx context.Context) error { return s.setFreeze(ctx, nil) }

func (s *Store) setFreeze(ctx context.Context, f *ledger.Freeze) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("set the freeze: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freeze = f
	return nil
}
