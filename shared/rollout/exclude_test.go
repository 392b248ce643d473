package rollout

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/store/memstore"
)

// A person sees at once what an exclude has changed, wherever the desktop waits.
func TestExcludedDesktopsAreCountedAtOnce(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.desktops["d-00003"].login = "CONNECTED"
	w.start("r", with(strategy(2, []string{"50%", "100%"}, 20, "20%"), map[string]any{"users": map[string]any{
		"connected": "defer", "then": "skip", "max_deferrals": 5, "defer_for": "5h",
	}}), nil)
	w.until("r", Running)
	exclude := func(want Counts, ids ...string) {
		t.Helper()
		r := w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: ids, Reason: "a guest"})
		require.Equal(t, events.TypeRolloutChanged, r.Why, r.Reason)
		require.Equal(t, want, Counts(r.Counts))
		require.Equal(t, want, w.head("r").Counts())
	}
	require.True(t, w.run(day, func() bool { return len(w.head("r").Open) > 0 }))
	w.frozen = true // the canary looks, and is not sent
	exclude(Counts{Pending: 18, Excluded: 2}, "D-00000", "d-00019")
	exclude(Counts{Pending: 18, Excluded: 2}, "d-00000")
	v := View{Head: w.head("r"), Batches: make([]*Batch, 1)}
	require.Equal(t, []string{Pending, Pending, Pending, Pending, Pending, Pending, Pending, Pending, Pending, Excluded}, v.Cells(2, 99))
	w.frozen = false
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Deferred] > 0 }))
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Sent] == 0 }))
	before := w.head("r").Counts()
	before[Excluded], before[Deferred] = 3, 0
	delete(before, Deferred)
	exclude(before, "d-00003")
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 17, Excluded: 3}, w.until("r", Completed).Counts())
	w.audit("r")
}

// A worker that dies before it has stored the head of an exclude leaves its record. Both the repeat of the exclude and
// what the rollout does until then keep every desktop counted once.
func TestAnExcludeThatWasInterruptedIsCountedOnce(t *testing.T) {
	t.Parallel()
	for _, stored := range []int{1, 2} { // the record of the excluded desktops, or the batch and its sum, too
		w := calm(t, 30)
		w.start("r", strategy(0, []string{"50%", "100%"}, 30, "20%"), nil)
		w.until("r", Running)
		w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00029"}, Reason: "x"})
		e := verb("half", events.TypeRolloutExclude, events.RolloutCommand{Name: "r", DesktopIDs: []string{"d-00001", "d-00028"}, Reason: "x"})
		a := w.think(delivery{name: "r", e: e}, false)
		for _, p := range a.result.Puts[:min(stored, len(a.result.Puts)-1)] {
			require.True(t, w.put(a, p))
		}
		require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Done] > 0 }))
		require.Equal(t, 3, w.head("r").Counts()[Excluded])
		w.deliver("r", 0, e, true)
		require.Equal(t, Counts{Done: 27, Excluded: 3}, w.until("r", Completed).Counts())
		w.audit("r")
	}
}

// offer is what a person reads before an approval.
func (w *world) offer(name string) OfferSummary {
	v := &View{Head: w.head(name)}
	for n := range v.Head.Batches {
		b := &Batch{}
		require.NoError(w.t, json.Unmarshal(w.store[BatchKey(name, n)].value, b))
		v.Batches = append(v.Batches, b)
	}
	kept := memstore.New()
	for key, record := range w.store {
		_, err := kept.Put(w.t.Context(), key, record.value, 0)
		require.NoError(w.t, err)
	}
	o, err := ReadOffer(w.t.Context(), kept, v)
	require.NoError(w.t, err)
	return o
}

// What an approval shows of a rollback follows the desktops that are excluded while it waits.
func TestAnApprovalOfARollbackCountsNoExcludedDesktop(t *testing.T) {
	t.Parallel()
	w := calm(t, 12)
	w.start("r", with(approval, strategy(1, whole, 12, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.until("r", Completed)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.do("r", events.TypeRolloutRollback, events.RolloutCommand{}).Digest})
	w.until("r", RollingBack)
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00011", "d-00008"}, Reason: "x"})
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	h := w.until("r", Aborted)
	require.Equal(t, Counts{Pending: 10, Excluded: 2}, h.Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	o := w.offer("r")
	require.Contains(t, o.Question(), "10 desktops are rebuilt")
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.head("r").Offer.Digest})
	require.Equal(t, Counts{BackDone: 10, Excluded: 2}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// A step that began a rollback and then excluded one of its desktops died before it stored the head.
func TestADesktopThatIsExcludedWhileItsRollbackBeginsIsNotLost(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.start("r", strategy(0, []string{"50%", "100%"}, 10, "50%"), nil)
	w.until("r", Running)
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00009"}, Reason: "x"})
	w.until("r", Completed)
	w.command(0, "r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { return w.head("r").Moving != "" }))
	e := verb("half", events.TypeRolloutExclude, events.RolloutCommand{Name: "r", DesktopIDs: []string{"d-00001"}, Reason: "x"})
	a := w.think(delivery{name: "r", e: e}, false)
	for _, p := range a.result.Puts {
		if p.Key != HeadKey("r") {
			require.True(t, w.put(a, p))
		}
	}
	require.Equal(t, Counts{Excluded: 2, BackDone: 8}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// A desktop that has failed is unavailable, also after it was excluded.
func TestARetryLeavesAnExcludedDesktopFailed(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.failing("d-00001", "d-00002")
	w.start("r", with(approval, strategy(0, []string{"50%", "100%"}, 10, "50%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Failed] == 2 }))
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00001"}, Reason: "x"})
	offered := w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	o := w.offer("r")
	require.Contains(t, o.Question(), "1 desktop is rebuilt")
	require.Contains(t, fmt.Sprint(o.Lines()), "1 desktop, it is excluded: d-00001")
	w.fails = nil
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: offered.Digest})
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Failed] == 1 }))
	require.Equal(t, "retry of 1 desktop; 1 stay as they are: d-00001: it is excluded", w.head("r").Reason)
	require.Equal(t, Counts{Done: 9, Failed: 1}, w.until("r", Completed).Counts())
	w.audit("r")
}

// A worker stores the batches of an exclude and dies; until the repeat, the rollout ends.
func TestAnExcludeThatWasInterruptedByTheEndIsCounted(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.start("r", with(strategy(0, []string{"50%", "100%"}, 10, "20%"), users(Defer, 5, Skip)), nil)
	w.connect("r", "d-00001")
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Done] == 4 }))
	e := verb("half", events.TypeRolloutExclude, events.RolloutCommand{Name: "r", DesktopIDs: []string{"d-00001"}, Reason: "x"})
	a := w.think(delivery{name: "r", e: e}, false)
	require.True(t, w.put(a, a.result.Puts[0]))
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 4, Deferred: 1, Pending: 5}, w.until("r", Aborted).Counts())
	w.deliver("r", 0, e, true)
	w.run(time.Minute, nil)
	require.Equal(t, Counts{Done: 4, Excluded: 1, Pending: 5}, w.head("r").Counts())
	w.audit("r")
}
