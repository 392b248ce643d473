package rollout

import (
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
