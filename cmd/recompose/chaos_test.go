//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
)

var (
	chaosSeed = flag.Uint64("chaos.seed", 0, "what the chaos test does; zero: another each time, and it says which")
	chaosTime = flag.Duration("chaos.time", 15*time.Second, "how long the chaos test breaks things")
)

const (
	chaosWindow = 6 * time.Second
	chaosFences = 8 * time.Second // chaosWindow and more: what was signed before is refused after it
)

// corpus is the commands of the chaos test.
type corpus struct {
	messages []*nats.Msg // each command twice, in an order of its own
	roots    []string
	writes   map[string][]string // command → the desktops that it is about
}

// desktopsOf a corpus of this size; more than it takes.
func desktopsOf(size int) int { return 4*size + 7 + 4*size/10 + 130 }

// newCorpus makes size rebuilds, a tenth as many captures that rebuild, a large rebuild, and reads. No two writes have
// a desktop in common.
func newCorpus(t *testing.T, rnd *rand.Rand, state emulator.State, size int) corpus {
	t.Helper()
	c := corpus{writes: map[string][]string{}}
	image, kind := otherImage(t, state)
	var ids []string
	for _, d := range state.Desktops {
		ids = append(ids, d.DesktopID)
	}
	free := ids
	some := func(n int) []string { taken := free[:n]; free = free[n:]; return taken }
	add := func(id, typ string, about []string, data any) {
		c.roots = append(c.roots, id)
		if about != nil {
			c.writes[id] = about
		}
		c.messages = append(c.messages, command(t, id, typ, id, data), command(t, id, typ, id+"/again", data))
	}
	for i := range size {
		cmd := events.Rebuild{DesktopIDs: some(1 + i%7), ImageID: image, ImageType: kind}
		if i%5 == 4 { // the image that they run: only their disks show that it was done
			cmd.ImageID, cmd.RebuildCurrent = state.Desktops[0].Metadata["metering.image_id"], true
		}
		add(fmt.Sprintf("rebuild-%03d", i), events.TypeRebuild, cmd.DesktopIDs, cmd)
	}
	for i := range size / 10 {
		golden := some(1)
		then := &events.ThenRebuild{DesktopIDs: some(3)}
		add(fmt.Sprintf("capture-%03d", i), events.TypeDesktopToImage, golden, events.DesktopToImage{
			DesktopID: golden[0], ImageName: fmt.Sprintf("golden-%03d", i), Then: &events.Then{Rebuild: then},
		})
	}
	large := some(130)
	add("rebuild-large", events.TypeRebuild, large, events.Rebuild{DesktopIDs: large, ImageID: image, ImageType: kind})
	for i := range size / 6 { // reads of whatever others write to
		add(fmt.Sprintf("look-%03d", i), events.TypeGetDesktop, nil, events.GetDesktop{DesktopID: ids[i]})
		add(fmt.Sprintf("check-%03d", i), events.TypeCheckImages, nil, events.CheckImages{DesktopIDs: ids[i : i+5]})
	}
	rnd.Shuffle(len(c.messages), func(i, j int) { c.messages[i], c.messages[j] = c.messages[j], c.messages[i] })
	return c
}

// chaos breaks things in an order that its seed decides.
type chaos struct {
	*arena
	rnd     *rand.Rand
	workers []*process
	frozen  map[*process]time.Time // until when
	seen    int64                  // number of the journal's last entry that was read

	kills, freezes, ambushes, faulty, serviceKills, natsKills, stopped int
}

func (c *chaos) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.rnd.Int64N(int64(most-least)))
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
			c.faults(c.someFaults()...)
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
	c.faults(emulator.Fault{Call: emulator.CallRebuild, Times: 4, Do: emulator.Do{Delay: c.between(time.Second, chaosWindow)}},
		emulator.Fault{Call: emulator.CallDesktopToImage, Times: 2, Do: emulator.Do{Delay: c.between(time.Second, chaosWindow)}})
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

// calm lets everything work again.
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

// someFaults are up to four faults, each for a few calls.
func (c *chaos) someFaults() []emulator.Fault {
	write := func() string {
		if c.rnd.IntN(3) == 0 {
			return emulator.CallDesktopToImage
		}
		return emulator.CallRebuild
	}
	reads := []string{emulator.CallCheckImages, emulator.CallGetDesktop, emulator.CallListSubJobs, emulator.CallListImages}
	slow := func() time.Duration { return c.between(50*time.Millisecond, chaosWindow/2) }
	kinds := []func() emulator.Fault{
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Drop: emulator.DropAfter}} },
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Drop: emulator.DropBefore}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Drop: emulator.DropAfter, Delay: slow()}}
		},
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Delay: slow()}} },
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Delay: slow()}} },
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Status: []int{500, 502, 503, 504}[c.rnd.IntN(4)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Status: 429, RetryAfter: "1"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Quirk: "html-502"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Quirk: "empty-answer"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Quirk: "sub-jobs-empty"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: []string{"rebuild-200-error", "rebuild-200-both", "throttled"}[c.rnd.IntN(3)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallDesktopToImage, Do: emulator.Do{Quirk: "image-200-no-job"}}
		},
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Job: emulator.JobFail}} },
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: []string{"sub-jobs-empty", "job-type-typo", "end-time-while-running"}[c.rnd.IntN(3)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: reads[c.rnd.IntN(len(reads))], Do: emulator.Do{Status: []int{500, 503}[c.rnd.IntN(2)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: reads[c.rnd.IntN(len(reads))], Do: emulator.Do{Drop: emulator.DropBefore}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: reads[c.rnd.IntN(len(reads))], Do: emulator.Do{Delay: slow()}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Quirk: []string{"desktop-array", "task-status-null", "times-without-zone", "status-lower-case"}[c.rnd.IntN(4)]}}
		},
	}
	var faults []emulator.Fault
	for range 1 + c.rnd.IntN(4) {
		f := kinds[c.rnd.IntN(len(kinds))]()
		f.Skip, f.Times = c.rnd.IntN(3), 1+c.rnd.IntN(6)
		faults = append(faults, f)
	}
	return faults
}

// taken tells whether the service has taken a write since it was last asked.
func (c *chaos) taken() bool {
	c.t.Helper()
	var journal []emulator.Request
	ask(c.t, fmt.Sprintf("%s/_emulator/requests?after=%d", c.url, c.seen), &journal)
	for _, r := range journal {
		c.seen = r.N
	}
	return slices.ContainsFunc(journal, func(r emulator.Request) bool { return r.Effect == emulator.EffectJob })
}

// late holds one write in eight on its way, for up to longer than its signature is good for.
func late(seed uint64) func(context.Context) {
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 2))
	return func(ctx context.Context) {
		mu.Lock()
		held, long := rnd.IntN(8) == 0, time.Duration(rnd.Int64N(int64(chaosFences)))
		mu.Unlock()
		if !held {
			return
		}
		timer := time.NewTimer(long)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// TestChaos holds real processes to the promise: each command has at most one accepted write and exactly one end, and
// every end tells the truth, whatever is killed, frozen, cut, repeated, reordered or answered falsely meanwhile.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("seed: go test ./cmd/recompose -run TestChaos -chaos.seed %d -chaos.time %v", seed, *chaosTime)
	size := 140 + int(max(0, *chaosTime-15*time.Second)/time.Second)*4
	a := newArena(t, settings{desktops: desktopsOf(size), window: chaosWindow, speed: "600", pace: "10"})
	rnd := rand.New(rand.NewPCG(seed, 1))
	corpus := newCorpus(t, rnd, a.state(), size)
	c := &chaos{arena: a, rnd: rnd, frozen: map[*process]time.Time{}}
	way := a.way(late(seed))
	a.lead(way)
	for range 3 {
		c.workers = append(c.workers, a.worker())
	}
	c.workers[0].says(t, "working on")

	sending, stop := context.WithTimeout(t.Context(), *chaosTime+within)
	defer stop()
	sent := make(chan error, 1)
	go func() {
		for _, m := range corpus.messages {
			if err := a.publish(sending, m); err != nil {
				sent <- err
				return
			}
			<-time.After(*chaosTime * 2 / 3 / time.Duration(len(corpus.messages))) // they come one after the other
		}
		sent <- nil
	}()
	c.run(time.Now().Add(*chaosTime))
	c.calm()
	require.NoError(t, <-sent)
	calmed := time.Now()
	a.settle(*chaosTime+2*within, corpus.roots...)

	said := a.events()
	account := take(t, said, a.state(), corpus.writes)
	t.Logf("seed %d: %d commands, %d events; killed %d workers, %d emulators, %d servers; froze %d; lay in ambush %d times, changed faults %d times; "+
		"%d workers stopped by themselves, %d for a while; "+
		"calm after %v; not known at first %d, adopted %d, sent again %d; jobs %d; ends of desktops: %s",
		seed, len(corpus.roots), len(said), c.kills, c.serviceKills, c.natsKills, c.freezes, c.ambushes, c.faulty, c.stopped, a.logged("takes no more messages"), time.Since(calmed).Round(time.Second),
		a.logged("outcome was never recorded"), a.logged("its job adopted"), a.logged("is made again"), len(account.jobs), account.tally())
	twice := once(t, said, corpus.roots)
	t.Logf("reads that were answered and given up: %d", twice)
	account.honest()
}
