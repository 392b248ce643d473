package once_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"recompose/events"
)

// step is one decision of a random run: which of the actions that are possible happens, and to what.
type step struct{ Action, Which, How int }

var anyStep = rapid.Custom(func(t *rapid.T) step {
	return step{
		Action: rapid.IntRange(0, 99).Draw(t, "action"),
		Which:  rapid.IntRange(0, 7).Draw(t, "which"),
		How:    rapid.IntRange(0, 7).Draw(t, "how"),
	}
})

var randomSteps = flag.Int("once.steps", 120, "steps of a random run of the engine")

// TestMain runs enough random runs, unless -rapid.checks gives a number: a missing fence takes some thousands to show.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", "5000"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// Two workers are given commands, die and freeze between any two steps, and write to a store that fails, while answers
// are lost, requests arrive late and other people rebuild the same desktops. Each desktop is rebuilt at most once, and
// each command has one end, which is true.
func TestAnyOrderOfAnything(t *testing.T) {
	t.Parallel()
	reached, usedKept := map[string]int{}, 0
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(anyStep, *randomSteps, *randomSteps).Draw(rt, "steps")
		var fault string
		var log []string
		synctest.Test(t, func(*testing.T) {
			w := newWorld()
			for _, id := range [][]string{{}, {}, {}, {}, {"d-1"}, {"d-2"}, {"d-1", "d-2"}, {}}[steps[0].How] {
				w.desktops[id].image, w.desktops[id].made = wantedImage, []string{wantedImage} // by other people, before
			}
			for _, s := range steps {
				if did := w.do(s); did != "" {
					log = append(log, did)
				}
			}
			w.settle()
			fault = w.fault
			usedKept += w.usedKept
			for _, c := range w.commands {
				reached[c.way()]++
			}
		})
		if fault != "" {
			rt.Fatalf("%s\n%s", fault, strings.Join(log, "\n"))
		}
	})
	t.Log(reached, "what was read earlier was used: ", usedKept)
	require.Positive(t, usedKept)
	for _, way := range []string{
		"a job", "no job is known", "all skipped", events.TypeCommandSplit + " ", events.TypeCommandFailed + " none", events.TypeCommandFailed + " unknown",
	} {
		require.Positive(t, reached[way], "no run ends so: %s; they end as %v", way, reached)
	}
}

// do does one step, and returns its name.
func (w *world) do(s step) string {
	wk := w.workers[s.Which%2]
	c := w.commands[s.Which/2%len(w.commands)]
	switch a := s.Action; {
	case wk.at == "" && a < 50:
		giveUp := a < 2
		w.deliver(wk, c, giveUp)
		if giveUp {
			return wk.name + ": deliver " + c.id + ", given up"
		}
		return wk.name + ": deliver " + c.id
	case wk.at == "" && a < 55 && c.job != nil:
		w.watch(wk, c)
		return wk.name + ": watch " + c.id
	case wk.at != "" && a < 40:
		return wk.name + ": goes on from " + w.advance(wk, s.How)
	case wk.at != "" && a < 52:
		at := wk.at
		wk.run()
		return wk.name + ": runs on from " + at
	case wk.at != "" && a < 58:
		at := wk.at
		wk.step(directive{die: true})
		return wk.name + ": dies " + at
	case a < 68 && len(w.network) > 0:
		r := w.network[s.How%len(w.network)]
		if s.Which < 4 {
			hidden := s.Which >= 2
			w.handleTwice(r, s.How+s.Which, hidden)
			return fmt.Sprint("the service handles a request twice (hidden: ", hidden, "): ", r.answer.err)
		}
		w.handle(r, s.Which == 7)
		return "the service handles a request"
	case a < 72:
		id := []string{"d-1", "d-2"}[s.How%2]
		if w.desktops[id].busy || w.hides(id) {
			return ""
		}
		image := []string{otherImage, otherImage, wantedImage}[s.How%3]
		w.begin([]string{id}, image)
		return "other people rebuild " + id + " with image " + image
	case a < 73 && len(w.jobs) > 0:
		job := w.jobs[s.How%len(w.jobs)]
		job.gone = !job.kept && !job.hidden
		return job.id + " is no longer listed, if it may be"
	case a < 80:
		for _, job := range w.jobs {
			if w.mayFinish(job) {
				w.finish(job)
				return job.id + " ends"
			}
		}
		return ""
	default:
		d := []time.Duration{time.Second, 20 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 17 * time.Minute}[s.How%6]
		<-time.After(d)
		return "time passes: " + d.String()
	}
}

// advance lets a worker go on by one step, with an answer of the store or of the service that may be lost.
func (w *world) advance(wk *worker, how int) string {
	at := wk.at
	switch {
	case at == atAnswer && how == 0:
		wk.step(directive{lost: true})
		return at + ", which is lost"
	case at == atPut && how == 0:
		wk.step(directive{err: errStore})
		return at + ", which fails"
	case (at == atTurn || at == atImages) && how < 2:
		wk.step(directive{err: errLimited})
		return at + ", and is held back"
	case at == atPut && how == 1:
		wk.step(directive{err: errStore, stored: true})
		return at + ", which is stored and fails"
	case at == atAnswer && wk.request.answer == nil:
		w.handle(wk.request, false)
	}
	wk.step(directive{})
	return at
}
