package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"recompose/shared/store"
)

// ErrNone reports that there is no rollout with a name.
var ErrNone = errors.New("there is no such rollout")

// ReadHead reads the head of a rollout. The error is ErrNone by errors.Is if there is none. It blocks until the store
// answers.
func ReadHead(ctx context.Context, s store.Store, name string) (*Head, error) {
	value, _, err := s.Get(ctx, HeadKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("rollout %s: %w", name, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("rollout %s: %w", name, err)
	}
	h := new(Head)
	if err := json.Unmarshal(value, h); err != nil {
		return nil, fmt.Errorf("rollout %s: %w", name, err)
	}
	return h, nil
}

// Names are the names of all rollouts, in order of their start, or of those that live. If the list of those that live was
// lost, it returns all.
func Names(ctx context.Context, s store.Store, live bool) ([]string, error) {
	key := IndexKey
	if live {
		key = LiveKey
	}
	value, _, err := s.Get(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound) && live:
		return Names(ctx, s, false)
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("the names of the rollouts: %w", err)
	}
	var index Index // Live has the same form
	if err := json.Unmarshal(value, &index); err != nil {
		return nil, fmt.Errorf("the names of the rollouts: %w", err)
	}
	return index.Names, nil
}

// Overdue are the names of the rollouts that are not over and whose tick is two minutes late: it was lost.
func Overdue(ctx context.Context, s store.Store, now time.Time) ([]string, error) {
	names, err := Names(ctx, s, true)
	if err != nil {
		return nil, err
	}
	var late []string
	for _, name := range names {
		h, err := ReadHead(ctx, s, name)
		switch {
		case errors.Is(err, ErrNone):
		case err != nil:
			return nil, err
		case h.over(): // no tick comes any more
		case h.Tick == nil || now.After(h.Tick.At.Add(2*time.Minute)):
			late = append(late, name)
		}
	}
	return late, nil
}
