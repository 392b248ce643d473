package ledgertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/store"
)

// valued is a ledger that gives the store that it is in, which every ledger does.
type valued interface {
	ledger.Store
	Values() store.Store
}

func open(t *testing.T, ss Stores) valued {
	t.Helper()
	s, ok := ss.Open(t).(valued)
	require.True(t, ok, "every ledger gives its store")
	return s
}

// values keeps values of others beside the records: neither touches the other.
func values(t *testing.T, ss Stores) {
	s := open(t, ss)
	others := []string{"freeze", "breaker", "control/service", "lists.deny.G.0"}
	rev, err := s.Put(t.Context(), key, record(), 0)
	require.NoError(t, err)
	revs := map[string]store.Revision{}
	for _, other := range others {
		revs[other], err = s.Values().Put(t.Context(), other, []byte(`{"other":"`+other+`"}`), 0)
		require.NoError(t, err)
	}
	got, at, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, record(), got, "a freeze is no record and changes none")
	require.Equal(t, rev, at)
	rev, err = s.Put(t.Context(), key, ledger.Record{Owner: "later"}, rev)
	require.NoError(t, err, "records are changed while frozen: what has begun is recorded")
	for _, other := range others {
		value, at, err := open(t, ss).Values().Get(t.Context(), other)
		require.NoError(t, err)
		require.JSONEq(t, `{"other":"`+other+`"}`, string(value))
		require.Equal(t, revs[other], at)
		require.NoError(t, s.Values().Delete(t.Context(), other, at))
		_, _, err = s.Values().Get(t.Context(), other)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	got, at, err = s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, "later", got.Owner)
	require.Equal(t, rev, at)
	data, at, err := s.Values().Get(t.Context(), key)
	require.NoError(t, err)
	want, err := ledger.Encode(got)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(data), "a record is a value")
	require.Equal(t, rev, at)
	require.NoError(t, s.Fit(t.Context(), ""), "no record is lost")
}

// noRecord puts values where records are that are none: an absent or empty record would let its command act a second
// time.
func noRecord(t *testing.T, ss Stores) {
	s := open(t, ss)
	for _, text := range []string{
		`{}`, `null`, `[]`, `"text"`, `1`, `{`, "\x00", `{"digest":"d"}`, `{"fence":1}`, `{"digest":null,"fence":1}`,
		`{"digest":"d","fence":null}`, `{"digest":1,"fence":1}`, `{"digest":"d","fence":-1}`, `{"digest":"d","fence":"1"}`,
		`{"digest":"d","fence":1,"lease":"soon"}`, `{"digest":"d","fence":1,"job_id":{}}`, `{"digest":"d","fence":1} {}`,
		`{"reason":"storm","by":"ada@host","at":"2026-01-15T08:30:00Z"}`,
	} {
		k := events.Identity("ledgertest", text)
		rev, err := s.Values().Put(t.Context(), k, []byte(text), 0)
		require.NoError(t, err)
		r, _, err := s.Get(t.Context(), k)
		require.ErrorIs(t, err, store.ErrDamaged, text)
		require.NotErrorIs(t, err, store.ErrNotFound, text)
		require.Zero(t, r, text)
		_, err = s.Put(t.Context(), k, record(), 0)
		require.ErrorIs(t, err, store.ErrConflict, "%s: it is not absent", text)
		value, at, err := s.Values().Get(t.Context(), k)
		require.NoError(t, err)
		require.Equal(t, text, string(value))
		require.Equal(t, rev, at)
	}
}
