package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// Two people send verbs that exclude each other at the same moment. The first one counts, and the other learns why not.
func TestOfTwoVerbsThatExcludeEachOtherTheFirstCounts(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.failing("d-00001")
	w.start("r", strategy(0, []string{"50%", "100%"}, 20, "50%"), nil)
	w.when(func(h *Head) bool { return h.Counts()[Failed] == 1 && h.Counts()[Sent] > 0 })
	back := w.command(0, "r", events.TypeRolloutRollback, events.RolloutCommand{})
	retry := w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	require.Contains(t, w.answer(retry).Reason, "another retry or rollback waits for the end of the batches")
	require.Equal(t, events.TypeRolloutResumed, w.answer(back).Why)
	abort := w.command(0, "r", events.TypeRolloutAbort, events.RolloutCommand{})
	again := w.command(0, "r", events.TypeRolloutAbort, events.RolloutCommand{})
	require.Equal(t, events.TypeRolloutChanged, w.answer(abort).Why)
	require.Contains(t, w.answer(again).Reason, "cannot be aborted")
	w.until("r", Aborted)
	w.answers(true)
	w.audit("r")
}

// Two resumes after a halt name the same failures. The second one must not accept those that came after the first.
func TestTwoResumesAcceptFailuresOnce(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.failing("d-00001", "d-00002", "d-00035", "d-00036")
	w.start("r", strategy(0, []string{"50%", "100%"}, 40, "5%"), nil)
	h := w.until("r", Halted)
	two := int64(2)
	require.Equal(t, 2, h.Counts().failed())
	first := w.command(0, "r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &two})
	second := w.command(0, "r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &two})
	require.Equal(t, events.TypeRolloutResumed, w.answer(first).Why)
	require.Contains(t, w.answer(second).Reason, "a rollout that is running cannot be resumed")
	h = w.until("r", Halted)
	require.Equal(t, map[int]int{0: 2}, h.Accepted)
	w.rejected("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &two}, "must be the present number of failed desktops, 4; got 2")
	w.answers(true)
}

// A rollback takes up the desktops that failed and that a retry has not reached yet: else none would be left to bring them back.
func TestARollbackDuringARetryTakesUpItsDesktops(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.failing("d-00001", "d-00002")
	w.start("r", strategy(0, []string{"50%", "100%"}, 10, "50%"), nil)
	w.when(func(h *Head) bool { return h.Counts()[Failed] == 2 })
	w.fails = nil
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.when(func(h *Head) bool { return h.Waves[h.current()].Kind == RetryWave && h.Counts()[Sent] > 0 })
	back := w.command(0, "r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, "rollback of 5 desktops", w.answer(back).Reason)
	h := w.until("r", RolledBack)
	require.Equal(t, Counts{BackDone: 5, Pending: 5}, h.Counts())
	for _, id := range w.ids {
		require.Equal(t, w.desktops[id].base, w.desktops[id].image, id)
	}
	w.audit("r")
	w.answers(true)
}

func TestARollbackTakesUpWhatARetryHasNotReached(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world){
		"while it runs": func(*world) {},
		"after an abort": func(w *world) {
			w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
			w.until("r", Aborted)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				w := newWorld(t, seed, 12, odds{crash: 40, race: 40, double: 30})
				w.failing("d-00001", "d-00002", "d-00003")
				w.start("r", with(approval, strategy(0, []string{"50%", "100%"}, 12, "50%")), nil)
				agree := func() {
					h := w.head("r")
					digest := h.Digest
					if h.Offer != nil {
						digest = h.Offer.Digest
					}
					w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: digest})
				}
				w.until("r", Planned)
				agree()
				w.when(func(h *Head) bool { return h.Counts()[Failed] == 3 })
				w.fails = nil
				w.frozen = true // the retry begins, and reaches no desktop
				w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
				agree()
				w.when(func(h *Head) bool { return len(h.waveNumbers(RetryWave)) > 0 })
				w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00003"}, Reason: "x"})
				end(w)
				w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
				require.Contains(t, w.offer("r").Question(), "5 desktops are rebuilt", "seed %d: %s", seed, w)
				agree()
				w.frozen = false
				h := w.until("r", RolledBack)
				require.Equal(t, Counts{BackDone: 5, Excluded: 1, Pending: 6}, h.Counts())
				require.Equal(t, BackDone, w.audit("r")["d-00002"])
				w.answers(true)
			}
		})
	}
}

// While the canary stands halted, a person takes its failed desktop out: it counts as failed all the same, no retry takes it
// up, and the way on is to accept it.
func TestAnExcludeDuringAHaltedCanaryDoesNotUndoTheHalt(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.failing("d-00000")
	w.start("r", strategy(2, whole, 10, "20%"), nil)
	w.until("r", Halted)
	w.when(func(h *Head) bool { return len(h.Open) == 0 })
	r := w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00000", "d-00002"}, Reason: "broken"})
	require.Equal(t, "1 desktop excluded: broken; 1 not: 1 failed, d-00000", r.Reason)
	h := w.head("r")
	require.Equal(t, Halted, h.Phase)
	require.Equal(t, Counts{Done: 1, Failed: 1, Excluded: 1, Pending: 7}, h.Counts())
	w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{}, "there is no desktop for the retry; 1 stay as they are: d-00000: it is excluded")
	require.Equal(t, Halted, w.head("r").Phase)
	one := int64(1)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &one})
	require.Equal(t, Counts{Done: 8, Failed: 1, Excluded: 1}, w.until("r", Completed).Counts())
	w.audit("r")
	w.answers(true)
}

// A set that closes the window holds for the next batch; what was sent before ends.
func TestASetThatClosesTheWindowHoldsForTheNextBatch(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(strategy(0, []string{"50%", "100%"}, 20, "50%"), map[string]any{"window": map[string]any{"from": "20:00", "to": "23:00", "timezone": "UTC"}}), nil)
	w.when(func(h *Head) bool { return h.Counts()[Sent] > 0 })
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{Window: json.RawMessage(`{"from":"22:00","to":"23:00","timezone":"UTC"}`)})
	w.when(func(h *Head) bool { return h.Counts()[Done] == 10 && h.Waiting.Reason == "window" })
	require.Equal(t, t0.Add(2*time.Hour), w.head("r").Waiting.Until)
	require.Equal(t, 10, w.accepted)
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{Window: json.RawMessage(`{"from":"21:00","to":"23:30","timezone":"UTC"}`)})
	require.Equal(t, Counts{Done: 20}, w.until("r", Completed).Counts())
	require.Less(t, w.now.Sub(t0), 100*time.Minute, "it waits for the window in force, not for the one before")
	w.audit("r")
}
