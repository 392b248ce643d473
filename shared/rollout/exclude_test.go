package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
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

// No event counts a desktop that was excluded among those that wait, also not the one with which its wave begins.
func TestEveryEventCountsAnExcludedDesktop(t *testing.T) {
	t.Parallel()
	w := calm(t, 8)
	w.start("r", strategy(1, []string{"50%", "100%"}, 8, "20%"), nil)
	w.until("r", Running)
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00001", "d-00003", "d-00007"}, Reason: "guests"})
	require.Equal(t, Counts{Done: 5, Excluded: 3}, w.until("r", Completed).Counts())
	log := w.head("r").Log
	since := slices.IndexFunc(log, func(e Entry) bool { return e.Type == events.TypeRolloutChanged })
	started := 0
	for _, e := range log[since:] {
		var r events.Rollout
		require.NoError(t, json.Unmarshal(e.Data, &r))
		require.Equal(t, 3, r.Counts[Excluded], "%s: %v", e.Type, r.Counts)
		if e.Type == events.TypeRolloutWaveStarted {
			started++
		}
	}
	require.Equal(t, 3, started)
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
		a := w.think(delivery{name: "r", e: e}, false, 1)
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
	a := w.think(delivery{name: "r", e: e}, false, 1)
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
	a := w.think(delivery{name: "r", e: e}, false, 1)
	require.True(t, w.put(a, a.result.Puts[0]))
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 4, Deferred: 1, Pending: 5}, w.until("r", Aborted).Counts())
	w.deliver("r", 0, e, true)
	w.run(time.Minute, nil)
	require.Equal(t, Counts{Done: 4, Excluded: 1, Pending: 5}, w.head("r").Counts())
	w.audit("r")
}

// The event of an exclude names the desktops that it could not take out, with their states: a person must not believe that a
// rebuild that runs or has ended does not take place.
func TestAnExcludeNamesTheDesktopsThatItCouldNotTakeOut(t *testing.T) {
	t.Parallel()
	w := calm(t, 12)
	w.failing("d-00001")
	w.desktops["d-00002"].login = "CONNECTED"
	w.start("r", with(strategy(3, []string{"50%", "100%"}, 12, "50%"), users(Skip, 0, Skip), map[string]any{"strategy": map[string]any{
		"canary": 3, "canary_max_failed": 1, "waves": []string{"50%", "100%"}, "max_unavailable": 12, "max_failed": "50%", "soak": "10m",
	}}), nil)
	w.until("r", Running)
	require.True(t, w.run(day, func() bool { return w.head("r").current() == 1 && w.head("r").Counts()[Sent] > 0 }), w)
	states := w.live(w.head("r"))
	require.Equal(t, []string{Done, Failed, Skipped}, []string{states["d-00000"], states["d-00001"], states["d-00002"]})
	sent := ""
	for id, state := range states {
		if state == Sent {
			sent = id
		}
	}
	r := w.do("r", events.TypeRolloutExclude, events.RolloutCommand{
		DesktopIDs: []string{"D-00000", "d-00001", "d-00002", "d-00011", sent}, Reason: "a guest",
	})
	require.Equal(t, events.TypeRolloutChanged, r.Why, r.Reason)
	require.Equal(t, "1 desktop excluded: a guest; 4 not: 1 done, d-00000; 1 sent, "+sent+"; 1 failed, d-00001; 1 skipped, d-00002", r.Reason)
	named := map[string]string{}
	for _, d := range r.Desktops {
		named[d.DesktopID] = d.State
		require.Contains(t, d.Reason, map[bool]string{true: "it is not excluded", false: "no retry and no rollback"}[d.State == Sent])
	}
	require.Equal(t, map[string]string{"d-00000": Done, "d-00001": Failed, "d-00002": Skipped, sent: Sent}, named)
	w.fails = nil
	h := w.until("r", Completed)
	require.Equal(t, 1, h.Counts()[Excluded])
	require.Equal(t, Done, w.audit("r")[sent])
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	w.until("r", RolledBack)
	states = w.audit("r")
	require.Equal(t, Done, states["d-00000"], "it was excluded when it was done")
	require.Equal(t, BackDone, states[sent], "it was not excluded")
}

// A desktop whose command ends without a rebuild is pending once more, and can be excluded then.
func TestADesktopThatWasSentInVainCanBeExcluded(t *testing.T) {
	t.Parallel()
	w := calm(t, 3)
	refused := true
	w.refuse = func(*call) (kind, effect string) {
		if refused {
			return events.KindExpired, events.EffectNone
		}
		return "", ""
	}
	w.start("r", strategy(0, whole, 3, "50%"), nil)
	require.True(t, w.run(day, func() bool { return w.head("r") != nil && w.head("r").Counts()[Sent] > 0 }))
	w.rejected("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00001"}, Reason: "x"}, "none is excluded: 1 sent, d-00001")
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Sent] == 0 }))
	require.Equal(t, events.TypeRolloutChanged, w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00001"}, Reason: "x"}).Why)
	refused = false
	require.Equal(t, Counts{Done: 2, Excluded: 1}, w.until("r", Completed).Counts())
	w.audit("r")
}

// half stores an exclude without its head, as a worker that dies. It returns the command.
func (w *world) half(name string, ids ...string) Event {
	id := fmt.Sprintf("half-%d", w.seq)
	e := verb(id, events.TypeRolloutExclude, events.RolloutCommand{Name: name, DesktopIDs: ids, Reason: "x"})
	e.Verb.Time = w.now
	w.verbs[id] = e
	a := w.think(delivery{name: name, e: e}, false, 1)
	for _, p := range a.result.Puts {
		if p.Key != HeadKey(name) {
			require.True(w.t, w.put(a, p))
		}
	}
	return e
}

// A worker has stored an exclude without its head, and the desktop is sent until the command is delivered once more: it is not
// excluded then, so a rollback must take it up.
func TestAnExcludeThatLosesTheRaceAgainstSendingIsNotExcluded(t *testing.T) {
	t.Parallel()
	w := calm(t, 4)
	w.start("r", strategy(0, []string{"50%", "100%"}, 4, "50%"), nil)
	w.until("r", Running)
	e := w.half("r", "d-00000", "d-00003")
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Sent] > 0 }))
	require.Equal(t, Sent, w.live(w.head("r"))["d-00000"])
	w.deliver("r", 0, e, true)
	r := w.answer(e.Verb.ID)
	require.Equal(t, events.TypeRolloutChanged, r.Why)
	require.Equal(t, "1 desktop excluded: x; 1 not: 1 sent, d-00000", r.Reason)
	require.Equal(t, Counts{Done: 3, Excluded: 1}, w.until("r", Completed).Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, Counts{BackDone: 3, Excluded: 1}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// A batch that a worker has formed, and not stored in the head, is formed once more. An exclude must not take it for one that
// waits: it would be opened before it is formed, and could end so.
func TestAnExcludeLeavesABatchThatTheHeadDoesNotHave(t *testing.T) {
	t.Parallel()
	w := calm(t, 6)
	w.start("r", strategy(0, []string{"50%", "100%"}, 6, "50%"), nil)
	w.until("r", Running)
	require.True(t, w.run(day, func() bool { return !w.head("r").Waves[0].Ended.IsZero() }))
	w.now = w.head("r").Waves[0].Ended.Add(10 * time.Minute)
	w.due = nil // nothing but the pause may form it
	a := w.think(delivery{name: "r"}, false, 1)
	stored := false
	for _, p := range a.result.Puts {
		if p.Key != HeadKey("r") {
			stored = stored || p.Key == BatchKey("r", 1)
			require.True(t, w.put(a, p))
		}
	}
	require.True(t, stored, "a batch is formed")
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
	require.Equal(t, events.TypeRolloutChanged, w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00005"}, Reason: "x"}).Why)
	require.Empty(t, w.head("r").Open)
	w.after(0, w.wake)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 5, Excluded: 1}, w.until("r", Completed).Counts())
	w.audit("r")
}
