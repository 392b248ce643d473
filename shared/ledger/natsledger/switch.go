package natsledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/ledger"
)

// freezeKey is where the freeze is. No record can have this key: those are 52 letters and digits, or begin with "job/".
const freezeKey = "freeze"

var _ ledger.Switch = (*Store)(nil)

// Frozen reads the freeze from the leader, as Get does; nil if there is none. It blocks until there is an answer, at
// most five seconds or until ctx ends. A freeze that cannot be read is an error, never nil. While a cluster elects a
// leader, one that has lost its place can say for a few seconds more that there is none.
func (s *Store) Frozen(ctx context.Context) (*ledger.Freeze, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	data, _, err := s.last(ctx, freezeKey)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read whether writes are frozen: %w", err)
	}
	var f ledger.Freeze
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("read whether writes are frozen: it is damaged: %w", err)
	}
	return &f, nil
}

// SetFreeze freezes all writes of this deployment, in the place of a freeze in force. It blocks until the server has
// stored it, at most five seconds or until ctx ends, and may be repeated. After an error it may have been stored.
func (s *Store) SetFreeze(ctx context.Context, f ledger.Freeze) error {
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if _, err := s.kv.Put(ctx, freezeKey, data); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	return nil
}

// Thaw ends the freeze. It blocks and may be repeated as SetFreeze; without a freeze it does nothing.
func (s *Store) Thaw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := s.kv.Delete(ctx, freezeKey); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}
