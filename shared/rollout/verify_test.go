package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// verifying runs a rollout of one batch, and returns when its job has ended.
func verifying(t *testing.T) (w *world, ended time.Time) {
	w = calm(t, 20)
	w.start("r", strategy(0, whole, 20, "0%"), nil)
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h != nil && h.Open[0].State == Verifying }))
	return w, w.now
}

// silence loses the answers to looks and checks until then.
func (w *world) silence(until time.Time) {
	w.drop = func(e Event) bool {
		return w.now.Before(until) && (e.Type == events.TypeDesktopsListed || e.Type == events.TypeImagesChecked)
	}
}

func TestDesktopsAreLookedAtAnewUntilThereIsAnAnswer(t *testing.T) {
	t.Parallel()
	w, ended := verifying(t)
	w.silence(ended.Add(50 * time.Minute))
	require.Equal(t, Counts{Done: 20}, w.until("r", Completed).Counts())
	require.Greater(t, w.now.Sub(ended), 50*time.Minute)
}

func TestDesktopsOfWhichNothingIsKnownAreUnverifiedInTheEnd(t *testing.T) {
	t.Parallel()
	w, ended := verifying(t)
	w.silence(ended.Add(day))
	require.Equal(t, Counts{Unverified: 20}, w.until("r", Halted).Counts())
	require.WithinDuration(t, ended.Add(verifyTime+verifyMost), w.now, 3*time.Minute)
}

func TestADesktopThatIsNotAsItShouldBeIsUnverifiedAfterItsTime(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*machine){
		"a task":        func(m *machine) { m.task = "REBOOTING" },
		"another image": func(m *machine) { m.image = "other" },
	} {
		w, ended := verifying(t)
		change(w.desktops["d-00007"])
		require.Equal(t, Counts{Done: 19, Unverified: 1}, w.until("r", Halted).Counts(), name)
		require.WithinDuration(t, ended.Add(verifyTime), w.now, 3*time.Minute, name)
	}
}

// stragglers runs a rollout of two batches to the end of their jobs. Two desktops of each then have a task for some minutes.
func stragglers(t *testing.T) (w *world, slow []string) {
	w, slow = newWorld(t, 4, 150, odds{}), []string{"d-00003", "d-00004", "d-00120", "d-00121"}
	task := func(task string, ids ...string) {
		for _, id := range ids {
			w.desktops[id].task = task
		}
	}
	ended := map[int]bool{}
	w.onStep = func(h *Head) {
		for n, o := range h.Open {
			if o.State == Verifying && !ended[n] {
				ended[n] = true
				task("REBOOTING", slow[2*n:2*n+2]...)
			}
		}
	}
	w.start("r", strategy(0, whole, 150, "0%"), nil)
	require.True(t, w.run(day, func() bool { return len(ended) == 2 }))
	require.Len(t, w.head("r").Open, 2)
	w.after(6*time.Minute, func() { task("", slow...) })
	return w, slow
}

// looks are the desktops of each look that was made since then.
func (w *world) looks(since time.Time) [][]string {
	var all [][]string
	for _, c := range w.ledger {
		var d events.ListDesktops
		if c.message.Type == events.TypeListDesktops && !c.message.Time.Before(since) {
			require.NoError(w.t, json.Unmarshal(c.message.Data, &d))
			all = append(all, d.DesktopIDs)
		}
	}
	return all
}

func TestBatchesShareTheLooksAfterTheirJobs(t *testing.T) {
	t.Parallel()
	w, slow := stragglers(t)
	begun := w.now.Add(3 * time.Minute) // both have had their first look
	require.Equal(t, Counts{Done: 150}, w.until("r", Completed).Counts())
	looks := w.looks(begun)
	require.NotEmpty(t, looks)
	for _, ids := range looks {
		require.ElementsMatch(t, slow, ids)
	}
}

func TestASharedLookThatFailsOrIsLostIsMadeAnewForAllItsBatches(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(w *world){
		"lost":                                 func(w *world) { w.silence(w.now.Add(12 * time.Minute)) },
		"a part of the answer comes twice":     func(w *world) { w.odds.double = 100 },
		"failed":                               func(w *world) { w.odds.listFails = 50 },
		"the step that stores the answer dies": func(w *world) { w.odds.crash = 40 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, slow := stragglers(t)
			require.True(t, w.run(day, func() bool { // the shared look is under way
				looks := w.looks(w.now)
				return len(looks) == 1 && len(looks[0]) == len(slow)
			}))
			harm(w)
			require.Equal(t, Counts{Done: 150}, w.until("r", Completed).Counts())
		})
	}
}
