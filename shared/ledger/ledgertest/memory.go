package ledgertest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"recompose/shared/ledger"
)

// Memory is a ledger.Store in memory, for the tests of functions. Like a real store it keeps no reference to what it is
// given.
type Memory struct {
	mu      sync.Mutex
	last    ledger.Revision
	records map[string]stored
	freeze  *ledger.Freeze
}

type stored struct {
	data []byte
	rev  ledger.Revision
}

var _ ledger.Store = (*Memory)(nil)

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{records: map[string]stored{}} }

// Get reads a record.
func (m *Memory) Get(ctx context.Context, key string) (ledger.Record, ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Record{}, 0, fmt.Errorf("read ledger record %s: %w", key, err)
	}
	m.mu.Lock()
	s, ok := m.records[key]
	m.mu.Unlock()
	if !ok {
		return ledger.Record{}, 0, ledger.ErrNotFound
	}
	var r ledger.Record
	if err := json.Unmarshal(s.data, &r); err != nil {
		return ledger.Record{}, 0, fmt.Errorf("read ledger record %s: %w", key, err)
	}
	return r, s.rev, nil
}

// Put stores a record in the place of the one with this revision.
func (m *Memory) Put(ctx context.Context, key string, r ledger.Record, old ledger.Revision) (ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[key].rev != old {
		return 0, fmt.Errorf("write ledger record %s: %w", key, ledger.ErrConflict)
	}
	m.last++
	m.records[key] = stored{data, m.last}
	return m.last, nil
}

// Len is how many records there are.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}
