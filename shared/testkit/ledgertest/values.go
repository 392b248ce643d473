package ledgertest

import (
	"context"
	"testing"

	"recompose/shared/store"

	"github.com/stretchr/testify/require"
)

// valueStore is what every store has for small values beside the records.
type valueStore interface {
	Value(ctx context.Context, key string) ([]byte, store.Revision, error)
	PutValue(ctx context.Context, key string, value []byte, old store.Revision) (store.Revision, error)
}

func values(t *testing.T, ss Stores) {
	const at = "control/test"
	a, ok := ss.Open(t).(valueStore)
	require.True(t, ok, "every store keeps values")
	b, _ := ss.Open(t).(valueStore)
	_, _, err := a.Value(t.Context(), at)
	require.ErrorIs(t, err, store.ErrNotFound)
	first, err := a.PutValue(t.Context(), at, []byte(`{"n":1}`), 0)
	require.NoError(t, err)
	_, err = b.PutValue(t.Context(), at, []byte(`{"n":2}`), 0)
	require.ErrorIs(t, err, store.ErrConflict, "it is made once")
	value, rev, err := b.Value(t.Context(), at)
	require.NoError(t, err)
	require.JSONEq(t, `{"n":1}`, string(value))
	require.Equal(t, first, rev)
	second, err := b.PutValue(t.Context(), at, []byte(`{"n":2}`), first)
	require.NoError(t, err)
	_, err = a.PutValue(t.Context(), at, []byte(`{"n":3}`), first)
	require.ErrorIs(t, err, store.ErrConflict, "it is changed only in the place of the one that was read")
	value, rev, err = a.Value(t.Context(), at)
	require.NoError(t, err)
	require.JSONEq(t, `{"n":2}`, string(value))
	require.Equal(t, second, rev)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = a.Value(ctx, at)
	require.ErrorIs(t, err, context.Canceled)
	_, err = a.PutValue(ctx, at, []byte(`{}`), second)
	require.ErrorIs(t, err, context.Canceled)
}
