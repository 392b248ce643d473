package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// stage brings a rollout of 8 desktops, of which d-00003 fails once, to a point at which verbs come.
type stage struct {
	name  string
	spec  map[string]any
	reach func(w *world)
}

func (w *world) when(reached func(h *Head) bool) {
	w.t.Helper()
	require.True(w.t, w.run(10*day, func() bool { h := w.head("r"); return h != nil && h.Moving == "" && reached(h) }), w)
}

func (h *Head) has(state string) bool {
	for _, o := range h.Open {
		if o.State == state {
			return true
		}
	}
	return false
}

func stages() []stage {
	verb := func(w *world, typ string) { w.do("r", typ, events.RolloutCommand{Reason: "x"}) }
	sent := func(h *Head) bool { return h.Counts()[Sent] > 0 }
	over := func(h *Head) bool { return h.over() }
	halts := map[string]any{"strategy": map[string]any{
		"canary": 4, "waves": []string{"60%", "100%"}, "max_unavailable": 8, "max_failed": "50%", "soak": "10m",
	}}
	window := map[string]any{"window": map[string]any{"from": "20:00", "to": "21:00", "timezone": "UTC"}}
	rollback := func(w *world) {
		w.when(func(h *Head) bool { return h.current() == 1 && sent(h) })
		w.command(0, "r", events.TypeRolloutRollback, events.RolloutCommand{})
	}
	abort := func(w *world) {
		w.when(func(h *Head) bool { return h.current() == 1 && sent(h) })
		verb(w, events.TypeRolloutAbort)
	}
	return []stage{
		{"planning", nil, func(w *world) { w.when(func(h *Head) bool { return h.Phase == Planning }) }},
		{"planned", approval, func(w *world) { w.when(func(h *Head) bool { return h.Phase == Planned }) }},
		{"claimed", nil, func(w *world) { w.when(func(h *Head) bool { return h.Phase == Running }) }},
		{"looking", nil, func(w *world) { w.when(func(h *Head) bool { return h.has(Looking) }) }},
		{"sent", nil, func(w *world) { w.when(sent) }},
		{"verifying", nil, func(w *world) { w.when(func(h *Head) bool { return h.has(Verifying) }) }},
		{"soaking", nil, func(w *world) { w.when(func(h *Head) bool { return len(h.Waves) > 0 && !h.Waves[0].Ended.IsZero() }) }},
		{"second wave", nil, func(w *world) { w.when(func(h *Head) bool { return h.current() == 2 && sent(h) }) }},
		{"canary halts", halts, func(w *world) { w.when(func(h *Head) bool { return h.Phase == Halted && sent(h) }) }},
		{"canary halted", halts, func(w *world) { w.when(func(h *Head) bool { return h.Phase == Halted && len(h.Open) == 0 }) }},
		{"paused", nil, func(w *world) { w.when(sent); verb(w, events.TypeRolloutPause) }},
		{"deferred", users(Defer, 2, Force), func(w *world) {
			w.connect("r", "d-00001", "d-00006")
			w.when(func(h *Head) bool { return h.Waiting != nil && h.Waiting.Reason == "deferral" })
		}},
		{"window ends", window, func(w *world) {
			w.when(func(h *Head) bool { return sent(h) || h.over() })
			w.run(t0.Add(time.Hour-30*time.Second).Sub(w.now), nil)
		}},
		{"retry waits", nil, func(w *world) {
			w.when(func(h *Head) bool { return h.Counts()[Failed] > 0 && sent(h) })
			w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
			w.when(func(h *Head) bool { return h.Queued != nil || len(h.waveNumbers(RetryWave)) > 0 })
		}},
		{"retry runs", nil, func(w *world) {
			w.when(func(h *Head) bool { return h.Counts()[Failed] > 0 })
			verb(w, events.TypeRolloutRetry)
			w.when(func(h *Head) bool { return h.Waves[h.current()].Kind == RetryWave && sent(h) })
		}},
		{"rollback waits", nil, func(w *world) {
			rollback(w)
			w.when(func(h *Head) bool { return h.Queued != nil || h.Phase == RollingBack })
		}},
		{"rollback runs", nil, func(w *world) { rollback(w); w.when(func(h *Head) bool { return h.Phase == RollingBack && sent(h) }) }},
		{"aborting", nil, abort},
		{"completed", nil, func(w *world) { w.when(over) }},
		{"aborted", nil, func(w *world) { abort(w); w.when(over) }},
		{"rolled back", nil, func(w *world) { rollback(w); w.when(over) }},
		{"offered", approval, func(w *world) {
			w.when(func(h *Head) bool { return h.Phase == Planned })
			w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.head("r").Digest})
			w.when(func(h *Head) bool { return h.Counts()[Failed] > 0 && sent(h) })
			verb(w, events.TypeRolloutRetry)
		}},
	}
}

// verbsNow are all verbs with data that fits as the rollout stands now.
func (w *world) verbsNow() []func() {
	h := w.head("r")
	failed, digest := int64(h.Counts().failed()), h.Digest
	if h.Offer != nil {
		digest = h.Offer.Digest
	}
	if digest == "" {
		digest = "none yet"
	}
	w.most = max(w.most, 20)
	send := func(typ string, data events.RolloutCommand) func() {
		data.By, data.Reason = "p", "r"
		return func() { w.command(0, "r", typ, data) }
	}
	return []func(){
		send(events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: digest}),
		send(events.TypeRolloutPause, events.RolloutCommand{}),
		send(events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &failed}),
		send(events.TypeRolloutPromote, events.RolloutCommand{}),
		send(events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"d-00001", "D-00003", "d-00006"}}),
		send(events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 20}),
		send(events.TypeRolloutSet, events.RolloutCommand{Window: json.RawMessage(`{"from":"22:00","to":"23:30","timezone":"UTC"}`)}),
		send(events.TypeRolloutRetry, events.RolloutCommand{}),
		send(events.TypeRolloutRollback, events.RolloutCommand{}),
		send(events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"d-00002"}}),
		send(events.TypeRolloutAbort, events.RolloutCommand{}),
		send(events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}),
	}
}

// Two verbs at a time, in each order, in each stage: each ends in one event, and the rollout ends.
func TestTwoVerbsAtATimeInEachStage(t *testing.T) {
	t.Parallel()
	for at, s := range stages() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			const verbs = 12
			for pair := range verbs * verbs {
				if (pair+at)%*pairs != 0 {
					continue
				}
				w := newWorld(t, uint64(pair+1), 8, odds{double: 20, race: 30, crash: 10})
				done := false
				defer func() {
					if !done {
						t.Log("pair", pair/verbs, pair%verbs, w)
					}
				}()
				fails := map[string]bool{"d-00003": true}
				w.fails = func(id string, _ Message) bool { was := fails[id]; delete(fails, id); return was }
				w.onAccepted, w.onStep = w.mayBegin, w.stands
				w.start("r", with(map[string]any{"strategy": map[string]any{
					"canary": 2, "waves": []string{"60%", "100%"}, "max_unavailable": 8, "max_failed": "50%", "soak": "10m",
				}}, s.spec), nil)
				s.reach(w)
				now := w.verbsNow()
				require.Len(t, now, verbs)
				now[pair/verbs]()
				now[pair%verbs]()
				w.run(2*time.Hour, nil)
				w.crowd("r", -1)
				require.True(t, w.run(60*day, func() bool { return w.head("r").over() }), "it does not end")
				w.run(12*time.Hour, nil)
				w.audit("r")
				w.answers(true)
				done = true
			}
		})
	}
}
