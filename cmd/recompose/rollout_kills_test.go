//go:build unix

package main

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/testkit/chaostest"
)

// TestRolloutSurvivesKills brings an image to 1,000 desktops and takes it back, while workers are killed in every phase
// and the NATS server twice: each desktop is rebuilt once in each direction, and ends on its own earlier image.
func TestRolloutSurvivesKills(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("seed: go test ./cmd/recompose -run TestRolloutSurvivesKills -chaos.seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 14))
	begun := time.Now()
	f := newStand(t, settings{desktops: 1000, window: proofWindow, speed: "600", pace: "20", seed: severalImages(4)})
	var workers []*process
	for range 3 {
		workers = append(workers, f.worker())
	}
	workers[0].prints(t, "working on")
	kills, next := 0, time.Now()
	kill := func(i int) {
		workers[i].kill()
		workers[i] = f.worker()
		kills++
	}
	stages := map[string]bool{} // where all workers were killed
	f.tend = func() {
		h := f.head("kills")
		stage := h.Phase
		for _, w := range h.Waves {
			if !w.Started.IsZero() && w.Judged.IsZero() {
				stage = h.Phase + " " + w.Kind
			}
		}
		switch {
		case stage != "" && !stages[stage]:
			stages[stage] = true
			for i := range workers {
				kill(i)
			}
		case time.Now().After(next):
			kill(rnd.IntN(len(workers)))
			next = time.Now().Add(chaostest.Between(rnd, time.Second, 4*time.Second))
		}
	}
	failing := f.ids[len(f.ids)-2:]
	var faults []emulator.Fault
	for _, id := range failing {
		faults = append(faults, emulator.Fault{Call: emulator.CallRebuild, DesktopID: id, Times: 1, Do: emulator.Do{Job: "fail", ErrorCode: "WKS.00010050"}})
	}
	f.faults(faults...)

	spec := f.spec("kills")
	spec.Strategy = rollout.Strategy{Canary: 5, Waves: []string{"20%", "100%"}, MaxUnavailable: 500}
	start := f.start(spec)
	f.until(func() bool { return f.head("kills").Batches > 2 }, "no batch of the first wave is sent")
	f.restartNATS()
	verbs := []string{start}
	h := f.comesTo("kills", rollout.Halted)
	for ; h.Phase == rollout.Halted; h = f.comesTo("kills", rollout.Halted, rollout.Completed) { // each failure halts it
		require.Equal(t, "max_failed", h.Why)
		verbs = append(verbs, f.verb(events.TypeRolloutRetry, events.RolloutCommand{Name: "kills"}))
		f.answered(verbs[len(verbs)-1], events.TypeRolloutResumed)
	}
	require.LessOrEqual(t, len(verbs), 1+len(failing))
	require.Equal(t, rollout.Counts{rollout.Done: 1000}, h.Counts())
	times, _ := f.rebuiltTimes()
	require.Equal(t, all(f.ids, 1), times)
	require.Equal(t, all(f.ids, spec.Image.ImageID), f.images())
	there := time.Since(begun)

	back := f.verb(events.TypeRolloutRollback, events.RolloutCommand{Name: "kills"})
	f.answered(back, events.TypeRolloutResumed)
	f.until(func() bool { return len(f.head("kills").Open) > 0 }, "no batch goes back")
	f.restartNATS()
	h = f.comesTo("kills", rollout.RolledBack)
	require.Equal(t, rollout.Counts{rollout.BackDone: 1000}, h.Counts())
	times, _ = f.rebuiltTimes()
	require.Equal(t, all(f.ids, 2), times)
	require.Equal(t, f.before, f.images())
	for _, id := range append(verbs[1:], back) {
		require.Len(t, f.answersTo(id), 1, "one event answers each verb")
	}
	t.Logf("there in %v, back in %v; killed %d workers; all at once in: %s",
		there.Round(time.Second), time.Since(begun).Round(time.Second), kills, strings.Join(slices.Sorted(maps.Keys(stages)), ", "))
}
