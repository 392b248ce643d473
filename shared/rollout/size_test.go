package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

const mostBytes = 256 << 10 // of a record; a put in a world checks it, too

func TestTheIndexForgetsTheOldestRolloutsThatAreOver(t *testing.T) {
	t.Parallel()
	w := calm(t, 3)
	var names []string
	for i := range maxIndexed + 100 {
		names = append(names, fmt.Sprintf("%040d", i))
	}
	store := func(key string, v any) {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		w.store[key] = versioned{raw, 1}
	}
	store(IndexKey, Index{Names: names})
	store(LiveKey, Live{Names: []string{names[0], names[7]}})
	w.start("r", nil, nil)
	w.until("r", Running)
	var index Index
	require.NoError(t, json.Unmarshal(w.store[IndexKey].value, &index))
	require.Len(t, index.Names, maxIndexed)
	require.Equal(t, []string{names[0], names[7], names[103]}, index.Names[:3], "those that live stay")
	require.Equal(t, "r", index.Names[maxIndexed-1])
	require.LessOrEqual(t, len(w.store[IndexKey].value), mostBytes)
}

// Each of these desktops had an image of its own.
func TestARollbackOverManyImagesHasFewWaves(t *testing.T) {
	t.Parallel()
	const n = 1100
	w := calm(t, n)
	for i, id := range w.ids {
		w.desktops[id].image = fmt.Sprintf("an-image-with-a-long-name-%04d", i)
		w.desktops[id].base = w.desktops[id].image
	}
	w.start("r", strategy(2, whole, 1000, "20%"), nil)
	require.Equal(t, Counts{Done: n}, w.until("r", Completed).Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	w.until("r", RollingBack)
	most := 0
	w.onStep = func(h *Head) { most = max(most, len(h.Open)) }
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[BackDone] > 10 }))
	h := w.head("r")
	require.Len(t, h.Waves, 4, "canary and wave, there and back")
	require.Equal(t, 2, h.Waves[2].To-h.Waves[2].From, "the canary of the rollback")
	require.Equal(t, maxOpen, most)
	require.LessOrEqual(t, len(w.store[HeadKey("r")].value), mostBytes)
	w.audit("r")
}

func TestABatchOfARollbackHasOneImage(t *testing.T) {
	t.Parallel()
	w := calm(t, 90) // of three images
	w.start("r", strategy(0, whole, 90, "20%"), nil)
	w.until("r", Completed)
	var sizes []int
	w.onAccepted = func(c *call) {
		var d events.Rebuild
		require.NoError(t, json.Unmarshal(c.message.Data, &d))
		sizes = append(sizes, len(d.DesktopIDs))
		for _, id := range d.DesktopIDs {
			require.Equal(t, w.desktops[id].base, d.ImageID)
		}
	}
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, Counts{BackDone: 90}, w.until("r", RolledBack).Counts())
	slices.Sort(sizes)
	require.Equal(t, []int{30, 30, 30}, sizes)
}

func TestTheEventsInAHeadAreLimitedInSize(t *testing.T) {
	t.Parallel()
	h := &Head{Name: "r", Phase: Running, Start: Origin{Correlation: "c"}}
	s := &step{name: "r", head: h, Facts: Facts{Now: t0}}
	for range 2 * logSize {
		s.report(events.TypeRolloutHalted, nil, func(r *events.Rollout) {
			for range 20 {
				r.Desktops = append(r.Desktops, events.RolloutDesktop{DesktopID: strings.Repeat("d", 36), Reason: strings.Repeat("x", 160)})
			}
		})
	}
	raw, err := json.Marshal(h)
	require.NoError(t, err)
	require.LessOrEqual(t, len(raw), maxLog+10<<10)
	require.GreaterOrEqual(t, len(h.Log), 10)
}

func TestARolloutWithTooManyWavesIsNotRetriedOnceMore(t *testing.T) {
	t.Parallel()
	s := &step{name: "r", head: &Head{Name: "r", Phase: Completed, Waves: make([]Wave, maxWavesInHead)}}
	why := s.check(Verb{CommandRef: events.CommandRef{Type: events.TypeRolloutRetry}})
	require.Contains(t, why, "the rollout has 250 waves, which is the most; start another one for its desktops")
}

func TestAPlanShowsTheFirstDesktopsOfALargeCanary(t *testing.T) {
	t.Parallel()
	w := calm(t, 300)
	w.start("r", strategy(250, whole, 300, "20%"), nil)
	h := w.until("r", Running)
	require.Len(t, h.Canary, maxPicks)
	require.Equal(t, 250, h.Waves[0].To)
	p := PlanSummary{Canary: h.Canary, Waves: []WaveStatus{h.waveStatus(0)}}
	lines := ""
	for _, l := range p.Lines(t0) {
		lines += l.String() + "\n"
	}
	require.Contains(t, lines, "and 150 more")
}

// The head of a rollout with as many waves, open batches, verbs and events as it may have.
func TestTheLargestHeadFits(t *testing.T) {
	t.Parallel()
	now := t0.Add(123456789)
	h := &Head{
		Name: strings.Repeat("r", 40), Phase: RollingBack, Start: Origin{Correlation: strings.Repeat("c", 36)}, Excluded: 5000,
		Seen: map[string]int64{}, Open: map[int]Open{}, Accepted: map[int]int{},
	}
	s := &step{name: "r", head: h, Facts: Facts{Now: now}}
	for i := range maxWavesInHead {
		h.Waves = append(h.Waves, Wave{
			Kind: BackWave, From: 100_000, To: 100_000, Next: 100_000, Plan: i, NotBefore: now, Started: now, Ended: now, Judged: now,
			Promoted: true, Image: strings.Repeat("i", 36), ImageType: "private",
		})
		h.Ranges = append(h.Ranges, Range{"0123456789", 100_000, 100_000})
		h.Sums = append(h.Sums, map[int]Counts{i: {Done: 50, Failed: 10, Skipped: 10, moved: 30, Unverified: 10}})
		h.Accepted[i] = 100
	}
	for i := range maxSeen {
		h.Seen[fmt.Sprintf("%016d", i)] = now.Unix()
	}
	for i := range maxOpen {
		h.Open[1000+i] = Open{Wave: 400, Attempt: 10, State: Looking, Size: 100, Vain: 100, Due: now}
	}
	for i := range maxPicks {
		h.Canary = append(h.Canary, Pick{fmt.Sprintf("%036d", i), impacts[2]})
	}
	for range 2 * logSize {
		s.report(events.TypeRolloutHalted, nil, func(r *events.Rollout) {
			for range 20 {
				r.Desktops = append(r.Desktops, events.RolloutDesktop{
					DesktopID: strings.Repeat("d", 36), State: Failed, Code: "WKS.00010001", At: now, RequestID: strings.Repeat("q", 36),
					Reason: strings.Repeat("x", 160),
				})
			}
		})
	}
	r, err := s.result()
	require.NoError(t, err)
	require.Len(t, r.Puts, 1)
	require.LessOrEqual(t, len(r.Puts[0].Value), mostBytes)
	require.GreaterOrEqual(t, len(h.Log), leastLog)
	require.Len(t, r.Messages, 2*logSize, "what is published is not what is kept")
}

func TestARolloutWithTooManyWavesDefersNoUser(t *testing.T) {
	t.Parallel()
	s := &step{name: "r", head: &Head{Spec: Defaults(), Waves: make([]Wave, maxWavesInHead-1)}}
	var row Row
	s.inUse(&row, "in_use", "its login status is CONNECTED")
	require.Equal(t, Deferred, row.State)
	s.head.Waves = append(s.head.Waves, Wave{})
	row = Row{Slot: Slot{Deferrals: 1}}
	s.inUse(&row, "in_use", "its login status is CONNECTED")
	require.Equal(t, Skipped, row.State)
	require.Equal(t, "its login status is CONNECTED; deferred 1 time", row.Reason)
}

func TestProtectedDesktopsAreNotKeptInTheHead(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	ids := []string{"D-00003"}
	for i := range events.MaxDesktops - 1 {
		ids = append(ids, fmt.Sprintf("%036d", i))
	}
	w.start("r", with(strategy(0, whole, 9, "20%"), map[string]any{"targets": map[string]any{
		"where": map[string]any{"status": "ACTIVE"}, "except": map[string]any{"desktop_ids": ids},
	}}), nil)
	h := w.until("r", Running)
	require.Less(t, len(w.store[HeadKey("r")].value), 10<<10)
	require.Equal(t, Counts{Skipped: 1, Pending: 9}, h.Counts())
}

func TestASpecThatDoesNotFitIntoAHeadIsRejected(t *testing.T) {
	t.Parallel()
	w := calm(t, 3)
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf("%0250d", i)
	}
	w.rejected("r", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", map[string]any{"targets": map[string]any{
		"where": map[string]any{"status": "ACTIVE"}, "except": map[string]any{"desktop_ids": ids},
	}})}, "and may have 204800; protect desktops by targets.except.tags, not by so many ids")
	require.Empty(t, w.store)
}
