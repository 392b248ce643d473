package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func users(connected string, max int, then string) map[string]any {
	return map[string]any{"users": map[string]any{"connected": connected, "max_deferrals": max, "then": then, "defer_for": "20m"}}
}

// connect lets users work on desktops from the time at which the rollout runs.
func (w *world) connect(name string, ids ...string) {
	w.until(name, Running)
	for _, id := range ids {
		w.desktops[id].login = "CONNECTED"
	}
}

func TestACanaryInUseIsReplaced(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{Skip, Defer} {
		w := calm(t, 20)
		w.start("r", with(strategy(3, whole, 20, "20%"), users(policy, 2, Skip)), nil)
		w.connect("r", "d-00000", "d-00001", "d-00002", "d-00003")
		h := w.until("r", Completed)
		require.Equal(t, Counts{Done: 16, Skipped: 4}, h.Counts(), policy)
		require.Equal(t, CanaryWave, h.Waves[0].Kind)
		require.Equal(t, 7, h.Waves[0].To, "three further candidates in two rounds")
		w.audit("r")
	}
}

func TestAWaveOfWhichEveryDesktopIsInUseReleasesNothing(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(strategy(0, []string{"20%", "100%"}, 20, "20%"), users(Skip, 1, Skip)), nil)
	w.connect("r", w.ids[:4]...)
	h := w.until("r", Halted)
	require.Equal(t, "no_evidence", h.Why)
	require.Zero(t, w.accepted)
	require.Equal(t, Counts{Skipped: 4, Pending: 16}, h.Counts())
	none := int64(0)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &none})
	require.Equal(t, Counts{Skipped: 4, Done: 16}, w.until("r", Completed).Counts())
}

func TestDeferredDesktopsComeLastUpToTheirLimit(t *testing.T) {
	t.Parallel()
	for then, want := range map[string]Counts{Skip: {Done: 18, Skipped: 2}, Force: {Done: 20}} {
		w := calm(t, 20)
		looks := 0
		w.start("r", with(strategy(0, whole, 20, "20%"), users(Defer, 3, then)), nil)
		w.connect("r", "d-00005", "d-00006")
		w.onStep = func(h *Head) {
			if len(h.Waves) > looks {
				looks = len(h.Waves)
			}
		}
		w.onAccepted = func(c *call) {
			if then == Skip {
				require.NotContains(t, c.ids, "d-00005")
			}
		}
		h := w.until("r", Completed)
		require.Equal(t, want, h.Counts(), then)
		require.Equal(t, 4, looks, "three waves of deferred desktops")
		for i, wave := range h.Waves[1:] {
			require.Equal(t, DeferredWave, wave.Kind)
			require.False(t, wave.Started.Before(wave.NotBefore))
			require.False(t, wave.NotBefore.Before(h.Waves[i].Started.Add(20*time.Minute)))
		}
		w.audit("r")
	}
}

func TestFailuresThatUseUpTheRoomHalt(t *testing.T) {
	t.Parallel()
	w := calm(t, 60)
	w.failing("d-00000", "d-00010", "d-00020", "d-00030")
	w.start("r", strategy(0, whole, 5, "5%"), nil)
	w.until("r", Running)
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage("4"), MaxUnavailable: 5})
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage("3"), MaxUnavailable: 4})
	h := w.until("r", Halted)
	require.Contains(t, []string{"no_room", "max_failed"}, h.Why)
	require.LessOrEqual(t, h.Counts()[Failed], 4)
	w.audit("r")
}

// Failures that are accepted use up the room all the same.
func TestTheWayOutWithoutRoomIsMoreRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 30, odds{lost: 100})
	w.start("r", strategy(0, whole, 5, "4"), nil)
	w.until("r", Running)
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 9, MaxFailed: json.RawMessage("8")})
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 5, MaxFailed: json.RawMessage("4")})
	for n := range 3 {
		h := w.until("r", Halted)
		if n == 0 {
			require.Equal(t, "max_failed", h.Why)
		} else {
			require.Equal(t, "no_room", h.Why)
			require.Equal(t, []string{"rollout", "set", "r", "--max-unavailable", "10"}, h.next()[0].Words)
		}
		failed := int64(h.Counts().failed())
		w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &failed})
	}
	require.Zero(t, w.head("r").Counts()[Sent])
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 10})
	w.most = 10
	failed := int64(w.until("r", Halted).Counts().failed())
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &failed})
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Sent] == 5 }), w)
}

// TestHowACommandEndsDecidesTheState has one desktop in a batch of its own, whose command ends in each way.
func TestHowACommandEndsDecidesTheState(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind, effect string
		times        int // how often it ends so
		want         string
		commands     int
	}{
		"expired":                     {events.KindExpired, events.EffectNone, 1, Done, 2},
		"frozen":                      {events.KindFrozen, events.EffectNone, 3, Done, 4},
		"busy once":                   {events.KindConflict, events.EffectNone, 1, Done, 2},
		"busy always":                 {events.KindConflict, events.EffectNone, 99, Skipped, 3},
		"not allowed":                 {events.KindNotAllowed, events.EffectNone, 1, Refused, 1},
		"invalid":                     {events.KindInvalid, events.EffectNone, 1, Failed, 1},
		"not known":                   {events.KindUnknownOutcome, events.EffectUnknown, 1, Unknown, 1},
		"not known, as if it expired": {events.KindExpired, events.EffectUnknown, 1, Unknown, 1},
		"accepted and then lost":      {"unavailable", "accepted", 1, Unknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := calm(t, 1)
			commands := 0
			w.refuse = func(*call) (string, string) {
				if commands++; commands > test.times {
					return "", ""
				}
				return test.kind, test.effect
			}
			w.start("r", with(strategy(0, whole, 2, "1"), users(Defer, 2, Skip)), nil)
			h := w.until("r", Completed)
			require.Equal(t, Counts{test.want: 1}, h.Counts())
			require.Equal(t, test.commands, commands)
			w.audit("r")
		})
	}
}

func TestAJobWithoutAnEndIsUnknownAndRetriedOnlyByName(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]odds{"timed out": {timeOut: 100}, "lost": {lost: 100}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 4, o)
			w.start("r", strategy(0, whole, 9, "4"), nil)
			require.Equal(t, Counts{Unknown: 4}, w.until("r", Completed).Counts())
			w.odds = odds{}
			early := w.do("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: w.ids[:2]})
			require.Contains(t, early.Reason, "no desktop for the retry; 2 stay unknown")
			w.until("r", Completed)
			w.run(time.Hour, nil)
			w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
			require.Equal(t, Counts{Unknown: 4}, w.until("r", Completed).Counts(), "they are not named")
			before := w.accepted
			w.do("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: w.ids[:2]})
			require.Equal(t, Counts{Done: 2, Unknown: 2}, w.until("r", Completed).Counts())
			require.Equal(t, before, w.accepted, "they run the image already")
			w.audit("r")
		})
	}
}

// A command that was begun and is in no record of the ledger may still change its desktops: there is no second one.
func TestACommandThatWasBegunAndHasNoRecordIsUnknown(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]string{"accepted": events.TypeJobAccepted, "unclear": events.TypeCommandUnclear} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 4, odds{unclear: 100})
			w.drop = func(e Event) bool {
				if e.Type == begun {
					var d events.CommandUnclear
					require.NoError(t, json.Unmarshal(e.Data, &d))
					delete(w.ledger, events.Identity(d.Command.Source, d.Command.ID))
				}
				return e.Type == events.TypeJobCompleted || e.Type == events.TypeJobAccepted && e.Type != begun
			}
			w.start("r", strategy(0, whole, 9, "4"), nil)
			require.Equal(t, Counts{Unknown: 4}, w.until("r", Completed).Counts())
			require.Equal(t, 4, w.accepted)
			w.audit("r")
		})
	}
}

func TestWithoutAnyEventTheLedgerIsEnough(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 30, odds{split: 50, unclear: 30})
	w.start("r", strategy(2, []string{"50%", "100%"}, 20, "20%"), nil)
	w.until("r", Running)
	w.failing("d-00017")
	deaf := true
	w.drop = func(e Event) bool {
		return deaf && e.Type != events.TypeDesktopsListed && e.Type != events.TypeImagesChecked
	}
	require.Equal(t, Counts{Done: 29, Failed: 1}, w.until("r", Completed).Counts())
	w.audit("r")
}

// TestEveryOrderOfEventsEndsTheSame has the same faults of the service in each run, and other faults of the broker and
// the workers.
func TestEveryOrderOfEventsEndsTheSame(t *testing.T) {
	t.Parallel()
	var want map[string]string
	each(t, *seeds/3, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		o := odds{lose: rng.IntN(20), double: rng.IntN(50), late: rng.IntN(60), crash: rng.IntN(30), race: rng.IntN(40), split: rng.IntN(50), noCheck: rng.IntN(50)}
		w := newWorld(t, seed, 45, o)
		w.fails = func(id string, _ Message) bool { return id[len(id)-1] == '7' }
		w.start("r", with(strategy(0, []string{"30%", "100%"}, 40, "30%"), users(Force, 1, Skip)), nil)
		w.until("r", Completed)
		states := w.audit("r")
		if want == nil {
			want = states
		}
		require.Equal(t, want, states)
		require.Equal(t, 45, w.accepted)
	})
}

// TestItHaltsExactlyWhenTheThresholdsSaySo counts the failures of the model, and compares.
func TestItHaltsExactlyWhenTheThresholdsSaySo(t *testing.T) {
	t.Parallel()
	each(t, *seeds/2, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 4))
		n := 10 + rng.IntN(60)
		w := newWorld(t, seed, n, odds{double: 20, late: 30, crash: 10, race: 20})
		canary, share := rng.IntN(4), []int{0, 5, 10, 25}[rng.IntN(4)]
		fail := map[string]bool{}
		for range rng.IntN(8) {
			fail[w.ids[rng.IntN(n)]] = true
		}
		w.fails = func(id string, _ Message) bool { return fail[id] }
		w.start("r", with(strategy(canary, []string{"40%", "100%"}, 80, fmt.Sprintf("%d%%", share)), users(Force, 1, Skip)), nil)
		require.True(t, w.run(10*day, func() bool { h := w.head("r"); return h != nil && (h.over() || h.Phase == Halted) }))
		w.run(2*time.Hour, nil) // what was sent ends
		h := w.head("r")
		// What should have happened: wave by wave, with the ids in order.
		want, at, total := "", 0, 0
		for _, to := range []int{canary, max((n*40+99)/100, canary), n} {
			failed := 0
			for _, id := range w.ids[at:to] {
				if fail[id] {
					failed++
				}
			}
			total += failed
			switch size := to - at; {
			case at == 0 && to == canary && failed > 0:
				want = "canary_max_failed"
			case (at > 0 || to > canary) && (failed > size*share/100 || total > n*share/100):
				want = "max_failed"
			case failed == size && size > 0 && to < n:
				want = "no_evidence"
			}
			at = to
			if want != "" {
				break
			}
		}
		require.Equal(t, want, h.Why, "canary %d of %d, %d%%, %v: %s", canary, n, share, slices.Sorted(maps.Keys(fail)), w)
		require.Equal(t, want == "", h.Phase == Completed)
	})
}

// TestNothingBeginsOutsideTheWindow has the days on which the clocks change; the check itself is in accept.
func TestNothingBeginsOutsideTheWindow(t *testing.T) {
	t.Parallel()
	for _, begin := range []time.Time{
		time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC), time.Date(2026, 6, 1, 0, 30, 0, 0, time.UTC),
	} {
		for _, window := range [][2]string{{"01:00", "04:00"}, {"22:00", "02:30"}, {"02:30", "03:45"}} {
			w := newWorld(t, 1, 16, odds{late: 50, crash: 20, race: 20})
			w.now = begin
			w.due = nil
			w.after(0, w.wake)
			closes := time.Time{}
			w.onAccepted = func(*call) {
				h := w.head("r")
				_, closes = h.Spec.Window.Open(w.now)
				require.False(t, w.now.Add(5*time.Minute).After(closes), "%s closes %s", w.now, closes)
			}
			w.start("r", with(strategy(1, []string{"10%", "50%", "100%"}, 7, "5%"), map[string]any{
				"window": map[string]any{"from": window[0], "to": window[1], "timezone": "Europe/Berlin"},
			}), nil)
			require.True(t, w.run(30*day, func() bool { h := w.head("r"); return h != nil && h.over() }), w)
			require.Equal(t, Counts{Done: 16}, w.head("r").Counts())
		}
	}
}

func TestWithoutDeferralsADesktopInUseIsSkippedAtOnce(t *testing.T) {
	t.Parallel()
	w := calm(t, 5)
	w.start("r", with(strategy(0, whole, 5, "20%"), users(Defer, 0, Skip)), nil)
	w.connect("r", "d-00001")
	w.onStep = func(h *Head) { require.Zero(t, h.Counts()[Deferred]) }
	require.Equal(t, Counts{Done: 4, Skipped: 1}, w.until("r", Completed).Counts())
}

// The first batch takes longer than the window is open.
func TestAWindowInWhichNoBatchFitsIsNamed(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	hour := map[string]any{"from": "20:00", "to": "21:00", "timezone": "UTC"}
	w.start("r", with(strategy(1, whole, 10, "50%"), map[string]any{"window": hour}), nil)
	w.took = 62 * time.Minute
	require.True(t, w.run(2*day, func() bool {
		h := w.head("r")
		return h != nil && h.Counts()[Done] == 1 && h.Waiting.Reason == "window"
	}))
	long := share(w.head("r").Took, 9).String()
	require.Contains(t, w.head("r").Waiting.Text, "; it is open for 1h0m0s, and batches have taken "+long+": recompose rollout set makes it longer")
	w.took = 0
	w.run(2*day, nil)
	h := w.head("r")
	require.Equal(t, Running, h.Phase)
	require.Zero(t, h.Waiting.Until, "the next window does not help")
	v := &View{Head: h, Batches: make([]*Batch, h.Batches)}
	status := v.Status(w.now)
	require.True(t, status.NeedsPerson)
	require.Zero(t, status.End)
	require.Equal(t, []string{"rollout", "set", "r", "--window-from", "20:00", "--window-to", "HH:MM", "--window-timezone", "UTC"}, status.Next[0].Words)
	require.Contains(t, v.Lines(status, w.now, Layout{})[3].String(), "recompose rollout set makes it longer")
	var watched Changes
	changes := watched.Of(v)
	require.Contains(t, changes[len(changes)-1].Text, "waits: the window is closed; it is open for 1h0m0s")
	var notices []string
	for _, m := range w.reported {
		if m.Type == events.TypeRolloutChanged {
			var r events.Rollout
			require.NoError(t, json.Unmarshal(m.Data, &r))
			notices = append(notices, r.Reason)
		}
	}
	require.Len(t, notices, 1, "once, not with each window")
	require.Contains(t, notices[0], "recompose rollout set makes it longer")
	short := json.RawMessage(`{"from":"20:00","to":"21:02","timezone":"UTC"}`)
	w.rejected("r", events.TypeRolloutSet, events.RolloutCommand{Window: short}, "a batch may take "+long+"; make it longer")
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{Window: json.RawMessage(`{"from":"20:00","to":"22:00","timezone":"UTC"}`)})
	require.False(t, w.head("r").NeedsPerson())
	require.Equal(t, Counts{Done: 10}, w.until("r", Completed).Counts())
}
