package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// Workers overlap, and die: a record may be newer or older than the head with which it is read.

func (w *world) replace(key string, v any) {
	w.t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(w.t, err)
	w.store[key] = versioned{raw, w.store[key].revision + 1}
}

// A worker has formed the first batch of the second wave of a rollback, and died before it stored the head.
func TestABatchOfAnEarlierPlanIsFormedAnew(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.start("r", strategy(1, whole, 9, "20%"), nil)
	w.until("r", Completed)
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[BackDone] == 1 }))
	h := w.head("r")
	wave := h.Waves[len(h.Waves)-1]
	require.Equal(t, BackWave, wave.Kind)
	require.Equal(t, wave.From, wave.Next)
	w.replace(BatchKey("r", h.Batches), Batch{
		N: h.Batches, Wave: len(h.Waves) - 1, From: wave.Next, Plan: h.Plan, Attempt: 1, State: Looking, Since: w.now,
		Rows: []Row{{Slot: Slot{ID: w.ids[1], Image: "old-1", ImageType: "private"}, State: Pending}},
	})
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	w.until("r", Aborted)
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { return w.head("r").Phase == RolledBack }), w)
	require.Equal(t, Counts{BackDone: 9}, w.head("r").Counts())
	w.audit("r")
}

// A worker has read the head before a retry began, and the batch after that: it must not take the place of the retry's.
func TestABatchOfALaterPlanIsNotReplaced(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.failing("d-00001")
	w.start("r", strategy(0, []string{"50%", "100%"}, 20, "50%"), nil)
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Done] == 9 && len(h.Open) == 0 }))
	before, batches := w.store[HeadKey("r")].value, w.head("r").Batches
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { return w.head("r").Open[batches].State == Looking }))
	in := map[string][]byte{HeadKey("r"): before}
	var r Result
	for range 10 {
		var err error
		r, err = Step("r", in, Event{}, Facts{Now: w.now.Add(11 * time.Minute)})
		require.NoError(t, err)
		for _, key := range r.Missing {
			in[key] = w.store[key].value
		}
		if len(r.Missing) == 0 {
			break
		}
	}
	require.True(t, r.Stale)
	require.Empty(t, r.Puts)
}

// Two starts with one name, or pages of another list, come at the same time.
func TestTargetsThatAnotherStartHasReplacedAreNotRebuilt(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.vanish = true // not all desktops are targets
	start := w.start("r", map[string]any{"targets": map[string]any{"desktop_ids": []string{"d-00001", "d-00002"}}}, nil)
	require.True(t, w.run(time.Hour, func() bool { return w.head("r") != nil }))
	require.Equal(t, Planning, w.head("r").Phase)
	w.replace(TargetsKey("r", 1), TargetsPage{DesktopIDs: []string{"d-00003", "d-00004"}})
	require.Contains(t, w.answer(start).Reason, "targets: were replaced by those of another start with this name")
	w.run(day, nil)
	require.Zero(t, w.accepted)
}

// A worker has stored that a desktop is excluded, and died; the desktop was sent, and others are excluded then.
func TestAnotherExcludedDesktopIsCountedAfterAWorkerThatDied(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", strategy(0, []string{"50%", "100%"}, 20, "50%"), nil)
	w.until("r", Running)
	w.replace(ExcludedKey("r"), ExcludedIDs{Desktops: map[string]string{"d-00001": "a guest"}})
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Sent] == 10 }))
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00001", "d-00015"}, Reason: "a guest"})
	require.Equal(t, Counts{Sent: 10, Pending: 9, Excluded: 1}, w.head("r").Counts())
	require.Equal(t, Counts{Done: 19, Excluded: 1}, w.until("r", Completed).Counts())
	w.audit("r")
}
