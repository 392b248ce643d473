package ledgertest

import (
	"context"
	"encoding/json"
	"sync"

	"recompose/shared/ledger"
)

// Memory is a ledger.Store that forgets everything with its process.
type Memory struct {
	mu      sync.Mutex
	records map[string]stored
	last    ledger.Revision
}

type stored struct {
	data []byte // JSON, so that a record comes back as it does from any other store
	rev  ledger.Revision
}

// NewMemory makes an empty store.
func NewMemory() *Memory { return &Memory{records: map[string]stored{}} }

// Get reads a record.
func (m *Memory) Get(ctx context.Context, key string) (ledger.Record, ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return ledger.Record{}, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.records[key]
	if !ok {
		return ledger.Record{}, 0, ledger.ErrNotFound
	}
	var r ledger.Record
	err := json.Unmarshal(s.data, &r)
	return r, s.rev, err
}

// Put stores a record in the place of the one with revision old.
func (m *Memory) Put(ctx context.Context, key string, r ledger.Record, old ledger.Revision) (ledger.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[key].rev != old {
		return 0, ledger.ErrConflict
	}
	m.last++
	m.records[key] = stored{data: data, rev: m.last}
	return m.last, nil
}
