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
	Probe  time.Time `json:"probe"` // when the same credentials may be tried again
	Name   string    `json:"name"`  // of the credentials that were tried last
}

// Breaker is what the table knows of the credentials.
type Breaker struct {
	Break  *Break    // nil: closed
	Proved string    // names the credentials that the service took last, "" if none; it says nothing while the breaker is open
	Trying time.Time // when somebody last began to find out whether the service takes the credentials; zero: it was found out
}

// breakerItem is a Breaker as it is stored. Closed, it has no time at which it was opened.
type breakerItem struct {
	Break
	Proved string    `json:"proved,omitempty"`
	Trying time.Time `json:"trying,omitzero"`
}

// Breaker reads the breaker, strongly consistent. It blocks as Frozen does.
func (s *Store) Breaker(ctx context.Context) (Breaker, error) {
	i, _, err := s.breaker(ctx)
	b := Breaker{Proved: i.Proved, Trying: i.Trying}
	if !i.At.IsZero() {
		b.Break = &i.Break
	}
	return b, err
}

func (s *Store) breaker(ctx context.Context) (breakerItem, ledger.Revision, error) {
	var i breakerItem
	rev, err := s.get(ctx, breakerKey, &i)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		return breakerItem{}, 0, fmt.Errorf("read the breaker: %w", err)
	}
	return i, rev, nil
}

// OpenBreaker stops the calls of all functions of this table, unless they are stopped already, until CloseBreaker. What
// was proved before is proved no more. b.At must be given. It blocks until DynamoDB has stored it, at most five seconds a
// step or until ctx ends, and may be repeated.
func (s *Store) OpenBreaker(ctx context.Context, b Break) error {
	for {
		i, rev, err := s.breaker(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("open the breaker: %w", err)
		case !i.At.IsZero():
			return nil // the first one stands
		}
		if _, err = s.put(ctx, breakerKey, breakerItem{Break: b}, rev, time.Time{}); err == nil {
			return nil
		}
		if !errors.Is(err, ledger.ErrConflict) {
			return fmt.Errorf("open the breaker: %w", err)
		}
	}
}

// Probe asks for the one call that may be tried with the credentials of this name, of which it is not known whether the
// service takes them: true for one asker at a time, once the time for it has come or others were tried last, and then not
// again before next.
func (s *Store) Probe(ctx context.Context, name string, next time.Time) (bool, error) {
	i, rev, err := s.breaker(ctx)
	switch {
	case err != nil:
		return false, err
	case s.now().Before(i.Probe) && i.Name == name:
		return false, nil
	}
	i.Probe, i.Name, i.Trying = next, name, s.now().UTC()
	switch _, err := s.put(ctx, breakerKey, i, rev, time.Time{}); {
	case errors.Is(err, ledger.ErrConflict):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("take the probe of the breaker: %w", err)
	}
	return true, nil
}

// StillRefused tells that the probe found the credentials of this name refused, and that they may not be tried again before
// next. It blocks as Probe does; where the breaker is another by now, it changes nothing.
func (s *Store) StillRefused(ctx context.Context, name string, next time.Time) error {
	i, rev, err := s.breaker(ctx)
	if err != nil || i.Name != name {
		return err
	}
	i.Probe, i.Trying = next, time.Time{}
	if _, err := s.put(ctx, breakerKey, i, rev, time.Time{}); err != nil && !errors.Is(err, ledger.ErrConflict) {
		return fmt.Errorf("put the probe of the breaker off: %w", err)
	}
	return nil
}

// CloseBreaker lets calls go with the credentials that have this name: the service takes them. It blocks and may be
// repeated as OpenBreaker.
func (s *Store) CloseBreaker(ctx context.Context, proved string) error {
	if err := s.set(ctx, breakerKey, breakerItem{Proved: proved}); err != nil {
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
