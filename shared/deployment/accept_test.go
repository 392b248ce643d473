package deployment

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

// lostBook is a ledger that has lost records until that is accepted. Its events cannot be published while down.
type lostBook struct {
	values    *memstore.Store
	accepted  bool
	down      bool
	published []string // ids
}

func (b *lostBook) Epoch() string       { return "e" }
func (b *lostBook) Values() store.Store { return b.values }

func (b *lostBook) Fit(context.Context, string) error {
	if b.accepted {
		return nil
	}
	return &ledger.LostError{Reason: "it is gone"}
}

func (b *lostBook) Accept(context.Context) error {
	b.accepted = true
	return nil
}

func (b *lostBook) Publish(_ context.Context, e events.Envelope) error {
	if b.down {
		return errors.New("no answer")
	}
	b.published = append(b.published, e.ID)
	return nil
}

// A loss is accepted only after writes are frozen and the event is published; it may be repeated.
func TestALossIsAcceptedAfterTheFreeze(t *testing.T) {
	t.Parallel()
	b := &lostBook{values: memstore.New(), down: true}
	a := Acceptance{Ledger: b, Operators: &safety.Operators{Store: b.values}, Events: b, By: "ada@host"}
	lost := &ledger.LostError{Reason: "it is gone"}
	_, err := a.Loss(t.Context(), lost)
	require.ErrorAs(t, err, new(UncertainError))
	require.ErrorContains(t, err, "accept the loss: no answer\nIt is safe to repeat")
	require.False(t, b.accepted)
	f, err := a.Operators.Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, "ada@host", f.By, "writes are frozen first")

	b.down = false
	second, err := a.Loss(t.Context(), lost)
	require.NoError(t, err)
	require.Equal(t, f, second, "the freeze stays")
	require.True(t, b.accepted)
	_, err = a.Loss(t.Context(), lost)
	require.NoError(t, err)
	require.Len(t, b.published, 2)
	require.Equal(t, b.published[0], b.published[1], "one event")
}
