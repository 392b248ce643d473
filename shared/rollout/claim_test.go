package rollout

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/rollout/fence"
)

func (w *world) lives() []string {
	var live Live
	if record := w.store[LiveKey].value; record != nil {
		require.NoError(w.t, json.Unmarshal(record, &live))
	}
	return live.Names
}

// Without the list of those that live, the heads show whose claims hold.
func TestAClaimHoldsUntilTheHeadOfItsRolloutShowsItsEnd(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(w *world){
		"the list is lost":  func(w *world) { w.forget(false) },
		"the list is older": func(w *world) { w.forget(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := calm(t, 10)
			w.start("one", approval, nil)
			w.until("one", Planned)
			lose(w)
			second := w.start("two", nil, nil)
			require.Contains(t, w.answer(second).Reason, "rollout one holds 10 of the desktops: d-00000")
			require.Contains(t, w.answer(second).Reason, "take them out of it with recompose rollout exclude")
			w.until("two", Aborted)
			require.NotContains(t, w.lives(), "one", "no step of it was since")
			w.run(20*time.Minute, nil)
			require.Contains(t, w.lives(), "one", "its next step puts it back")
			require.NotContains(t, w.lives(), "two")

			lose(w)
			w.do("one", events.TypeRolloutAbort, events.RolloutCommand{})
			w.until("one", Aborted)
			require.NotContains(t, w.lives(), "one")
			w.start("three", map[string]any{"strategy": map[string]any{"max_unavailable": 10}}, nil)
			require.Equal(t, Counts{Done: 10}, w.until("three", Completed).Counts(), "a claim of one that is over is void")
			w.audit("three")
		})
	}
}

// A rollout that does not live holds nothing if it has no head. A head that cannot be read shows no end.
func TestAClaimOfARolloutWithoutAHeadIsVoid(t *testing.T) {
	t.Parallel()
	w := calm(t, 3)
	for _, id := range w.ids {
		raw, err := json.Marshal(Claims{Desktops: map[string]string{fence.Fold(id): "ghost", "d-other": "broken"}})
		require.NoError(t, err)
		w.store[ClaimKey(fence.ClaimPart(id))] = versioned{raw, 1}
	}
	w.store[HeadKey("broken")] = versioned{[]byte("{"), 1}
	w.start("r", nil, nil)
	w.until("r", Running)
	for _, id := range w.ids {
		var claims Claims
		require.NoError(t, json.Unmarshal(w.store[ClaimKey(fence.ClaimPart(id))].value, &claims))
		require.Equal(t, map[string]string{fence.Fold(id): "r", "d-other": "broken"}, claims.Desktops)
	}
}

// An excluded desktop is free for other rollouts, but for one whose call runs or may still take effect.
func TestAnExcludedDesktopIsFree(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.refuse = func(c *call) (kind, effect string) {
		if slices.Contains(c.ids, "d-00000") {
			return events.KindUnknownOutcome, events.EffectUnknown
		}
		return "", ""
	}
	w.start("one", strategy(1, []string{"50%", "100%"}, 10, "50%"), nil)
	for _, why := range []string{"canary_max_failed", "no_evidence"} { // the canary is unknown
		require.Equal(t, why, w.until("one", Halted).Why)
		one := int64(1)
		w.do("one", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &one})
	}
	require.True(t, w.run(day, func() bool { return w.head("one").Counts()[Sent] == 4 }))
	sent := w.head("one")
	w.do("one", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: w.ids[:3], Reason: "x"})
	w.do("one", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: w.ids[8:], Reason: "x"})
	require.Equal(t, sent.Counts()[Pending]-2, w.head("one").Counts()[Pending])
	w.vanish = true
	only := func(ids ...string) map[string]any {
		return map[string]any{"targets": map[string]any{"desktop_ids": ids}, "strategy": map[string]any{"max_unavailable": 9}}
	}
	require.Contains(t, w.answer(w.start("two", only(w.ids[0]), nil)).Reason, "rollout one holds 1 of the desktops: d-00000", "unknown")
	require.Contains(t, string(w.store[ClaimKey(fence.ClaimPart(w.ids[1]))].value), `"d-00001":"one"`, "sent")
	w.start("three", only(w.ids[8], w.ids[9]), nil)
	w.until("three", Running)
	require.Equal(t, events.TypeRolloutChanged, w.do("one", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: w.ids[7:9], Reason: "x"}).Why)
	require.Equal(t, Counts{Done: 2}, w.until("three", Completed).Counts(), "the second exclude has not taken it back")
	require.Equal(t, Counts{Done: 6, Unknown: 1, Excluded: 3}, w.until("one", Completed).Counts())
	w.audit("three")
}

// A step that claims desktops stores the claims before the head, also if it is about an exclude: else it could go on without them.
func TestAnExcludeDoesNotDelayClaims(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.start("one", strategy(0, whole, 10, "50%"), nil)
	w.until("one", Completed)
	w.command(0, "one", events.TypeRolloutRollback, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { return w.head("one").Moving != "" }))
	e := verb("x", events.TypeRolloutExclude, events.RolloutCommand{Name: "one", DesktopIDs: w.ids[:1], Reason: "x"})
	puts := w.think(delivery{name: "one", e: e}, false, 1).result.Puts
	at := func(key string) int { return slices.IndexFunc(puts, func(p Put) bool { return p.Key == key }) }
	claims, head := at(ClaimKey(fence.ClaimPart(w.ids[0]))), at(HeadKey("one"))
	require.GreaterOrEqual(t, claims, 0)
	require.Less(t, claims, head)
	require.Contains(t, string(puts[claims].Value), w.ids[0])
	w.deliver("one", 0, e, false)
	require.Equal(t, Counts{BackDone: 9, Excluded: 1}, w.until("one", RolledBack).Counts())
	w.audit("one")
}
