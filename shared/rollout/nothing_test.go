package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestARetryOrRollbackOfNoDesktopOfTheRolloutChangesNothing(t *testing.T) {
	t.Parallel()
	w := calm(t, 30)
	w.failing("d-00001")
	w.start("r", strategy(5, []string{"50%", "100%"}, 30, "50%"), nil)
	before := *w.until("r", Halted)
	wrong := events.RolloutCommand{DesktopIDs: []string{"no-such-desktop"}}
	for _, typ := range []string{events.TypeRolloutRetry, events.TypeRolloutRollback} {
		w.rejected("r", typ, wrong, "desktop_ids: not among the desktops that the plan rebuilds: no-such-desktop")
		h := w.head("r")
		require.Equal(t, Halted, h.Phase)
		require.Equal(t, before.Why, h.Why)
		require.Equal(t, before.Reason, h.Reason)
		require.Empty(t, h.PreviousReason)
		require.Equal(t, before.Accepted, h.Accepted)
		require.Equal(t, before.Waves, h.Waves)
		require.Nil(t, h.Queued)
	}
	one := int64(1)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &one})
	require.Equal(t, Counts{Done: 29, Failed: 1}, w.until("r", Completed).Counts())
	w.rejected("r", events.TypeRolloutRetry, wrong, "not among the desktops that the plan rebuilds: no-such-desktop")
	require.Equal(t, Completed, w.head("r").Phase)
	w.audit("r")
}

// It is rejected before it stops the rollout, if it is certain that it would find no desktop.
func TestARetryOfDesktopsThatDidNotFailIsRejectedAtOnce(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.failing("d-00001", "d-00002", "d-00035")
	w.desktops["d-00003"].login = "CONNECTED"
	users := map[string]any{"users": map[string]any{"connected": "skip"}}
	w.start("r", with(users, strategy(0, []string{"25%", "75%", "100%"}, 40, "50%")), nil)
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Sent] == 20 }))
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00002", "d-00039"}, Reason: "a guest"})
	rejected := func(reason string, ids ...string) {
		t.Helper()
		w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: ids}, reason)
		require.Nil(t, w.head("r").Queued)
		require.Equal(t, Running, w.head("r").Phase)
		require.NotZero(t, w.head("r").Counts()[Sent], "at once")
	}
	const none = "desktop_ids: none of them failed or can fail any more: "
	rejected(none+"1 done, d-00000", "D-00000")
	rejected(none+"1 done, d-00000; 1 skipped, d-00003; 2 excluded, d-00002, d-00039", "d-00000", "d-00002", "d-00003", "d-00039")
	rejected("plan rebuilds: nope", "d-00001", "nope")
	for _, id := range []string{"d-00001", "d-00012", "d-00035"} { // failed, sent, pending
		r := w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: []string{"d-00000", id}})
		require.True(t, w.run(day, func() bool { return w.head("r").Queued != nil }), id)
		w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
		require.Contains(t, w.answer(r).Reason, "paused before the retry began")
		w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	}
	w.until("r", Completed)
	w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: []string{"d-00012"}}, none+"1 done, d-00012")
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: []string{"d-00012", "d-00035"}})
	w.fails = nil
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Failed] == 2 && w.head("r").over() }))
	w.audit("r")
}

// A retry stops the rollout until every batch has ended: without a desktop for it, it is rejected at once.
func TestARetryIsRejectedWhileNothingHasFailed(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(approval, strategy(0, []string{"50%", "100%"}, 20, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	rejected := func(ids []string, reason string) {
		t.Helper()
		before := *w.head("r")
		w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: ids}, "no desktop failed, is missing or was not verified")
		w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: ids}, reason)
		h := w.head("r")
		require.Equal(t, before.Phase, h.Phase)
		require.Nil(t, h.Queued)
		require.Nil(t, h.Offer)
	}
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Sent] > 0 }))
	rejected(nil, "nothing to retry: 10 sent, 10 pending; send the retry when one has failed")
	rejected([]string{"d-00001"}, "nothing to retry: 10 sent, 10 pending; send the retry when one has failed")
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
	rejected(nil, "; resume goes on")
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	w.until("r", Completed)
	rejected(nil, "nothing to retry: 20 done; rebuild single desktops without a rollout")

	w = newWorld(t, 1, 4, odds{lost: 100})
	w.start("r", strategy(0, whole, 9, "4"), nil)
	w.until("r", Completed)
	rejected(nil, "nothing to retry: 4 unknown; name those of unknown outcome in desktop_ids")
	w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: w.ids[:1]}, "1 stay unknown: their calls may still take effect")
}

func TestAPauseEndsARetryThatWaits(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.failing("d-00001")
	w.start("r", strategy(0, []string{"50%", "100%"}, 30, "50%"), nil)
	w.run(10*day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Failed] == 1 && h.Counts()[Sent] > 0 })
	id := w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.run(day, func() bool { return w.head("r").Queued != nil })
	require.Equal(t, events.TypeRolloutPaused, w.do("r", events.TypeRolloutPause, events.RolloutCommand{Reason: "stop"}).Why)
	require.Equal(t, events.TypeRolloutRejected, w.answer(id).Why)
	w.run(day, func() bool { return len(w.head("r").Open) == 0 })
	require.Equal(t, Paused, w.head("r").Phase)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 39, Failed: 1}, w.until("r", Completed).Counts())
	w.audit("r")
}

func TestTheIDOfAnotherCommandAnswersNothing(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(strategy(0, whole, 20, "50%"), approval), nil)
	w.until("r", Planned)
	id := w.command(0, "r", events.TypeRolloutResume, events.RolloutCommand{})
	require.Equal(t, events.TypeRolloutRejected, w.answer(id).Why)
	abort := verb(id, events.TypeRolloutAbort, events.RolloutCommand{Name: "r", Reason: "x"})
	w.deliver("r", 0, abort, false)
	w.until("r", Aborted)
}

func TestAShareForAllWavesIsNotRaisedForOneWithoutAnApproval(t *testing.T) {
	t.Parallel()
	w := calm(t, 100)
	w.start("r", with(strategy(0, []string{"10%", "100%"}, 60, "10%"), approval), nil)
	h := w.until("r", Planned)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: h.Digest})
	require.Equal(t, events.TypeRolloutPlanned, w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage("10")}).Why)
	require.Equal(t, events.TypeRolloutChanged, w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage(`"9%"`)}).Why)
}

func TestAWindowThatIsTooShortIsNotSet(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", strategy(0, whole, 20, "50%"), nil)
	w.until("r", Running)
	window := json.RawMessage(`{"from": "03:00", "to": "03:01", "timezone": "UTC"}`)
	w.rejected("r", events.TypeRolloutSet, events.RolloutCommand{Window: window}, "a batch may take")
	require.Equal(t, Counts{Done: 20}, w.until("r", Completed).Counts())
}

func TestARollbackThatWouldRollNothingBackIsRejected(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.frozen = true
	w.start("r", with(approval, strategy(0, whole, 10, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{}, "no desktop was rebuilt")
	require.Equal(t, Running, w.head("r").Phase)
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	w.until("r", Aborted)
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{}, "no desktop was rebuilt")
	require.Equal(t, Aborted, w.head("r").Phase)
	w.audit("r")

	w = calm(t, 1)
	w.desktops["d-00000"].image, w.desktops["d-00000"].base = "", ""
	w.start("r", nil, nil)
	w.until("r", Completed)
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{}, "1 have no way back: d-00000: its earlier image is not known")
	require.Equal(t, Completed, w.head("r").Phase)
}

// The batches that were not sent end when a rollback is sent: their desktops must be rebuilt all the same.
func TestAfterARejectedRollbackTheRolloutGoesOnWithEveryDesktop(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.desktops["d-00000"].image, w.desktops["d-00000"].base = "", ""
	w.start("r", strategy(0, []string{"5%", "100%"}, 30, "50%"), nil)
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h != nil && h.Batches == 2 && h.Open[1].State == Looking }))
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{}, "have no way back")
	require.Equal(t, Counts{Done: 20}, w.until("r", Completed).Counts())
	w.audit("r")
}

func TestWhatARollbackKeptFromBeingSentStaysPending(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", strategy(0, []string{"5%", "100%"}, 30, "50%"), nil)
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h != nil && h.Batches == 2 && h.Open[1].State == Looking }))
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, Counts{BackDone: 1, Pending: 19}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

func TestARollbackAfterAnAbortedOneCountsWhatIsLeftOfIt(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", strategy(0, []string{"50%", "100%"}, 20, "20%"), nil)
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Done] == 10 }))
	states := w.live(w.head("r"))
	done := slices.IndexFunc(w.ids, func(id string) bool { return states[id] == Done })
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{w.ids[done]}, Reason: "x"})
	w.until("r", Completed)
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h.Phase == RollingBack && len(h.Open) > 0 }))
	abort := w.do("r", events.TypeRolloutAbort, events.RolloutCommand{By: "ann"})
	require.Equal(t, "aborting", abort.Reason)
	left := 19 - w.until("r", Aborted).Counts()[BackDone]
	require.Greater(t, left, 1)
	r := w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Contains(t, r.Reason, fmt.Sprintf("rollback of %d desktops", left))
	require.Equal(t, Counts{BackDone: 19, Done: 1}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

func TestAnExcludeOfForeignDesktopsStoresNoClaims(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(strategy(0, whole, 20, "50%"), approval), nil)
	w.until("r", Planned)
	foreign := make([]string, 1000)
	for i := range foreign {
		foreign[i] = fmt.Sprintf("foreign-%d", i)
	}
	before := len(w.store)
	w.rejected("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: foreign, Reason: "r"}, "1000 are not part of the rollout")
	after := len(w.store)
	require.Equal(t, before, after)
}

func TestARolloutIsRolledBackOnlyAfterItsAbortHasEnded(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.start("r", strategy(0, []string{"50%", "100%"}, 30, "50%"), nil)
	w.run(10*day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Done] > 0 && h.Counts()[Sent] > 0 })
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{Reason: "wrong image"})
	h := w.head("r")
	require.Equal(t, Aborting, h.Phase)
	require.NotZero(t, h.Counts()[Done])
	require.Empty(t, h.next())
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{}, "wait until it is aborted")
	w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{}, "a rollout that is aborting is not retried; start another")
	require.Equal(t, "rollback", w.until("r", Aborted).next()[0].Words[1])
}

// Without this, a rollback of one desktop would wipe those that an aborted rollback has left.
func TestARollbackOfNamedDesktopsTakesUpNoAbortedOne(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", strategy(0, whole, 20, "20%"), nil)
	w.until("r", Completed)
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: w.ids[:12]})
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h.Phase == RollingBack && len(h.Open) > 0 }))
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	before := w.until("r", Aborted).Counts()
	require.Less(t, before[BackDone], 12)
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: w.ids[19:]}, "desktop_ids: an earlier rollback has not reached")
	require.Equal(t, Aborted, w.head("r").Phase)
	require.Equal(t, before, w.head("r").Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, Counts{BackDone: 20}, w.until("r", RolledBack).Counts())
	w.audit("r")
}
