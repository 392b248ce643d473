package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// calm is a world without faults.
func calm(t *testing.T, desktops int) *world { return newWorld(t, 1, desktops, odds{}) }

const day = 24 * time.Hour

// until runs until the rollout is in a phase.
func (w *world) until(name, phase string) *Head {
	w.t.Helper()
	require.True(w.t, w.run(10*day, func() bool { h := w.head(name); return h != nil && h.Phase == phase && h.Moving == "" }), "not %s: %s", phase, w)
	return w.head(name)
}

// do sends a verb, and returns the event that answers it.
func (w *world) do(name, typ string, data events.RolloutCommand) events.Rollout {
	w.t.Helper()
	return w.answer(w.command(0, name, typ, data))
}

func (w *world) answer(id string) events.Rollout {
	w.t.Helper()
	require.True(w.t, w.run(10*day, func() bool { return len(w.published[id]) > 0 }), "no answer to %s: %s", id, w)
	require.Len(w.t, w.published[id], 1)
	for _, m := range w.reported {
		if m.Causation == id {
			var r events.Rollout
			require.NoError(w.t, json.Unmarshal(m.Data, &r))
			r.Why = m.Type
			return r
		}
	}
	return events.Rollout{}
}

func (w *world) rejected(name, typ string, data events.RolloutCommand, reason string) {
	w.t.Helper()
	r := w.do(name, typ, data)
	require.Equal(w.t, events.TypeRolloutRejected, r.Why, r.Reason)
	require.Contains(w.t, r.Reason, reason)
}

func strategy(canary int, waves []string, maxUnavailable int, maxFailed string) map[string]any {
	return map[string]any{"strategy": map[string]any{
		"canary": canary, "waves": waves, "max_unavailable": maxUnavailable, "max_failed": maxFailed, "soak": "10m",
	}}
}

func with(more ...map[string]any) map[string]any {
	all := map[string]any{}
	for _, m := range more {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

var (
	whole    = []string{"100%"}
	approval = map[string]any{"approval": map[string]any{"required": true, "within": "6h"}}
)

func (w *world) failing(ids ...string) {
	w.fails = func(id string, _ Message) bool { return slices.Contains(ids, id) }
}

func TestAResumeAfterAHaltNamesTheFailures(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.failing("d-00003", "d-00004")
	w.start("r", strategy(0, []string{"50%", "100%"}, 30, "10%"), nil)
	h := w.until("r", Halted)
	require.Equal(t, "max_failed", h.Why)
	require.Equal(t, Counts{Sent: 8, Failed: 2, Pending: 10}, h.Counts())
	w.run(time.Hour, nil)
	require.Equal(t, Counts{Done: 8, Failed: 2, Pending: 10}, w.head("r").Counts())
	one, two := int64(1), int64(2)
	w.rejected("r", events.TypeRolloutResume, events.RolloutCommand{}, "accept_failed: must be given after a halt")
	w.rejected("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &one}, "must be the present number of failed desktops, 2; got 1")
	w.rejected("r", events.TypeRolloutPause, events.RolloutCommand{}, "cannot be paused")
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &two})
	require.Equal(t, Counts{Done: 18, Failed: 2}, w.until("r", Completed).Counts())
	w.audit("r")
}

func TestAnApprovalNeedsTheDigestAndComesInTime(t *testing.T) {
	t.Parallel()
	w := calm(t, 5)
	w.start("r", approval, nil)
	h := w.until("r", Planned)
	w.rejected("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: "other"}, "the plan in force is "+h.Digest)
	w.run(time.Hour, nil)
	require.Equal(t, "approval", w.head("r").Waiting.Reason)
	require.Zero(t, w.accepted)
	require.Equal(t, events.TypeRolloutApproved, w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: h.Digest, By: "ann"}).Why)
	require.Equal(t, Counts{Done: 5}, w.until("r", Completed).Counts())

	w = calm(t, 5)
	w.start("r", approval, nil)
	h = w.until("r", Aborted)
	require.WithinDuration(t, t0.Add(6*time.Hour), w.now, time.Minute)
	w.rejected("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: h.Digest}, "nothing waits for approval")
	w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{}, "a rollout that is aborted is not retried")
	w.run(day, nil)
	require.Zero(t, w.accepted, "an expired plan never runs")
	w.audit("r")
}

func TestWhatRaisesTheRiskNeedsAnApproval(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.failing("d-00001")
	w.start("r", with(approval, strategy(0, []string{"50%", "100%"}, 10, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
	require.Equal(t, events.TypeRolloutChanged, w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 6}).Why)
	raise := w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 9})
	require.Equal(t, events.TypeRolloutPlanned, raise.Why)
	require.Equal(t, 6, w.head("r").Spec.Strategy.MaxUnavailable)
	w.run(7*time.Hour, nil)
	require.Nil(t, w.head("r").Offer, "it expires")
	w.rejected("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: raise.Digest}, "nothing waits for approval")
	raise = w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 9})
	w.rejected("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: "other"}, "plan_sha256: the set that waits has "+raise.Digest)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: raise.Digest})
	require.Equal(t, 9, w.head("r").Spec.Strategy.MaxUnavailable)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	w.until("r", Completed)
	for _, typ := range []string{events.TypeRolloutRetry, events.TypeRolloutRollback} {
		w.fails = nil
		before := w.accepted
		offer := w.do("r", typ, events.RolloutCommand{})
		require.Equal(t, events.TypeRolloutPlanned, offer.Why)
		w.run(time.Hour, nil)
		require.Equal(t, before, w.accepted)
		w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: offer.Digest})
		require.True(t, w.run(10*day, func() bool { h := w.head("r"); return h.over() && w.accepted > before }), w)
	}
	require.Equal(t, Counts{BackDone: 20}, w.until("r", RolledBack).Counts())
	w.answers(true)
	w.audit("r")
}

// Only one verb can wait for approval, and its sender waits for what becomes of it.
func TestAVerbThatNoLongerWaitsForApprovalIsReported(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.start("r", with(approval, strategy(0, []string{"100%"}, 10, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.until("r", Completed)
	offer := func(ids ...string) (id, digest string) {
		id = w.command(0, "r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: ids})
		return id, w.answer(id).Digest
	}
	dropped := func(id, reason string) {
		t.Helper()
		last := w.reported[len(w.reported)-1]
		for _, m := range w.reported {
			if m.Type == events.TypeRolloutChanged {
				last = m
			}
		}
		require.Equal(t, id, last.Correlation)
		var r events.Rollout
		require.NoError(t, json.Unmarshal(last.Data, &r))
		require.Equal(t, w.verbs[id].Verb.CommandRef, *r.Command)
		require.Contains(t, r.Reason, reason)
	}
	first, digest := offer()
	second, _ := offer("d-00001")
	dropped(first, "the rollback that waited for approval was replaced by another rollback")
	w.rejected("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: digest}, "plan_sha256: the rollback that waits has ")
	w.run(7*time.Hour, nil) // nothing wakes a rollout that is over
	require.NotNil(t, w.head("r").Offer)
	w.rejected("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.head("r").Offer.Digest}, "the time for an approval has passed")
	dropped(second, "the rollback that waited for approval has expired")

	w = calm(t, 10)
	w.start("r", with(approval, strategy(0, []string{"50%", "100%"}, 5, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	raise := w.command(0, "r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 9})
	w.answer(raise)
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{Reason: "no"})
	require.True(t, slices.ContainsFunc(w.reported, func(m Message) bool {
		return m.Correlation == raise && strings.Contains(string(m.Data), "the set that waited for approval ended with the rollout")
	}))
	w.until("r", Aborted)
	w.answers(true)
}

func TestDesktopsAreExcludedBeforeTheyAreSent(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", strategy(2, whole, 20, "20%"), nil)
	w.rejected("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00001"}, Reason: "x"}, "it is planning")
	w.until("r", Running)
	w.rejected("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00019", "other"}, Reason: "x"}, "1 are not part of the rollout: other")
	w.run(10*day, func() bool { return w.head("r").Counts()[Sent] > 0 })
	w.rejected("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"D-00001"}, Reason: "x"}, "none is excluded: 1 sent, d-00001")
	r := w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00018"}, Reason: "a guest"})
	require.Equal(t, "1 desktop excluded: a guest", r.Reason)
	require.Empty(t, r.Desktops)
	require.Equal(t, Counts{Done: 19, Excluded: 1}, w.until("r", Completed).Counts())
	require.Equal(t, Excluded, w.audit("r")["d-00018"])
}

// Who has sent the start waits for the plan.
func TestAnAbortWhileThePlanIsMadeAnswersTheStart(t *testing.T) {
	t.Parallel()
	w := calm(t, 5)
	start := w.start("r", nil, nil)
	w.rejected("r", events.TypeRolloutPause, events.RolloutCommand{}, "a rollout that is planning cannot be paused")
	abort := w.do("r", events.TypeRolloutAbort, events.RolloutCommand{Reason: "wrong image"})
	require.Equal(t, "aborting: wrong image", abort.Reason)
	r := w.answer(start)
	require.Equal(t, events.TypeRolloutRejected, r.Why)
	require.Equal(t, "the rollout was aborted before its plan was made: wrong image", r.Reason)
	require.Equal(t, "wrong image", w.until("r", Aborted).Reason)
	w.run(day, nil)
	require.Zero(t, w.accepted)
	w.answers(true)
}

func TestASecondRolloutOverADesktopIsRejected(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.start("one", nil, nil)
	w.until("one", Running)
	second := w.start("two", nil, nil)
	require.Contains(t, w.answer(second).Reason, "rollout one holds 10 of the desktops: d-00000")
	w.until("two", Aborted)
	w.until("one", Completed)
	w.rejected("one", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("one", nil)}, "a name is used once")

	third := map[string]any{"image": map[string]any{"image_id": "new-2", "image_type": "private"}}
	w.start("three", with(third, approval), nil)
	w.until("three", Planned)
	before := w.head("one").Counts()
	w.rejected("one", events.TypeRolloutRollback, events.RolloutCommand{}, "rollout three holds 10 of the desktops")
	require.Equal(t, Completed, w.head("one").Phase)
	require.Equal(t, before, w.head("one").Counts())
	w.audit("one")
	w.do("three", events.TypeRolloutAbort, events.RolloutCommand{})
	w.do("one", events.TypeRolloutRollback, events.RolloutCommand{})
	w.until("one", RolledBack)
	w.audit("one")
	w.answers(true)
}

func TestAPlanOnlyMayBeStartedOnceMore(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.start("r", nil, func(c *events.RolloutCommand) { c.PlanOnly = true })
	h := w.until("r", Planned)
	w.run(day, nil)
	require.Nil(t, w.head("r").Tick)
	require.JSONEq(t, `{"names":[]}`, string(w.store[LiveKey].value))
	w.rejected("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: h.Digest}, "nothing waits for approval")
	w.start("r", nil, nil)
	h = w.until("r", Completed)
	require.Equal(t, Counts{Done: 10}, h.Counts())
	require.JSONEq(t, `{"names":["r"]}`, string(w.store[IndexKey].value))
	w.answers(true)
}

func TestAVerbThatIsDeliveredTwiceEndsInOneEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 30, odds{double: 100})
	w.start("r", strategy(2, []string{"50%", "100%"}, 20, "20%"), nil)
	w.until("r", Running)
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00029"}, Reason: "x"})
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage(`"30%"`)})
	w.run(day, func() bool { return w.head("r").Counts()[Done] > 0 })
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	w.until("r", RolledBack)
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	w.run(day, nil)
	w.answers(true)
	w.audit("r")
}

// A verb acts once, also if it is delivered once more when its event is no longer in the head.
func TestAVerbThatIsRepeatedLateDoesNotActTwice(t *testing.T) {
	t.Parallel()
	w := calm(t, 5)
	w.failing("d-00001")
	w.start("r", strategy(0, whole, 5, "1"), nil)
	w.until("r", Completed)
	late := w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.answer(late)
	w.until("r", Completed)
	for range logSize + 5 {
		w.rejected("r", events.TypeRolloutPause, events.RolloutCommand{}, "cannot be paused")
	}
	h, before := w.head("r"), w.accepted
	require.False(t, slices.ContainsFunc(h.Log, func(e Entry) bool { return e.Causation == late }))
	w.deliver("r", 0, w.verbs[late], true)
	w.run(time.Hour, nil)
	require.Equal(t, before, w.accepted)
	require.Equal(t, Counts{Done: 4, Failed: 1}, w.head("r").Counts())
	other := w.verbs[late]
	changed := *other.Verb
	changed.Digest = "other"
	other.Verb = &changed
	w.deliver("r", 0, other, false)
	w.run(day, nil)
	require.Equal(t, before+1, w.accepted, "other data under the same id is another verb")
	late = w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.answer(late)
	w.until("r", Completed)
	for range maxSeen + 5 {
		w.run(time.Second, nil)
		w.rejected("r", events.TypeRolloutPause, events.RolloutCommand{}, "cannot be paused")
	}
	require.Len(t, w.head("r").Seen, maxSeen)
	h, before = w.head("r"), w.accepted
	require.NotContains(t, h.Seen, w.verbs[late].Verb.operation())
	w.deliver("r", 0, w.verbs[late], true)
	w.run(time.Hour, nil)
	require.Equal(t, before, w.accepted, "a retry that is forgotten is not carried out once more")
	require.Equal(t, h.Counts(), w.head("r").Counts())
	require.True(t, slices.ContainsFunc(w.reported, func(m Message) bool {
		return m.Causation == late && m.Type == events.TypeRolloutRejected && strings.Contains(string(m.Data), "it no longer knows whether it was carried out")
	}))
	w.run(7*time.Hour, nil)
	w.rejected("r", events.TypeRolloutPause, events.RolloutCommand{}, "cannot be paused")
	require.Len(t, w.head("r").Seen, 1, "older verbs do not come any more")
}

func TestALowerLimitHoldsForABatchThatWaits(t *testing.T) {
	t.Parallel()
	w := calm(t, 60)
	w.start("r", with(strategy(0, whole, 50, "5%"), map[string]any{"window": map[string]any{"from": "20:00", "to": "22:00", "timezone": "UTC"}}), nil)
	w.until("r", Running)
	require.True(t, w.run(day, func() bool { return len(w.head("r").Open) > 0 }))
	w.frozen = true
	w.run(2*time.Hour, nil)
	require.Equal(t, Looking, w.head("r").Open[0].State)
	w.frozen = false
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 7})
	w.most = 7
	require.Equal(t, Counts{Done: 60}, w.until("r", Completed).Counts())
	w.audit("r")
}

func TestRecordsStaySmallWhateverIsSent(t *testing.T) {
	t.Parallel()
	w := calm(t, 6000)
	for i, id := range w.ids {
		long := fmt.Sprintf("%s-%s", id, strings.Repeat("x", 28))
		w.desktops[long] = w.desktops[id]
		delete(w.desktops, id)
		w.ids[i] = long
	}
	w.start("r", with(strategy(0, whole, 3000, "1%"), approval), nil)
	h := w.until("r", Planned)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: h.Digest})
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{})
	long := strings.Repeat("ä", 200)
	for i := range 20 {
		w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: w.ids[i*100 : (i+1)*100], Reason: fmt.Sprint(i, long)})
	}
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: w.ids[:5000]})
	ids := make([]string, 500)
	for i := range ids {
		ids[i] = strings.Repeat("!", 60)
	}
	for range 42 {
		w.rejected("r", events.TypeRolloutStart, events.RolloutCommand{
			Spec: spec("r", map[string]any{"targets": map[string]any{"desktop_ids": ids}, "users": map[string]any{"connected": long}}),
		}, "spec")
	}
	h = w.head("r")
	require.Equal(t, Counts{Pending: 6000 - h.Excluded, Excluded: h.Excluded}, h.Counts())
}

func TestAStartWithOtherDataUnderTheSameIDIsRejected(t *testing.T) {
	t.Parallel()
	s, _ := newSim(t, 3)
	start := verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)})
	_, err := s.step(start)
	require.NoError(t, err)
	r, err := s.step(start)
	require.NoError(t, err)
	require.Empty(t, r.Puts, "a second delivery")
	start.Verb.Digest = "other"
	r, err = s.step(start)
	require.NoError(t, err)
	require.Equal(t, events.TypeRolloutRejected, r.Messages[len(r.Messages)-1].Type)
}
