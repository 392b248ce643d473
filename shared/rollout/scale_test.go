package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// large is a rollout of n desktops with many batches under way, and an event of one of them.
func large(t testing.TB, n int) (records map[string][]byte, e Event, now time.Time) {
	t.Helper()
	slots := make([]Slot, n)
	for i := range slots {
		id := fmt.Sprintf("%08d-0000-4000-8000-%012d", i, i)
		slots[i] = Slot{ID: id, Image: "old-" + id[:36-4], ImageType: "private", Status: "ACTIVE", Root: "v" + id}
	}
	raw, err := json.Marshal(map[string]any{
		"name": "r", "image": map[string]any{"image_id": "new", "image_type": "private"}, "targets": map[string]any{"where": map[string]any{"status": "ACTIVE"}},
		"strategy": map[string]any{"canary": 0, "waves": []string{"1%", "10%", "50%", "100%"}, "max_unavailable": 800, "max_failed": "0%", "soak": "0s"},
	})
	require.NoError(t, err)
	spec, err := ParseSpec(raw)
	require.NoError(t, err)
	h := Head{
		Name: "r", Phase: Running, Plan: 1, Spec: spec, Image: TargetImage{ID: "new", Type: "private"}, Waves: spec.Strategy.waves(n),
		Start: Origin{CommandRef: events.CommandRef{ID: "start", Source: "test"}, Correlation: "c"}, Claimed: t0.Add(-time.Hour),
	}
	for i := range h.Waves {
		h.Waves[i].Next, h.Waves[i].Plan = h.Waves[i].From, 1
	}
	st := &step{name: "r", in: map[string][]byte{}, records: map[string]any{}, head: &h}
	st.append("plan", slots)
	s := &simulation{name: "r", records: map[string][]byte{}, facts: Facts{Now: t0, Pace: 1}, head: &h, job: func(string) Job { return Job{State: JobUnderWay} }}
	for _, key := range st.keys {
		s.records[key], err = json.Marshal(st.records[key])
		require.NoError(t, err)
	}
	s.records[HeadKey("r")], err = json.Marshal(h)
	require.NoError(t, err)
	s.answer = newModel(slots, 10*time.Minute, 1, 0).answer
	s.add(t0, Event{})
	for {
		due := s.due[0]
		if counts := s.head.Counts(); due.event.Type == events.TypeJobCompleted && counts[Done] >= n/10 {
			return s.records, due.event, due.at
		}
		more, err := s.next()
		require.NoError(t, err)
		require.True(t, more)
		require.NotEqual(t, Halted, s.head.Phase, s.head.Reason)
	}
}

// cost carries out a step and counts what it reads and stores.
func cost(t testing.TB, records map[string][]byte, e Event, now time.Time) (read, bytes int, r Result) {
	in := map[string][]byte{HeadKey("r"): records[HeadKey("r")]}
	for {
		var err error
		r, err = Step("r", in, e, Facts{Now: now})
		require.NoError(t, err)
		if len(r.Missing) == 0 {
			break
		}
		for _, key := range r.Missing {
			in[key] = records[key]
		}
	}
	for _, value := range in {
		bytes += len(value)
	}
	for _, p := range r.Puts {
		bytes += len(p.Value)
	}
	return len(in), bytes, r
}

func TestTheCostOfAnEventDoesNotGrowWithTheFleet(t *testing.T) {
	t.Parallel()
	few, event, now := large(t, 1000)
	readFew, bytesFew, _ := cost(t, few, event, now)
	many, event, now := large(t, 100_000)
	readMany, bytesMany, r := cost(t, many, event, now)
	t.Logf("1,000: %d records, %d bytes; 100,000: %d records, %d bytes; head %d bytes", readFew, bytesFew, readMany, bytesMany, len(many[HeadKey("r")]))
	require.LessOrEqual(t, readMany, readFew+1)
	require.LessOrEqual(t, float64(bytesMany), 1.5*float64(bytesFew))
	require.NotEmpty(t, r.Puts)
	sizes := map[string]int{}
	for key, value := range many {
		sizes[key] = len(value)
	}
	for key, size := range sizes {
		require.LessOrEqual(t, size, 256<<10, key)
	}
	keys := slices.SortedFunc(func(yield func(string) bool) {
		for key := range sizes {
			if !yield(key) {
				return
			}
		}
	}, func(a, b string) int { return sizes[b] - sizes[a] })
	t.Log("largest record:", keys[0], sizes[keys[0]])
}

func BenchmarkStep(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		records, event, now := large(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				cost(b, records, event, now)
			}
		})
	}
}
