//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/testkit/chaostest"
)

var (
	chaosSeed    = flag.Uint64("chaos.seed", 0, "seed of the chaos test; zero: a random one, which is logged")
	chaosTime    = flag.Duration("chaos.time", 15*time.Second, "how long the chaos test breaks things")
	chaosRollout = flag.Int("chaos.rollout", 40, "desktops of the rollout that runs beside the commands of the chaos test")
)

const (
	chaosWindow = 6 * time.Second
	chaosFences = 8 * time.Second // chaosWindow and more: what was signed before is refused after it
)

// chaos breaks things in an order that its seed decides.
type chaos struct {
	*arena
	rnd     *rand.Rand
	workers []*process
	frozen  map[*process]time.Time // until when
	more    []chaostest.Kind
	seen    int64 // number of the journal's last entry that was read

	kills, freezes, ambushes, faulty, serviceKills, natsKills, stopped int
}

func (c *chaos) between(least, most time.Duration) time.Duration {
	return chaostest.Between(c.rnd, least, most)
}

// run breaks one thing after the other until the end.
func (c *chaos) run(until time.Time) {
	for time.Now().Before(until) {
		<-time.After(c.between(20*time.Millisecond, 400*time.Millisecond)) // the pace of the chaos
		for w, end := range c.frozen {
			if time.Now().After(end) {
				w.thaw(c.t)
				delete(c.frozen, w)
			}
		}
		c.replace()
		w := c.rnd.IntN(len(c.workers))
		switch dice := c.rnd.IntN(100); {
		case dice < 15:
			c.kill(w)
		case dice < 35:
			c.freeze(w)
		case dice < 55:
			c.ambush()
		case dice < 59:
			c.service.kill()
			<-time.After(c.between(time.Millisecond, 500*time.Millisecond))
			c.startService()
			c.serviceKills++
		case dice < 63:
			c.nats.kill()
			<-time.After(c.between(time.Millisecond, 500*time.Millisecond))
			c.startNATS()
			c.natsKills++
		default:
			c.faults(chaostest.Faults(c.rnd, chaosWindow, c.more...)...)
			c.faulty++
		}
	}
}

// kill kills a worker, and starts another in its place.
func (c *chaos) kill(i int) {
	w := c.workers[i]
	delete(c.frozen, w)
	w.kill()
	c.workers[i] = c.worker()
	c.kills++
}

// freeze stops a worker for a while: for a moment, or until lease and fence of what it is doing are over.
func (c *chaos) freeze(i int) {
	w := c.workers[i]
	if _, is := c.frozen[w]; is || w.ended() {
		return
	}
	w.freeze(c.t)
	c.frozen[w] = time.Now().Add(c.between(100*time.Millisecond, 3*chaosFences/2))
	c.freezes++
}

// ambush holds back the answers to writes, waits until the service has taken one, and then kills or freezes all workers
// but one, before they can have heard of it.
func (c *chaos) ambush() {
	c.faults(chaostest.SlowWrites(c.rnd, chaosWindow)...)
	c.taken()
	for deadline := time.Now().Add(time.Second); !c.taken(); {
		if time.Now().After(deadline) {
			return // nothing to be caught
		}
		<-time.After(10 * time.Millisecond) // between two looks
	}
	spared, deadly := c.rnd.IntN(len(c.workers)), c.rnd.IntN(2) == 0
	for i := range c.workers {
		switch {
		case i == spared:
		case deadly:
			c.kill(i)
		default:
			c.freeze(i)
		}
	}
	c.ambushes++
}

// calm ends all faults.
func (c *chaos) calm() {
	c.t.Helper()
	c.faults()
	for w := range c.frozen {
		w.thaw(c.t)
	}
	clear(c.frozen)
	c.tend = c.replace
}

// replace starts workers in the place of those that ended by themselves: where the service refuses its signature, a
// worker may do so.
func (c *chaos) replace() {
	for i, w := range c.workers {
		if w.ended() {
			c.workers[i] = c.worker()
			c.stopped++
		}
	}
}

// taken reports whether the service has accepted a write since the last call.
func (c *chaos) taken() bool {
	c.t.Helper()
	var journal []emulator.Request
	getJSON(c.t, fmt.Sprintf("%s/_emulator/requests?after=%d", c.url, c.seen), &journal)
	for _, r := range journal {
		c.seen = r.N
	}
	return slices.ContainsFunc(journal, func(r emulator.Request) bool { return r.Effect == emulator.EffectJob })
}

// TestChaos holds real processes to the promise: each command has at most one accepted write and exactly one end, and
// every end event is true, whatever is killed, frozen, cut, repeated, reordered or answered falsely meanwhile.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("seed: go test ./cmd/recompose -run TestChaos -chaos.seed %d -chaos.time %v -chaos.rollout %d", seed, *chaosTime, *chaosRollout)
	// Before each call the jobs of all commands are listed, so that the work grows with the square of the commands.
	size := 140 + int(max(0, *chaosTime-15*time.Second)/time.Second)
	rolled := *chaosRollout
	f := newStand(t, settings{desktops: rolled + chaostest.DesktopsOf(size), window: chaosWindow, speed: "600", pace: "10"})
	a := f.arena
	rnd := rand.New(rand.NewPCG(seed, 1))
	state := a.state()
	f.ids, state.Desktops = f.ids[:rolled], state.Desktops[rolled:]
	corpus := chaostest.NewCorpus(t, rnd, state, size)
	c := &chaos{arena: a, rnd: rnd, frozen: map[*process]time.Time{}}
	c.more = chaostest.FalseRefusals()
	way := a.way(chaostest.Late(seed, chaosFences))
	a.lead(way)
	for range 3 {
		c.workers = append(c.workers, a.worker())
	}
	c.workers[0].prints(t, "working on")

	f.rollBeside()
	sending, stop := context.WithTimeout(t.Context(), *chaosTime+within)
	defer stop()
	sent := make(chan error, 1)
	go func() {
		for _, m := range corpus.Messages {
			if err := a.publish(sending, onNATS(t, m)); err != nil {
				sent <- err
				return
			}
			<-time.After(*chaosTime * 2 / 3 / time.Duration(len(corpus.Messages))) // they come one after the other
		}
		sent <- nil
	}()
	c.run(time.Now().Add(*chaosTime))
	c.calm()
	require.NoError(t, <-sent)
	calmed := time.Now()
	counts := f.rolledBeside(*chaosTime + 2*within)
	a.settle(*chaosTime+2*within, corpus.Roots...)

	published, state := slices.DeleteFunc(slices.Clone(a.events()), ofRollout), a.state()
	state.Jobs = slices.DeleteFunc(state.Jobs, func(j emulator.Job) bool {
		return slices.ContainsFunc(j.SubJobs, func(s emulator.SubJob) bool { return slices.Contains(f.ids, s.Entities.DesktopID) })
	})
	account := chaostest.Take(t, published, state, corpus.Writes)
	t.Logf("seed %d: %d commands, %d events; killed %d workers, %d emulators, %d servers; froze %d; lay in ambush %d times, changed faults %d times; "+
		"%d workers stopped by themselves, %d for a while; "+
		"calm after %v; not known at first %d, adopted %d, resent %d; jobs %d; ends of desktops: %s; rollout: %v",
		seed, len(corpus.Roots), len(published), c.kills, c.serviceKills, c.natsKills, c.freezes, c.ambushes, c.faulty, c.stopped, a.logged("takes no more messages"), time.Since(calmed).Round(time.Second),
		a.logged("outcome was never recorded"), a.logged("its job adopted"), a.logged("is made once more"), len(account.Jobs), account.Tally(), counts)
	chaostest.Once(t, published, corpus.Roots)
	account.Honest()
	var journal []emulator.Request
	getJSON(t, a.url+"/_emulator/requests", &journal)
	journal = slices.DeleteFunc(journal, func(r emulator.Request) bool {
		return slices.ContainsFunc(r.DesktopIDs, func(id string) bool { return slices.Contains(f.ids, id) })
	})
	t.Logf("accepted writes in what the journal still has: %d", account.Counted(journal))
}

// rollBeside starts a rollout to the desktops that no command of the corpus is about. Only its thresholds end it early.
func (f *stand) rollBeside() {
	f.t.Helper()
	spec := f.spec("beside")
	spec.Strategy = rollout.Strategy{Waves: []string{"25%", "50%", "100%"}, MaxUnavailable: max(100, len(f.ids)+1), MaxFailed: rollout.Amount{Number: len(f.ids)}}
	f.start(spec)
}

// rolledBeside waits for the end of that rollout, and checks that it rebuilt each desktop once at most, and that those
// that are done run the image.
func (f *stand) rolledBeside(most time.Duration) rollout.Counts {
	f.t.Helper()
	var h *rollout.Head
	f.within(most, func() bool {
		h = f.head("beside")
		return len(h.Open) == 0 && (h.Phase == rollout.Halted || rollout.Over(h.Phase))
	}, "the rollout does not end")
	require.NotEqual(f.t, rollout.Aborted, h.Phase, h.Reason)
	if h.Phase == rollout.Halted { // every desktop of a wave failed
		f.verb(events.TypeRolloutAbort, events.RolloutCommand{Name: "beside", Reason: h.Reason})
		f.comesTo("beside", rollout.Aborted)
	}
	jobs, runs := map[string]int{}, 0
	for _, job := range f.state().Jobs {
		for _, sub := range job.SubJobs {
			jobs[sub.Entities.DesktopID]++
		}
	}
	images := f.images()
	for _, id := range f.ids {
		require.LessOrEqual(f.t, jobs[id], 1, id)
		if images[id] == h.Image.ID {
			runs++
		}
	}
	counts := h.Counts()
	require.LessOrEqual(f.t, counts[rollout.Done], runs)
	require.Equal(f.t, len(f.ids), counts[rollout.Done]+counts[rollout.Failed]+counts[rollout.Unverified]+counts[rollout.Unknown]+
		counts[rollout.Pending]+counts[rollout.Skipped]+counts[rollout.Deferred]+counts[rollout.Missing])
	return counts
}

// ofRollout reports whether an event is of a rollout, whose batches end more than once where they did nothing at first.
func ofRollout(e events.Envelope) bool {
	return e.Rollout != "" || e.Source == events.Source(events.FnRollout)
}
