package rollout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/rollout/fence"
)

// mixed is a random spec at the edges: few desktops, many waves, one desktop at a time, short windows.
func mixed(rng *rand.Rand, image string) map[string]any {
	pick := func(words ...string) string { return words[rng.IntN(len(words))] }
	waves := [][]string{
		{"100%"}, {"0.01%", "0.02%", "100%"}, {"1%", "2%", "3%", "4%", "5%", "50%", "100%"}, {"33.33%", "66.66%", "99.99%", "100%"},
	}
	room, failed := 1+rng.IntN(60), "0%"
	if room > 10 && rng.IntN(3) > 0 {
		room, failed = room+60, pick("1%", "20%", "50%", "100%", "3")
	}
	more := map[string]any{
		"image": map[string]any{"image_id": image, "image_type": "private"},
		"strategy": map[string]any{
			"canary": rng.IntN(7), "canary_max_failed": 0, "waves": waves[rng.IntN(len(waves))], "max_unavailable": room, "max_failed": failed,
			"soak": pick("0s", "1m", "20m"),
		},
		"options": map[string]any{"skip_current": rng.IntN(4) > 0},
	}
	if rng.IntN(4) > 0 {
		more["users"] = map[string]any{
			"connected": pick(Skip, Defer, Force), "max_deferrals": rng.IntN(4), "then": pick(Skip, Force),
			"defer_for": pick("1m", "20m", "3h"), "delay_time": 1 + rng.IntN(4),
		}
	}
	if rng.IntN(3) == 0 {
		more["window"] = map[string]any{"from": pick("00:30", "01:30", "02:30"), "to": pick("03:00", "03:30", "02:15"), "timezone": "Europe/Berlin"}
	}
	if rng.IntN(3) == 0 {
		more["approval"] = map[string]any{"required": true, "within": "6h"}
	}
	return more
}

// crowd are several people who send verbs at random, also several at a time, while desktops change. In the end one brings the
// rollout to its end, without an abort.
func (w *world) crowd(name string, patience int) {
	w.after(time.Duration(1+w.rng.IntN(15*60))*time.Second, func() { w.crowd(name, patience-1) })
	h := w.head(name)
	if h == nil || h.over() && (patience < 0 || w.chance(60)) {
		return
	}
	require.Greater(w.t, patience, -8000, "%s does not end: %s", name, w)
	failed := int64(h.Counts().failed())
	send := func(typ string, data events.RolloutCommand) {
		data.By, data.Reason = "p", "r"
		w.command(time.Duration(w.rng.IntN(20_000))*time.Millisecond, name, typ, data)
	}
	some := func() (ids []string) {
		for range w.rng.IntN(1 + min(5, len(w.ids))) {
			id := w.ids[w.rng.IntN(len(w.ids))]
			if w.chance(30) {
				id = strings.ToUpper(id)
			}
			if !slices.ContainsFunc(ids, func(other string) bool { return strings.EqualFold(id, other) }) {
				ids = append(ids, id)
			}
		}
		return ids
	}
	digest := h.Digest
	if h.Offer != nil {
		digest = h.Offer.Digest
	}
	if patience < 0 || w.chance(50) {
		if h.Phase == Planned && !h.PlanOnly || h.Offer != nil {
			send(events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: digest})
		}
	}
	if patience < 0 {
		w.frozen, w.denied = false, nil
		switch {
		case h.Phase == Halted && h.Why == "no_room":
			w.most = max(w.most, 200)
			send(events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 200})
			fallthrough
		case h.Phase == Paused || h.Phase == Halted:
			send(events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &failed})
		case h.Waiting != nil && strings.Contains(h.Waiting.Text, "recompose rollout set makes"):
			send(events.TypeRolloutSet, events.RolloutCommand{Window: json.RawMessage(`{"from":"00:00","to":"24:00","timezone":"UTC"}`)})
		}
		return
	}
	for range 1 + w.rng.IntN(3) {
		switch w.rng.IntN(16) {
		case 0:
			send(events.TypeRolloutPause, events.RolloutCommand{})
		case 1, 2, 3:
			send(events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &failed})
		case 4:
			send(events.TypeRolloutPromote, events.RolloutCommand{})
		case 5:
			if ids := some(); len(ids) > 0 {
				send(events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: ids})
			}
		case 6, 7:
			send(events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: some()})
		case 8:
			send(events.TypeRolloutRetry, events.RolloutCommand{})
		case 9:
			send(events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: some()})
		case 10:
			if w.chance(40) {
				send(events.TypeRolloutRollback, events.RolloutCommand{})
			}
		case 11:
			if w.chance(15) {
				send(events.TypeRolloutAbort, events.RolloutCommand{})
			}
		case 12:
			w.frozen = !w.frozen
			w.after(20*time.Minute, func() { w.frozen = false })
		case 13:
			n := 1 + w.rng.IntN(100)
			w.most = max(w.most, n)
			send(events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: int64(n)})
		case 14:
			send(events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage([]string{`"0%"`, `"30%"`, `2`}[w.rng.IntN(3)])})
		case 15:
			w.meddle(some())
		}
	}
}

// meddle changes desktops behind the back of the rollouts.
func (w *world) meddle(ids []string) {
	for _, id := range ids {
		d := w.desktops[strings.ToLower(id)]
		switch w.rng.IntN(4) {
		case 0:
			w.denied = map[string]bool{strings.ToLower(id): true}
		case 1:
			d.gone = !d.gone
		case 2:
			d.login = "CONNECTED"
		case 3:
			if d.jobs == 0 && d.image == d.base {
				d.image = "foreign"
			}
		}
	}
}

// mayBegin checks what must hold when the service accepts a call: by the records as they are then.
func (w *world) mayBegin(c *call) {
	ref, err := events.ParseRolloutRef(c.message.Rollout)
	require.NoError(w.t, err)
	h := w.head(ref.Name)
	var b Batch
	require.NoError(w.t, json.Unmarshal(w.store[BatchKey(ref.Name, ref.Batch)].value, &b))
	require.Equal(w.t, h.current(), b.Wave, "a batch of a wave whose turn it is not: %+v", h.Waves)
	require.False(w.t, w.now.Before(h.Waves[b.Wave].NotBefore), "deferred")
	excluded := map[string]bool{}
	for _, m := range w.reported {
		e := w.verbs[m.Causation]
		if e.Verb == nil || e.Verb.Type != events.TypeRolloutExclude || e.Verb.Data.Name != ref.Name || m.Type != events.TypeRolloutChanged {
			continue
		}
		var r events.Rollout
		require.NoError(w.t, json.Unmarshal(m.Data, &r))
		for _, id := range e.Verb.Data.DesktopIDs {
			late := slices.ContainsFunc(r.Desktops, func(d events.RolloutDesktop) bool {
				return d.State == Sent && strings.EqualFold(d.DesktopID, id)
			})
			if !late {
				excluded[fence.Fold(id)] = true
			}
		}
	}
	var d events.Rebuild
	require.NoError(w.t, json.Unmarshal(c.message.Data, &d))
	if h.Spec.Approval.Required {
		approved := 0
		for _, m := range w.reported {
			if e := w.verbs[m.Causation]; m.Type == events.TypeRolloutApproved && e.Verb.Data.Name == ref.Name {
				approved++
			}
		}
		require.GreaterOrEqual(w.t, approved, h.Plan, "each plan is approved")
	}
	for _, id := range c.ids {
		row := b.row(id)
		require.NotNil(w.t, row)
		require.Equal(w.t, Sent, row.State)
		require.False(w.t, excluded[id], "%s is excluded", id)
		require.False(w.t, w.denied[id], "%s is denied", id)
		var claims Claims
		require.NoError(w.t, json.Unmarshal(w.store[ClaimKey(fence.ClaimPart(id))].value, &claims))
		require.Equal(w.t, ref.Name, claims.Desktops[fence.Fold(id)], "the claim of %s", id)
		want := h.Image.ID
		if h.Waves[b.Wave].Kind == BackWave {
			want = w.baseline(ref.Name)[id]
		}
		require.Equal(w.t, want, d.ImageID, id)
	}
}

// baseline are the images that the desktops had when a rollout was planned.
func (w *world) baseline(name string) map[string]string {
	first, images := w.head(name).Ranges[0], map[string]string{}
	for n := 0; n*PageRows < first.Count; n++ {
		var page Page
		require.NoError(w.t, json.Unmarshal(w.store[PageKey(name, first.Operation, n)].value, &page))
		for _, slot := range page.Slots {
			images[slot.ID] = slot.Image
		}
	}
	return images
}

// stands checks a head that was stored: it halts exactly if the thresholds demand it, and shows why nothing moves.
func (w *world) stands(h *Head) {
	wave := h.current()
	over := func() bool {
		of, total := h.ofWave(wave).failed()-h.Accepted[wave], h.Counts().failed()
		for _, n := range h.Accepted {
			total -= n
		}
		st := h.Spec.Strategy
		limit := st.MaxFailed.Of(h.Waves[wave].To - h.Waves[wave].From)
		if h.Waves[wave].Kind == CanaryWave {
			limit = st.CanaryMaxFailed
		}
		first := h.Waves[wave].Kind == RetryWave && !h.ran(wave) // a retry first does what it can about the total
		return of > limit || !first && total > max(st.MaxFailed.Of(h.planned()), st.CanaryMaxFailed)
	}
	switch {
	case h.over():
	case h.Moving == "" && h.Waiting == nil:
		require.NotNil(w.t, h.Tick)
		require.Less(w.t, h.Tick.At.Sub(w.now), time.Second, "it shows no reason, and waits: %+v", h)
	case h.moving() && wave >= 0:
		require.False(w.t, over(), "it should have halted: %+v accepted %v", h.Counts(), h.Accepted)
	case h.Phase == Halted && w.lastPhase[h.Name] != Halted && strings.HasSuffix(h.Why, "max_failed"):
		require.True(w.t, over(), "it halts without need: %+v accepted %v", h.Counts(), h.Accepted)
	}
}

func TestRolloutsKeepTheirPromisesWhateverIsMixed(t *testing.T) {
	t.Parallel()
	each(t, *seeds, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 3))
		sizes := []int{0, 1, 2, 3, 7, 7, 7, 30, 30, 130}
		w := newWorld(t, seed, sizes[rng.IntN(len(sizes))], randomOdds(rng))
		defer func() {
			if t.Failed() {
				t.Log("seed", seed, w)
			}
		}()
		w.now = []time.Time{t0, time.Date(2027, 3, 27, 20, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 18, 0, 0, 0, time.UTC)}[rng.IntN(3)]
		w.after(time.Minute, w.wake) // the first one may be a month later
		w.onAccepted, w.vanish = w.mayBegin, true
		w.onStep = func(h *Head) { w.stands(h) }
		w.queue, w.back = time.Duration(rng.IntN(300))*time.Second, time.Duration(rng.IntN(60))*time.Second
		w.odds.clock = max(0, rng.IntN(40)-20)
		names := []string{"r"}
		w.start("r", mixed(rng, "new"), nil)
		w.after(time.Minute, func() { w.crowd("r", rng.IntN(40)) })
		if rng.IntN(2) == 0 {
			names = append(names, "q")
			w.after(time.Duration(rng.IntN(600))*time.Minute, func() {
				w.start("q", mixed(rng, []string{"new", "new-2"}[rng.IntN(2)]), nil)
				w.crowd("q", rng.IntN(40))
			})
		}
		if rng.IntN(3) == 0 {
			w.odds.lose = 0
			w.after(time.Duration(rng.IntN(300))*time.Minute, func() { w.forget(rng.IntN(2) == 0) })
		}
		over := func(name string) bool { h := w.head(name); return h != nil && h.over() }
		require.True(t, w.run(90*day, func() bool { return !slices.ContainsFunc(names, func(n string) bool { return !over(n) }) }), "it does not end")
		w.run(12*time.Hour, nil)
		for _, name := range names {
			h := w.head(name)
			w.batchesReported(h)
			got := sum(w.live(h), h.LeftOut)
			for state, n := range got {
				if n == 0 {
					delete(got, state)
				}
			}
			require.Equal(t, h.Counts(), got, fmt.Sprint(name, ": the counts of the head and of the records"))
		}
		if testing.Verbose() {
			t.Log(w.totals(), w)
		}
		w.answers(false)
	})
}
