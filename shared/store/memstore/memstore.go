// Package memstore keeps values in memory, for as long as the process lives.
package memstore

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"recompose/shared/store"
)

// Store is a store.Store. It copies values, and keeps no reference to a caller's bytes.
type Store struct {
	mu     sync.Mutex
	last   store.Revision
	values map[string]value
}

type value struct {
	data []byte
	rev  store.Revision
}

var _ store.Store = (*Store)(nil)

// New makes an empty store.
func New() *Store { return &Store{values: map[string]value{}} }

// Get reads a value.
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.values[key]
	if !ok {
		return nil, 0, fmt.Errorf("read %s: %w", key, store.ErrNotFound)
	}
	return bytes.Clone(there.data), there.rev, nil
}

// GetAll is Get of several keys.
func (s *Store) GetAll(ctx context.Context, keys ...string) []store.Value {
	values := make([]store.Value, len(keys))
	for i, key := range keys {
		v := &values[i]
		v.Data, v.Revision, v.Err = s.Get(ctx, key)
	}
	return values
}

// Put stores a value that replaces the one with this revision.
func (s *Store) Put(ctx context.Context, key string, data []byte, old store.Revision) (store.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[key].rev != old {
		return 0, fmt.Errorf("write %s: %w", key, store.ErrConflict)
	}
	s.last++
	s.values[key] = value{bytes.Clone(data), s.last}
	return s.last, nil
}

// Delete removes the value with this revision.
func (s *Store) Delete(ctx context.Context, key string, old store.Revision) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.values[key]
	if ok && there.rev != old {
		return fmt.Errorf("delete %s: %w", key, store.ErrConflict)
	}
	delete(s.values, key)
	return nil
}
