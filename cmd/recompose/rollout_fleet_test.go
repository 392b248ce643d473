//go:build unix

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/testkit/chaostest"
)

// How TestRolloutFleet runs. The defaults are a small fleet; `make rollout-fleet` runs a large one.
var (
	rolloutDesktops = flag.Int("rollout.desktops", 300, "size of the fleet of a rollout")
	rolloutSpeed    = flag.Float64("rollout.speed", 200, "what durations are divided by; the rates of calls are multiplied")
	rolloutWorkers  = flag.Int("rollout.workers", 1, "how many workers share the limits")
	rolloutKills    = flag.Duration("rollout.kills", 0, "how long it takes on average until a worker is killed, in real time; 0: none is")
	rolloutRestarts = flag.Int("rollout.restarts", 0, "how often the NATS server is killed and restarted")
	rolloutBack     = flag.Bool("rollout.back", true, "whether the rollout is rolled back in the end")
)

// TestRolloutFleet brings an image to a fleet within the limits of the service, of which 2% fail, and takes it back.
func TestRolloutFleet(t *testing.T) {
	t.Parallel()
	n, speed := *rolloutDesktops, *rolloutSpeed
	most := max(100, n/500*100)
	f := newStand(t, settings{
		desktops: n, window: max(time.Duration(float64(fleetWindow)/speed), proofWindow), speed: fmt.Sprint(speed), pace: fmt.Sprint(speed),
		flags: []string{
			"--job-time", "10m", "--reads-per-minute", fmt.Sprint(fleetReads * speed), "--writes-per-minute", fmt.Sprint(fleetWrites * speed),
		},
		seed: severalImages(4),
	})
	share := func(perMinute float64) string {
		return strconv.FormatFloat(perMinute*speed/float64(*rolloutWorkers), 'f', -1, 64)
	}
	worker := func() *process {
		return f.worker("RECOMPOSE_READS_PER_MINUTE="+share(fleetReads), "RECOMPOSE_WRITES_PER_MINUTE="+share(fleetWrites))
	}
	var workers []*process
	for range *rolloutWorkers {
		workers = append(workers, worker())
	}
	eventually(t, func() bool { return len(f.consumers("RECOMPOSE_COMMANDS")) > 0 }, "no worker works")
	rnd := rand.New(rand.NewPCG(*chaosSeed, 10_000))
	kills, restarts, memory, next := 0, 0, 0.0, time.Now().Add(*rolloutKills)
	f.tend = func() {
		if restarts < *rolloutRestarts && f.head("fleet").Batches > n/100*(restarts+1)/(*rolloutRestarts+1) {
			f.restartNATS()
			restarts++
		}
		if *rolloutKills > 0 && time.Now().After(next) {
			next = time.Now().Add(chaostest.Between(rnd, *rolloutKills/2, *rolloutKills*3/2))
			w := rnd.IntN(len(workers))
			memory = max(memory, memoryPeak(workers[w]))
			workers[w].kill()
			workers[w] = worker()
			kills++
		}
	}
	var faults []emulator.Fault
	bad := map[string]bool{}
	for i := 49; i < n; i += 50 {
		bad[f.order()[i]] = true
		faults = append(faults, emulator.Fault{Call: emulator.CallRebuild, DesktopID: f.order()[i], Times: 1, Do: emulator.Do{Job: "fail", ErrorCode: "WKS.00010050"}})
	}
	f.faults(faults...)

	spec := f.spec("fleet")
	spec.Targets = rollout.Targets{Where: &rollout.Where{Status: "ACTIVE"}}
	spec.Strategy = rollout.Strategy{Canary: 5, Waves: []string{"10%", "50%", "100%"}, MaxUnavailable: most, MaxFailed: rollout.Amount{IsShare: true, Percent: 4}}
	begun := time.Now()
	f.start(spec)
	f.within(2*within, func() bool { return f.head("fleet").Phase == rollout.Running }, "the plan is not made")
	planned := time.Since(begun)
	h := f.finishes(rollout.Completed, time.Duration(float64(6*time.Hour)/speed)+2*within)
	wall := time.Since(begun)
	require.Equal(t, rollout.Counts{rollout.Done: n - len(bad), rollout.Failed: len(bad)}, h.Counts())
	f.once(bad, 1)

	f.measure(h, most, wall, workers, memory)
	t.Logf("planned in %v; killed %d workers and %d times the server", planned.Round(time.Millisecond), kills, restarts)
	if !*rolloutBack {
		return
	}
	forward := kills
	f.answered(f.verb(events.TypeRolloutRollback, events.RolloutCommand{Name: "fleet"}), events.TypeRolloutResumed)
	h = f.finishes(rollout.RolledBack, time.Duration(float64(12*time.Hour)/speed)+2*within)
	// The service lists 11,000 jobs of desktops. Beyond them it may not show what became of a call whose worker was killed: such
	// a batch ends as unknown, and is not sent once more.
	times, _ := f.rebuiltTimes()
	images, unknown := f.images(), 0
	f.rows(h, func(_ rollout.Batch, r rollout.Row) {
		if r.State == rollout.Unknown {
			require.LessOrEqual(t, times[r.ID], 2, r.ID)
			require.Contains(t, []string{f.before[r.ID], h.Image.ID}, images[r.ID], r.ID)
			unknown++
			delete(images, r.ID)
			delete(f.before, r.ID)
			f.ids = slices.DeleteFunc(f.ids, func(id string) bool { return id == r.ID })
		}
	})
	want := rollout.Counts{rollout.BackDone: n - unknown}
	if unknown > 0 {
		want[rollout.Unknown] = unknown
		require.Greater(t, 2*n, 11_000, "%d desktops are unknown", unknown)
		require.LessOrEqual(t, unknown, events.MaxRebuildCall*(kills-forward), "a batch for each worker killed in its call")
	}
	require.Equal(t, want, h.Counts())
	require.Equal(t, f.before, images)
	f.once(bad, 2)
	t.Logf("back in %v of the service's time; %d unknown; killed %d workers", time.Duration(float64(time.Since(begun)-wall)*speed).Round(time.Second), unknown, kills)
}

// measure prints what a rollout took, in the service's time.
func (f *stand) measure(h *rollout.Head, most int, wall time.Duration, workers []*process, memory float64) {
	f.t.Helper()
	n, speed := float64(*rolloutDesktops), *rolloutSpeed
	bound := time.Minute // from the claim to the first batch
	// As many batches run at a time as the limit of unavailable desktops lets. Those that failed stay unavailable. Each wave
	// waits for the one before it.
	held := 0
	for _, w := range h.Waves {
		for left := w.To - w.From; left > 0; bound += 10*time.Minute + fleetLag {
			room := most - held
			if room > events.MaxRebuildCall {
				room -= room % events.MaxRebuildCall // in full batches
			}
			round := min(left, room)
			left, held = left-round, held+round/50
		}
	}
	var journal []emulator.Request
	getJSON(f.t, f.url+"/_emulator/requests", &journal)
	calls, throttled := map[string]float64{}, 0
	for _, r := range journal {
		calls[named(r)] += 1 / n
		if r.Status == 429 {
			throttled++
		}
	}
	for _, w := range workers {
		memory = max(memory, memoryPeak(w))
	}
	took := time.Duration(float64(wall) * speed)
	var b strings.Builder
	fmt.Fprintf(&b, "%-48s %d desktops, speed %v, at most %d unavailable\n", "rollout", *rolloutDesktops, speed, most)
	for _, call := range slices.Sorted(maps.Keys(calls)) {
		fmt.Fprintf(&b, "%-48s %8.4f\n", "calls a desktop: "+call, calls[call])
	}
	fmt.Fprintf(&b, "%-48s %8.4f\n", "calls a desktop", float64(len(journal))/n)
	fmt.Fprintf(&b, "%-48s %8d\n", "calls throttled (429)", throttled)
	fmt.Fprintf(&b, "%-48s %8.3f (%.0f s to %.0f s)\n", "wall time to bound", float64(took)/float64(bound), took.Seconds(), bound.Seconds())
	fmt.Fprintf(&b, "%-48s %8.1f MiB", "memory of a worker", memory)
	f.t.Logf("\n%s", &b)
}

// finishes waits until the rollout of a fleet is in this phase.
func (f *stand) finishes(phase string, most time.Duration) *rollout.Head {
	f.t.Helper()
	var h *rollout.Head
	f.within(most, func() bool { h = f.head("fleet"); return h.Phase == phase || h.Phase == rollout.Halted }, "the rollout does not come to %s", phase)
	require.Equal(f.t, phase, h.Phase, "%s\n%s\n%s", h.Reason, f.states(h), tail(f.history()))
	return h
}

// states are the states of the desktops by wave, with their reasons.
func (f *stand) states(h *rollout.Head) string {
	f.t.Helper()
	times := map[string]int{}
	f.rows(h, func(b rollout.Batch, r rollout.Row) {
		times[fmt.Sprintf("wave %d, %s %s %s", b.Wave+1, r.State, r.Code, r.Reason)]++
	})
	var text strings.Builder
	for _, state := range slices.Sorted(maps.Keys(times)) {
		fmt.Fprintf(&text, "%6d in %s\n", times[state], state)
	}
	return text.String()
}

// rows passes each desktop of each batch.
func (f *stand) rows(h *rollout.Head, pass func(rollout.Batch, rollout.Row)) {
	f.t.Helper()
	for n := range h.Batches {
		value, _, err := f.records.Get(f.t.Context(), rollout.BatchKey(h.Name, n))
		require.NoError(f.t, err)
		var b rollout.Batch
		require.NoError(f.t, json.Unmarshal(value, &b))
		for _, r := range b.Rows {
			pass(b, r)
		}
	}
}

// once checks that each desktop was rebuilt so often, but for those that failed.
func (f *stand) once(bad map[string]bool, want int) {
	f.t.Helper()
	times, _ := f.rebuiltTimes()
	for _, id := range f.ids {
		if bad[id] {
			require.Zero(f.t, times[id], id)
		} else {
			require.Equal(f.t, want, times[id], id)
		}
	}
}
