package ledgertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/store"
)

// valued is a ledger that returns the store that it uses; every ledger does.
type valued interface {
	ledger.Store
	Values() store.Store
}

func open(t *testing.T, ss Stores) valued {
	t.Helper()
	s, ok := ss.Open(t).(valued)
	require.True(t, ok, "every ledger returns its store")
	return s
}

// values stores other values beside the records, and checks that neither changes the other.
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
	require.Equal(t, record(), got, "a freeze is not a record and changes no record")
	require.Equal(t, rev, at)
	rev, err = s.Put(t.Context(), key, ledger.Record{Owner: "later"}, rev)
	require.NoError(t, err, "records change during a freeze: a write that has begun is recorded")
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
	require.JSONEq(t, string(want), string(data), "a record is a value of the store")
	require.Equal(t, rev, at)
	require.NoError(t, s.Fit(t.Context(), ""), "no record is lost")
}

// noRecord stores values that are not records under the keys of records. If the ledger read them as absent or empty,
// their commands would act a second time.
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
		require.ErrorIs(t, err, store.ErrConflict, "%s: the value is not absent", text)
		value, at, err := s.Values().Get(t.Context(), k)
		require.NoError(t, err)
		require.Equal(t, text, string(value))
		require.Equal(t, rev, at)
	}
}
