package dynamoledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"recompose/shared/ledger"
)

// Value reads a small JSON value that is no ledger record, strongly consistent. It blocks as Get does. The error is
// ledger.ErrNotFound by errors.Is if there is none, and ledger.ErrDamaged if it is no item of this store.
func (s *Store) Value(ctx context.Context, key string) ([]byte, ledger.Revision, error) {
	there, err := s.fetch(ctx, key)
	if errors.Is(err, errDamaged) {
		return nil, there.rev, fmt.Errorf("read %s: %w: %w", key, ledger.ErrDamaged, err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", key, err)
	}
	return []byte(there.data), there.rev, nil
}

// PutValue stores a small JSON value, as Put stores a record, and it never expires.
func (s *Store) PutValue(ctx context.Context, key string, value []byte, old ledger.Revision) (ledger.Revision, error) {
	rev, err := s.put(ctx, key, json.RawMessage(value), old, time.Time{})
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return rev, nil
}
