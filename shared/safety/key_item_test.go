package safety

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

func TestTheItemOfTheKey(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	p := &keyPlace{s, KeyKey}
	at := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	var probed store.Revision
	probe := func(name string) bool {
		rev, mine, err := p.takeProbe(t.Context(), name, at, at.Add(time.Minute))
		require.NoError(t, err)
		if mine {
			probed = rev
		}
		return mine
	}
	state := func() keyItem {
		got, _, err := p.read(t.Context())
		require.NoError(t, err)
		refusal, err := ReadRefusal(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, got.refused(), refusal != nil)
		return got
	}

	require.Zero(t, state())
	require.True(t, probe("key"), "the credentials were not used yet")
	require.False(t, probe("key"), "one at a time")
	require.Equal(t, keyItem{Probe: at.Add(time.Minute), Name: "key", Trying: at}, state())
	require.NoError(t, p.prove(t.Context(), "key", probed))
	require.Equal(t, keyItem{Proved: "key"}, state())

	first := keyItem{Refusal: Refusal{Reason: "401", By: "a", At: at}, Probe: at.Add(time.Minute), Name: "key"}
	require.NoError(t, p.refuse(t.Context(), first))
	second := keyItem{Refusal: Refusal{Reason: "401 too", By: "b", At: at}, Name: "key"}
	require.NoError(t, p.refuse(t.Context(), second))
	require.Equal(t, first, state(), "the first refusal stays, and there are no accepted credentials")
	refusal, err := ReadRefusal(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, &first.Refusal, refusal)

	require.False(t, probe("key"), "not yet")
	require.False(t, probe("key"), "not yet")
	at = at.Add(time.Minute)
	require.True(t, probe("key"))
	require.False(t, probe("key"), "one at a time")
	require.Equal(t, at, state().Trying)
	require.NoError(t, p.putOff(t.Context(), "key", at.Add(time.Hour)))
	require.Zero(t, state().Trying)
	require.False(t, state().At.IsZero())
	at = at.Add(59 * time.Minute)
	require.False(t, probe("key"), "the probe was postponed")
	require.True(t, probe("new"), "other credentials are used at once")
	require.False(t, probe("new"))
	require.NoError(t, p.putOff(t.Context(), "key", at.Add(time.Hour)))
	require.Equal(t, at, state().Trying, "the item now concerns other credentials")

	require.NoError(t, p.prove(t.Context(), "new", probed))
	require.NoError(t, p.prove(t.Context(), "new", probed), "it may be repeated")
	require.Equal(t, keyItem{Proved: "new"}, state())

	require.True(t, probe("key"))
	require.NoError(t, p.refuse(t.Context(), second))
	require.ErrorContains(t, p.prove(t.Context(), "key", probed), "401 too", "a refusal that was stored since the probe stays")
	require.False(t, state().At.IsZero())
}

func TestADamagedItemOfTheKey(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{`, ``, `[]`, `"text"`, `{"at":1}`, `{"probe":"soon"}`} {
		s := memstore.New()
		p := &keyPlace{s, KeyKey}
		_, err := s.Put(t.Context(), KeyKey, []byte(text), 0)
		require.NoError(t, err)
		_, err = ReadRefusal(t.Context(), s)
		require.ErrorIs(t, err, store.ErrDamaged, text)
		require.NotErrorIs(t, err, store.ErrNotFound)
		_, mine, err := p.takeProbe(t.Context(), "key", time.Now(), time.Now())
		require.ErrorIs(t, err, store.ErrDamaged, text)
		require.False(t, mine)
		require.ErrorIs(t, p.putOff(t.Context(), "key", time.Now()), store.ErrDamaged, text)
		require.NoError(t, p.refuse(t.Context(), keyItem{Refusal: Refusal{Reason: "401", At: time.Now()}}))
		refusal, err := ReadRefusal(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, "401", refusal.Reason)
	}
}
