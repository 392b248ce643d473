package dynamoledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"recompose/shared/ledger"
)

// Keys of the two switches. No record can have them: those are 52 letters and digits, or begin with "job/".
const (
	freezeKey  = "freeze"
	breakerKey = "breaker"
)

// Frozen reads the freeze, strongly consistent; nil if there is none. It blocks until there is an answer, at most five
// seconds or until ctx ends. A freeze that cannot be read is an error, never nil.
func (s *Store) Frozen(ctx context.Context) (*ledger.Freeze, error) {
	var f ledger.Freeze
	_, err := s.get(ctx, freezeKey, &f)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read whether writes are frozen: %w", err)
	}
	return &f, nil
}

// SetFreeze freezes all writes of this table's functions, in the place of a freeze in force. It blocks until DynamoDB
// has stored it, at most five seconds or until ctx ends, and may be repeated. After an error it may have been stored.
func (s *Store) SetFreeze(ctx context.Context, f ledger.Freeze) error {
	if err := s.set(ctx, freezeKey, f); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	return nil
}

// Thaw ends the freeze. It blocks and may be repeated as SetFreeze; without a freeze it does nothing.
func (s *Store) Thaw(ctx context.Context) error {
	if err := s.remove(ctx, freezeKey); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// Break is why no function calls the service for now: it refused the credentials, and five refusals in a row would lock
// the access key.
type Break struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"`    // the sandbox that was refused
	At     time.Time `json:"at"`    // since when, UTC
	Probe  time.Time `json:"probe"` // when one call may be tried again
}

// Broken reads the breaker, strongly consistent; nil if it is closed and calls may be made. It blocks as Frozen does.
func (s *Store) Broken(ctx context.Context) (*Break, error) {
	b, _, err := s.broken(ctx)
	return b, err
}

func (s *Store) broken(ctx context.Context) (*Break, ledger.Revision, error) {
	var b Break
	rev, err := s.get(ctx, breakerKey, &b)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("read the breaker: %w", err)
	}
	return &b, rev, nil
}

// OpenBreaker stops the calls of all functions of this table, unless they are stopped already, until CloseBreaker. It
// blocks until DynamoDB has stored it, at most five seconds or until ctx ends, and may be repeated.
func (s *Store) OpenBreaker(ctx context.Context, b Break) error {
	_, err := s.put(ctx, breakerKey, b, 0, time.Time{})
	if err != nil && !errors.Is(err, ledger.ErrConflict) {
		return fmt.Errorf("open the breaker: %w", err)
	}
	return nil
}

// Probe asks for the one call that may be tried while the breaker is open: true for one asker at a time, once the time
// for it has come, and then not again before next. It is true for everybody while the breaker is closed.
func (s *Store) Probe(ctx context.Context, next time.Time) (bool, error) {
	b, rev, err := s.broken(ctx)
	switch {
	case err != nil:
		return false, err
	case b == nil:
		return true, nil
	case s.now().Before(b.Probe):
		return false, nil
	}
	b.Probe = next
	switch _, err := s.put(ctx, breakerKey, b, rev, time.Time{}); {
	case errors.Is(err, ledger.ErrConflict):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("take the probe of the breaker: %w", err)
	}
	return true, nil
}

// CloseBreaker lets calls go again. It blocks and may be repeated as OpenBreaker.
func (s *Store) CloseBreaker(ctx context.Context) error {
	if err := s.remove(ctx, breakerKey); err != nil {
		return fmt.Errorf("close the breaker: %w", err)
	}
	return nil
}

// set stores v whatever there is.
func (s *Store) set(ctx context.Context, key string, v any) error {
	item, err := encode(key, v, 1, time.Time{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err = s.db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: item})
	return err
}

func (s *Store) remove(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := s.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &s.table,
		Key: map[string]types.AttributeValue{attrKey: text(key)}})
	return err
}
