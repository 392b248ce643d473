package ledgertest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
)

// Freezer is the switch with the two hands that turn it, which every store has.
type Freezer interface {
	ledger.Switch
	SetFreeze(ctx context.Context, f ledger.Freeze) error
	Thaw(ctx context.Context) error
}

func freezer(t *testing.T, ss Stores) Freezer {
	t.Helper()
	s, ok := ss.Open(t).(Freezer)
	require.True(t, ok, "every store has the switch")
	return s
}

func freezes(t *testing.T, ss Stores) {
	a, b := freezer(t, ss), freezer(t, ss)
	inForce := func() *ledger.Freeze {
		t.Helper()
		mine, err := a.Frozen(t.Context())
		require.NoError(t, err)
		theirs, err := b.Frozen(t.Context())
		require.NoError(t, err)
		require.Equal(t, mine, theirs, "all see the same")
		return mine
	}
	require.Nil(t, inForce(), "not frozen at first")
	require.NoError(t, a.Thaw(t.Context()), "thawed twice is thawed")
	first := ledger.Freeze{Reason: "an image is wrong: \x1b \"日本\"", By: "ada@host", At: time.Date(2026, 1, 15, 8, 30, 0, 5, time.UTC)}
	require.NoError(t, a.SetFreeze(t.Context(), first))
	require.Equal(t, &first, inForce())
	second := ledger.Freeze{Reason: "and another one", By: "bob@host", At: first.At.Add(time.Minute)}
	require.NoError(t, b.SetFreeze(t.Context(), second))
	require.NoError(t, b.SetFreeze(t.Context(), second))
	require.Equal(t, &second, inForce())
	require.NoError(t, a.Thaw(t.Context()))
	require.NoError(t, b.Thaw(t.Context()))
	require.Nil(t, inForce())
	require.NoError(t, a.SetFreeze(t.Context(), first), "and again")
	require.Equal(t, &first, inForce())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Frozen(ctx)
	require.ErrorIs(t, err, context.Canceled, "not knowing is an error, not a no")
	require.ErrorIs(t, a.SetFreeze(ctx, second), context.Canceled)
	require.ErrorIs(t, a.Thaw(ctx), context.Canceled)
	require.Equal(t, &first, inForce())
}

func frozenApart(t *testing.T, ss Stores) {
	s, f := ss.Open(t), freezer(t, ss)
	rev, err := s.Put(t.Context(), key, record(), 0)
	require.NoError(t, err)
	require.NoError(t, f.SetFreeze(t.Context(), ledger.Freeze{Reason: "r", By: "b"}))
	got, at, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, record(), got, "a freeze is no record and changes none")
	require.Equal(t, rev, at)
	rev, err = s.Put(t.Context(), key, ledger.Record{Owner: "later"}, rev)
	require.NoError(t, err, "records are changed while frozen: what has begun is recorded")
	require.NoError(t, f.Thaw(t.Context()))
	got, at, err = s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, "later", got.Owner)
	require.Equal(t, rev, at)
}

func frozenRestart(t *testing.T, ss Stores) {
	r, ok := ss.(Restarter)
	if !ok {
		return // it keeps nothing beyond the process, and does not say so
	}
	f := ledger.Freeze{Reason: "r", By: "b", At: time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)}
	require.NoError(t, freezer(t, ss).SetFreeze(t.Context(), f))
	r.Restart(t)
	got, err := freezer(t, ss).Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, &f, got)
}
