package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// ran puts the head of an earlier rollout whose batches took so many seconds.
func (w *world) ran(name string, took ...int) {
	w.t.Helper()
	var index Index
	if value := w.store[IndexKey].value; value != nil {
		require.NoError(w.t, json.Unmarshal(value, &index))
	}
	index.Names = append(index.Names, name)
	h := Head{Name: name, Phase: Completed, Took: took}
	h.Spec.Users.DelayTime = 15
	for key, v := range map[string]any{IndexKey: index, HeadKey(name): h} {
		raw, err := json.Marshal(v)
		require.NoError(w.t, err)
		w.store[key] = versioned{raw, w.store[key].revision + 1}
	}
}

func TestAForecastRestsOnTheBatchesOfEarlierRollouts(t *testing.T) {
	t.Parallel()
	oneWave := strategy(0, whole, 10, "20%")
	forecast := func(took ...int) (*Head, time.Duration) {
		w := calm(t, 10)
		if took != nil {
			w.ran("before", took...)
			before := string(w.store[HeadKey("before")].value)
			defer func() { require.Equal(t, before, string(w.store[HeadKey("before")].value)) }()
		}
		w.start("r", oneWave, nil)
		h := w.until("r", Running)
		return h, h.Forecast.End.Sub(h.PlannedAt)
	}
	h, none := forecast()
	require.Nil(t, h.Expected)
	_, few := forecast(3600, 3600)
	require.Equal(t, none, few, "two batches show nothing yet")
	h, slow := forecast(3600, 3600, 3600, 3600, 3600, 3600, 3600, 3600, 3600, 7200)
	require.Equal(t, &Expected{P50: 45 * 60, P90: 45 * 60}, h.Expected, "without the time that their users had")
	require.Equal(t, none-defaultP50+45*time.Minute, slow)
}

func TestAWindowIsComparedWithTheBatchesOfEarlierRollouts(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.ran("before", 3600, 3600, 3600)
	window := map[string]any{"window": map[string]any{"from": "20:00", "to": "20:40", "timezone": "UTC"}}
	start := w.start("r", window, nil)
	require.Contains(t, w.answer(start).Reason, "window: is open for 40m0s, and a batch may take 45m0s")
}

// The jobs of the model take 20 minutes at most, and their deadline is an hour.
func TestAnEndThatComesLateDoesNotMakeABatchSeemLonger(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]time.Duration{"lost": 0, "two hours late": 2 * time.Hour} {
		w := calm(t, 20)
		first := true
		w.drop = func(e Event) bool {
			late := first && e.Type == events.TypeJobCompleted
			if first = first && !late; late && later > 0 {
				w.deliver("r", later, e, false)
			}
			return late
		}
		w.start("r", strategy(0, []string{"50%", "100%"}, 20, "20%"), nil)
		h := w.until("r", Completed)
		require.Equal(t, Counts{Done: 20}, h.Counts())
		require.NotEmpty(t, h.Took, name)
		for _, seconds := range h.Took {
			require.Less(t, seconds, 21*60, name)
		}
	}
}
