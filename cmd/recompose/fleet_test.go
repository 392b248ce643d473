//go:build unix

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

// How TestFleet runs. The defaults are a small fleet, so that it is always known to work; `make bench` and `make fleet`
// run large ones.
var (
	fleetDesktops = flag.Int("fleet.desktops", 300, "size of the fleet")
	fleetSpeed    = flag.Float64("fleet.speed", 200, "what durations are divided by; the rates of calls are multiplied")
	fleetJobTime  = flag.String("fleet.job-time", "10m", "how long jobs take: a duration or a range")
	fleetWorkers  = flag.Int("fleet.workers", 1, "how many workers share the limits")
	fleetLost     = flag.Int("fleet.lost", 20, "one answer in so many is lost; 0: none")
	fleetKills    = flag.Int("fleet.kills", 0, "how many workers are killed in turn while writes are made")
	fleetMost     = flag.Float64("fleet.most-calls", 0, "fail above so many calls a desktop; 0: no matter how many")
	fleetJSON     = flag.String("fleet.json", "", "file to append the figures to, one line of JSON")
)

// The limits of the service, and what it takes to show a rebuilt disk.
const (
	fleetReads, fleetWrites = 200, 100
	fleetLag                = 20 * time.Second
	fleetWindow             = 15 * time.Minute
)

// figures of a fleet, in the service's time.
type figures struct {
	Desktops   int                `json:"desktops"`
	Speed      float64            `json:"speed"`
	JobTime    string             `json:"job_time"`
	Calls      map[string]float64 `json:"calls_a_desktop"`
	All        float64            `json:"all_calls_a_desktop"`
	Throttled  int                `json:"throttled"`
	Wall       float64            `json:"wall_seconds"`
	Bound      float64            `json:"bound_seconds"`
	OverBound  float64            `json:"wall_to_bound"`
	SeenMedian float64            `json:"seen_median_seconds"`
	SeenP99    float64            `json:"seen_p99_seconds"`
	MemoryMiB  float64            `json:"memory_mib"`
}

// TestFleet rebuilds and verifies a fleet within the limits of the service, and counts what that takes. Nothing is done
// twice and every end is true, also where answers are lost and workers are killed.
func TestFleet(t *testing.T) {
	t.Parallel()
	speed := *fleetSpeed
	a := newArena(t, settings{
		desktops: *fleetDesktops, window: max(time.Duration(float64(fleetWindow)/speed), proofWindow), speed: fmt.Sprint(speed), pace: fmt.Sprint(speed),
		flags: []string{
			"--job-time", *fleetJobTime, "--reads-per-minute", fmt.Sprint(fleetReads * speed), "--writes-per-minute", fmt.Sprint(fleetWrites * speed),
		},
	})
	share := func(perMinute float64) string {
		return strconv.FormatFloat(perMinute*speed/float64(*fleetWorkers), 'f', -1, 64)
	}
	worker := func() *process {
		return a.worker("RECOMPOSE_READS_PER_MINUTE="+share(fleetReads), "RECOMPOSE_WRITES_PER_MINUTE="+share(fleetWrites))
	}
	if *fleetLost > 0 {
		a.faults(lostAnswers(*fleetLost, *fleetDesktops)...)
	}
	var workers []*process
	for range *fleetWorkers {
		workers = append(workers, worker())
	}
	eventually(t, func() bool { return len(a.consumers("RECOMPOSE_COMMANDS")) > 0 }, "no worker works")

	state := a.state()
	cmd := events.Rebuild{}
	cmd.ImageID, cmd.ImageType = chaostest.OtherImage(t, state)
	writes, roots := map[string][]string{}, []string{}
	begun := time.Now()
	for chunk := range slices.Chunk(state.Desktops, events.MaxDesktops) {
		id := fmt.Sprint("fleet-", len(roots))
		cmd.DesktopIDs = nil
		for _, d := range chunk {
			cmd.DesktopIDs = append(cmd.DesktopIDs, d.DesktopID)
		}
		a.send(id, events.TypeRebuild, cmd)
		writes[id], roots = cmd.DesktopIDs, append(roots, id)
	}
	callsNeeded := float64(*fleetDesktops)/events.MaxRebuildCall + float64(*fleetDesktops)/events.MaxCheckCall
	writing := time.Duration(callsNeeded / fleetWrites * float64(time.Minute) / speed)
	for i := range *fleetKills {
		<-time.After(writing / time.Duration(*fleetKills)) // while writes are made
		w := i % len(workers)
		workers[w].kill()
		workers[w] = worker()
	}
	longest := time.Duration(float64(2*time.Hour) / speed)
	a.settle(max(2*within, longest+10*writing), roots...)

	published, end := a.events(), a.state()
	chaostest.Once(t, published, roots)
	account := chaostest.Take(t, published, end, writes)
	account.Honest()
	f := a.measure(begun, published, end, workers)
	t.Logf("ends of desktops: %s; not known at first %d, adopted %d, made once more %d\n%s", account.Tally(),
		a.logged("outcome was never recorded"), a.logged("its job adopted"), a.logged("is made once more"), f)
	if *fleetJSON != "" {
		f.append(t, *fleetJSON)
	}
	if *fleetMost > 0 {
		require.LessOrEqual(t, f.All, *fleetMost, "calls a desktop")
	}
}

// lostAnswers lets one answer in so many be lost, of each call on the way of a fleet of this size.
func lostAnswers(every, desktops int) []emulator.Fault {
	var faults []emulator.Fault
	for _, call := range []string{emulator.CallRebuild, emulator.CallCheckImages, emulator.CallListSubJobs} {
		for i := 0; i < max(1, desktops/events.MaxRebuildCall/every); i++ {
			faults = append(faults, emulator.Fault{Call: call, Skip: 1 + i*every, Times: 1, Do: emulator.Do{Drop: emulator.DropAfter}})
		}
	}
	return faults
}

// measure counts what a fleet took since then.
func (a *arena) measure(begun time.Time, published []events.Envelope, end emulator.State, workers []*process) figures {
	a.t.Helper()
	speed, n := *fleetSpeed, float64(*fleetDesktops)
	f := figures{Desktops: *fleetDesktops, Speed: speed, JobTime: *fleetJobTime, Calls: map[string]float64{}}
	var journal []emulator.Request
	getJSON(a.t, a.url+"/_emulator/requests", &journal)
	for _, r := range journal {
		f.Calls[named(r)] += 1 / n
		f.All += 1 / n
		if r.Status == 429 {
			f.Throttled++
		}
	}
	ended := map[string]time.Time{}
	var last time.Time
	for _, e := range published {
		if e.Time.After(last) {
			last = e.Time
		}
		if e.Type == events.TypeJobCompleted {
			ended[chaostest.Read[events.JobCompleted](a.t, e).JobID] = e.Time
		}
	}
	f.Wall = last.Sub(begun).Seconds() * speed
	// By the service's limit of calls, the job after k others begins after so many calls. Its image is seen some time after
	// its end.
	var seen []float64
	for k, job := range end.Jobs {
		notes := job.SubJobs[0].Notes
		calls := float64(k+1) * (1 + float64(events.MaxRebuildCall)/events.MaxCheckCall)
		took := notes.Ends.Sub(job.Notes.Accepted).Seconds() * speed
		f.Bound = max(f.Bound, calls*60/fleetWrites+took+fleetLag.Seconds())
		seen = append(seen, ended[job.ID].Sub(notes.Ends).Seconds()*speed)
	}
	f.OverBound = f.Wall / f.Bound
	slices.Sort(seen)
	f.SeenMedian, f.SeenP99 = seen[len(seen)/2], seen[(len(seen)-1)*99/100]
	for _, w := range workers {
		f.MemoryMiB = max(f.MemoryMiB, memoryPeak(w))
	}
	return f
}

// named is what a call is for.
func named(r emulator.Request) string {
	switch {
	case r.Call != emulator.CallListSubJobs:
		return r.Call
	case strings.Contains(r.Query, "job_id="):
		return r.Call + " of a job"
	case strings.Contains(r.Query, "status="):
		return r.Call + " under way"
	default:
		return r.Call + ", all"
	}
}

// memoryPeak is the largest resident memory that a process had, in MiB; 0 where the system does not report it.
func memoryPeak(p *process) float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, " kB")
	kib, _ := strconv.ParseFloat(strings.TrimSpace(peak), 64)
	return kib / 1024
}

func (f figures) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-48s %d desktops, speed %v, jobs of %s\n", "fleet", f.Desktops, f.Speed, f.JobTime)
	for _, call := range slices.Sorted(maps.Keys(f.Calls)) {
		fmt.Fprintf(&b, "%-48s %8.4f\n", "calls a desktop: "+call, f.Calls[call])
	}
	fmt.Fprintf(&b, "%-48s %8.4f\n", "calls a desktop", f.All)
	fmt.Fprintf(&b, "%-48s %8d\n", "calls throttled (429)", f.Throttled)
	fmt.Fprintf(&b, "%-48s %8.3f (%.0f s to %.0f s)\n", "wall time to bound", f.OverBound, f.Wall, f.Bound)
	fmt.Fprintf(&b, "%-48s %8.1f s median, %.1f s p99\n", "end of a job seen after", f.SeenMedian, f.SeenP99)
	fmt.Fprintf(&b, "%-48s %8.1f MiB", "memory of a worker", f.MemoryMiB)
	return b.String()
}

func (f figures) append(t *testing.T, name string) {
	t.Helper()
	line, err := json.Marshal(f)
	require.NoError(t, err)
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = file.Write(append(line, '\n'))
	require.NoError(t, err)
	require.NoError(t, file.Close())
}
