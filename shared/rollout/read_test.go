package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/store/memstore"
)

// A rollout whose tick was lost is woken, also if the list of those that live was lost with it.
func TestALostTickIsFoundWithoutTheListOfThoseThatLive(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	put := func(key string, value any) {
		raw, err := json.Marshal(value)
		require.NoError(t, err)
		_, err = s.Put(t.Context(), key, raw, 0)
		require.NoError(t, err)
	}
	late, err := Overdue(t.Context(), s, t0)
	require.NoError(t, err)
	require.Empty(t, late, "no rollout was ever started")
	put(IndexKey, Index{Names: []string{"ended", "lost", "late", "punctual"}})
	put(HeadKey("ended"), Head{Phase: Completed})
	put(HeadKey("lost"), Head{Phase: Running})
	put(HeadKey("late"), Head{Phase: Running, Tick: &Tick{At: t0.Add(-3 * time.Minute)}})
	put(HeadKey("punctual"), Head{Phase: Running, Tick: &Tick{At: t0.Add(-time.Minute)}})
	late, err = Overdue(t.Context(), s, t0)
	require.NoError(t, err)
	require.Equal(t, []string{"lost", "late"}, late)
	put(LiveKey, Live{Names: []string{"late", "punctual", "ended"}})
	late, err = Overdue(t.Context(), s, t0)
	require.NoError(t, err)
	require.Equal(t, []string{"late"}, late)
}
