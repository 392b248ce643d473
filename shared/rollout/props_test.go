package rollout

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

var (
	seeds = flag.Int("rollout.seeds", 15, "number of random rollouts")
	first = flag.Uint64("rollout.first", 1, "seed of the first of them")
	pairs = flag.Int("rollout.pairs", 23, "one of so many pairs of verbs is tried in each stage")
	seed  = flag.Uint64("rollout.seed", 0, "only the random rollout with this seed")
)

// random is a random spec.
func random(rng *rand.Rand) map[string]any {
	waves := [][]string{{"100%"}, {"50%", "100%"}, {"10%", "50%", "100%"}, {"1%", "2%", "99%", "100%"}}
	more := map[string]any{
		"strategy": map[string]any{
			"canary": rng.IntN(4), "waves": waves[rng.IntN(len(waves))], "max_unavailable": 15 + rng.IntN(40),
			"max_failed": []string{"0%", "10%", "20%", "20%"}[rng.IntN(4)], "soak": fmt.Sprintf("%dm", rng.IntN(15)),
		},
	}
	if rng.IntN(3) > 0 {
		more["users"] = map[string]any{
			"connected": []string{"skip", "defer", "force"}[rng.IntN(3)], "max_deferrals": rng.IntN(4),
			"then": []string{"skip", "force"}[rng.IntN(2)], "defer_for": fmt.Sprintf("%dm", 1+rng.IntN(30)),
		}
	}
	if rng.IntN(4) == 0 {
		more["window"] = map[string]any{"from": "20:00", "to": "02:00", "timezone": "Europe/Berlin"}
	}
	if rng.IntN(4) == 0 {
		more["approval"] = map[string]any{"required": true, "within": "6h"}
	}
	return more
}

func randomOdds(rng *rand.Rand) odds {
	some := func(most int) int { return max(0, rng.IntN(2*most)-most) }
	return odds{
		lose: some(20), double: some(50), late: some(40), crash: some(30), race: some(40), fail: some(15), unknown: some(10), unclear: some(30),
		split: some(60), busy: some(10), timeOut: some(10), lost: some(10), listFails: some(20), login: some(40), noCheck: some(50),
	}
}

// person is somebody who sends verbs at random, and in the end brings the rollout to its end.
func (w *world) person(name string, patience int) {
	h := w.head(name)
	if h == nil || h.over() {
		if w.chance(70) || h == nil {
			w.after(10*time.Minute, func() { w.person(name, patience-1) })
			return
		}
	}
	failed := int64(h.Counts().failed())
	data := events.RolloutCommand{By: "p", Reason: "r"}
	send := func(typ string) { w.command(time.Duration(w.rng.IntN(20))*time.Second, name, typ, data) }
	some := func() {
		for range 1 + w.rng.IntN(4) {
			data.DesktopIDs = append(data.DesktopIDs, w.ids[w.rng.IntN(len(w.ids))])
		}
	}
	digest := h.Digest
	if h.Offer != nil {
		digest = h.Offer.Digest
	}
	if h.Phase == Planned && !h.PlanOnly || h.Offer != nil {
		data.PlanSHA256 = digest
		if w.chance(20) {
			data.PlanSHA256 = "wrong"
		}
		send(events.TypeRolloutApprove)
		data.PlanSHA256 = ""
	}
	if patience <= 0 {
		if h.Phase == Paused || h.Phase == Halted {
			data.AcceptFailed = &failed
			send(events.TypeRolloutResume)
		}
		if patience < -60 && !h.over() && h.Phase != Aborting {
			send(events.TypeRolloutAbort)
		}
	} else {
		switch w.rng.IntN(14) {
		case 0, 1:
			send(events.TypeRolloutPause)
		case 2, 3, 4, 5:
			if w.chance(80) {
				data.AcceptFailed = &failed
			}
			send(events.TypeRolloutResume)
		case 6:
			send(events.TypeRolloutPromote)
		case 7:
			some()
			send(events.TypeRolloutExclude)
		case 8, 9:
			if w.chance(50) {
				some()
			}
			send(events.TypeRolloutRetry)
		case 10:
			if w.chance(30) {
				some()
			}
			send(events.TypeRolloutRollback)
		case 11:
			if w.chance(20) {
				send(events.TypeRolloutAbort)
			}
		case 12:
			w.frozen = !w.frozen
			w.after(20*time.Minute, func() { w.frozen = false })
		case 13:
			data.MaxUnavailable = int64(15 + w.rng.IntN(40))
			w.most = max(w.most, int(data.MaxUnavailable))
			send(events.TypeRolloutSet)
		}
	}
	w.after(time.Duration(1+w.rng.IntN(20))*time.Minute, func() { w.person(name, patience-1) })
}

// each runs a test for every seed; a seed that fails is named.
func each(t *testing.T, n int, run func(t *testing.T, seed uint64)) {
	if *seed > 0 {
		run(t, *seed)
		return
	}
	for i := range n {
		i := uint64(i) + *first
		if !t.Run(fmt.Sprint(i), func(t *testing.T) { run(t, i) }) {
			return
		}
	}
}

func TestWhateverHappensARolloutKeepsItsPromisesAndEnds(t *testing.T) {
	t.Parallel()
	each(t, *seeds, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(t, seed, 3+rng.IntN(60), randomOdds(rng))
		defer func() {
			if t.Failed() {
				t.Log("seed", seed, w)
			}
		}()
		w.start("r", random(rng), nil)
		if rng.IntN(3) > 0 {
			w.after(5*time.Minute, func() { w.person("r", 15) })
		} else {
			w.after(5*time.Minute, func() { w.person("r", 0) })
		}
		if rng.IntN(3) == 0 {
			w.odds.lose = 0 // else nothing might wake it any more
			w.after(time.Duration(rng.IntN(120))*time.Minute, func() { w.forget(rng.IntN(2) == 0) })
		}
		over := func() bool { h := w.head("r"); return h != nil && h.over() }
		require.True(t, w.run(20*24*time.Hour, over), "it does not end")
		w.audit("r")
		w.run(2*time.Hour, nil) // a worker that died carries out its step once more
		w.batchesReported(w.head("r"))
		if testing.Verbose() {
			t.Log(w.totals(), w)
		}
		w.answers(false)
	})
}

// forget loses the list of the rollouts that live, or replaces it by an older one.
func (w *world) forget(older bool) {
	record := versioned{revision: w.store[LiveKey].revision + 1}
	if older {
		record.value = []byte(`{"names":["earlier"]}`)
	}
	w.store[LiveKey] = record
}

// totals are what the random rollouts have seen, to show that they see enough.
func (w *world) totals() string {
	types := map[string]int{}
	for _, m := range w.reported {
		types[m.Type]++
	}
	return fmt.Sprint(w.steps, " steps, ", w.accepted, " rebuilds, halts ", w.halts, " events ", types)
}
