package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// With options.skip_current false, a desktop that ran the image before is rebuilt: that it runs it shows nothing.
func TestARetryRebuildsADesktopThatRanTheImageBefore(t *testing.T) {
	t.Parallel()
	w := calm(t, 3)
	for _, d := range w.desktops {
		d.image, d.base = "new", "new"
	}
	w.failing("d-00001")
	w.start("r", with(strategy(0, whole, 3, "2"), map[string]any{"options": map[string]any{"skip_current": false}}), nil)
	require.Equal(t, Counts{Done: 2, Failed: 1}, w.until("r", Completed).Counts())
	require.Equal(t, 3, w.accepted)
	w.fails = nil
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 3}, w.until("r", Completed).Counts())
	require.Equal(t, 4, w.accepted, "it was rebuilt")
}

// A desktop that failed and runs the image all the same was rebuilt by this rollout: it is not one that ran it before.
func TestARetryOfADesktopThatRunsTheImageWaitsForItsTask(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.failing("d-00001")
	w.start("r", strategy(0, whole, 9, "2"), nil)
	w.until("r", Completed)
	w.fails = nil
	w.desktops["d-00001"].image, w.desktops["d-00001"].task = "new", "STARTING"
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	require.True(t, w.run(day, func() bool { return len(w.head("r").waveNumbers(DeferredWave)) > 0 }), w)
	w.desktops["d-00001"].task = ""
	require.Equal(t, Counts{Done: 9}, w.until("r", Completed).Counts())
	w.audit("r")
	require.Equal(t, 9, w.accepted)
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, Counts{BackDone: 9}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// A desktop that failed, and that its retry has to leave out, has failed: nothing shows that the cause is gone.
func TestADesktopThatFailedIsNotSkippedByItsRetry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*machine)
		reason string
	}{
		"error":  {func(d *machine) { d.status = "ERROR" }, "it failed before, and its status is ERROR"},
		"in use": {func(d *machine) { d.login = "CONNECTED" }, "it failed before, and its login status is CONNECTED"},
		"busy":   {func(d *machine) { d.task = "STOPPING" }, "it failed before, and it has the task STOPPING; deferred 1 time"},
	} {
		w := calm(t, 20)
		w.failing("d-00001", "d-00002", "d-00003")
		w.start("r", with(strategy(0, []string{"50%", "100%"}, 20, "10%"), users(Defer, 0, Skip)), nil)
		w.until("r", Halted)
		w.run(time.Hour, nil)
		require.Equal(t, Counts{Done: 7, Failed: 3, Pending: 10}, w.head("r").Counts())
		w.fails = nil
		for _, id := range w.ids[1:3] {
			c.change(w.desktops[id])
		}
		w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
		require.Equal(t, 2, w.until("r", Halted).Counts()[Failed], name)
		two := int64(2)
		w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &two})
		require.Equal(t, Counts{Done: 18, Failed: 2}, w.until("r", Completed).Counts(), name)
		v, _ := w.view("r")
		require.Equal(t, c.reason, v.failures()[0].Reason, name)
		w.audit("r")
	}
}

// Of two desktops that run the image after a lost call, one ran it before, so whether it was rebuilt is not known: the call
// may still take effect.
func TestADesktopOfWhichNoJobShowsARebuildIsUnknown(t *testing.T) {
	t.Parallel()
	w := calm(t, 2)
	w.ending(func(d *events.JobCompleted) {
		d.Outcome, d.Desktops[1].Outcome, d.Desktops[1].Kind = events.Partial, events.Missing, events.KindUnknownOutcome
	})
	w.start("r", strategy(0, whole, 2, "1"), nil)
	require.Equal(t, Counts{Done: 1, Unknown: 1}, w.until("r", Completed).Counts())
	w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{}, "name those of unknown outcome in desktop_ids")
}

// With options.skip_current false, and if it is not known what a desktop ran before, that it runs the image shows nothing.
func TestARetryRebuildsADesktopOfWhichTheEarlierImageIsNotKnown(t *testing.T) {
	t.Parallel()
	for _, skip := range []bool{false, true} {
		w := calm(t, 3)
		for _, d := range w.desktops {
			d.image, d.base = "", ""
		}
		w.failing("d-00001")
		w.start("r", with(strategy(0, whole, 3, "2"), map[string]any{"options": map[string]any{"skip_current": skip}}), nil)
		require.Equal(t, Counts{Done: 2, Failed: 1}, w.until("r", Completed).Counts())
		w.fails, w.desktops["d-00001"].image = nil, "new"
		w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
		require.Equal(t, Counts{Done: 3}, w.until("r", Completed).Counts())
		require.Equal(t, map[bool]int{false: 4, true: 3}[skip], w.accepted)
	}
}

// A desktop that runs the image by the time of the call is looked at, where it is to get it once more or back: it did not run
// it before for a reason of its own.
func TestADesktopThatARetryOrARollbackSkipsIsLookedAt(t *testing.T) {
	t.Parallel()
	w := calm(t, 3)
	w.failing("d-00001")
	w.start("r", strategy(0, whole, 3, "2"), nil)
	require.Equal(t, Counts{Done: 2, Failed: 1}, w.until("r", Completed).Counts())
	w.fails = nil
	w.ending(func(d *events.JobCompleted) {
		d.Desktops[0].Outcome = events.Skipped
	})
	took := w.head("r").Took
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.until("r", Running)
	require.True(t, w.run(day, func() bool { return w.head("r").Open[1].State == Verifying }), w)
	require.Equal(t, Counts{Done: 3}, w.until("r", Completed).Counts())
	require.Equal(t, took, w.head("r").Took, "no rebuild shows how long one takes")
	w.audit("r")
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, Counts{BackDone: 3}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// A call of which no job was found, for all desktops of a batch: none of them can be called missing, or late.
func TestABatchOfWhichNoJobShowsARebuildIsUnknown(t *testing.T) {
	t.Parallel()
	w := calm(t, 1)
	w.ending(func(d *events.JobCompleted) {
		d.Outcome, d.Desktops[0].Outcome, d.Desktops[0].Kind = events.Lost, events.Missing, events.KindUnknownOutcome
	})
	w.start("r", strategy(0, whole, 2, "1"), nil)
	require.Equal(t, Counts{Unknown: 1}, w.until("r", Completed).Counts())
	v, _ := w.view("r")
	require.Equal(t, "it runs the image; whether it was rebuilt is not known", v.failures()[0].Reason)
}

// A desktop that runs the image that it is to get is not rebuilt. Only when check-images shows that, too, it is as it should be.
func TestADesktopThatIsNotRebuiltIsVerified(t *testing.T) {
	t.Parallel()
	for typ, state := range map[string]string{events.TypeRolloutRetry: Done, events.TypeRolloutRollback: BackDone} {
		w := calm(t, 9)
		w.failing("d-00001", "d-00002")
		w.start("r", strategy(0, whole, 9, "3"), nil)
		w.until("r", Completed)
		w.fails = nil
		shows := false
		w.drop = func(e Event) bool {
			var d events.ImagesChecked
			if shows || e.Type != events.TypeImagesChecked || json.Unmarshal(e.Data, &d) != nil || len(d.ImageInfos) == 0 {
				return false
			}
			d.ImageInfos, shows = nil, true
			e.Data, _ = json.Marshal(d)
			w.deliver("r", 0, e, false)
			return true
		}
		if typ == events.TypeRolloutRetry {
			w.desktops["d-00001"].image = "new"
		}
		took := w.head("r").Took
		w.do("r", typ, events.RolloutCommand{DesktopIDs: []string{"d-00001"}})
		require.True(t, w.run(day, func() bool { return shows }), typ)
		w.run(30*time.Second, nil)
		require.Equal(t, 1, w.head("r").Counts()[Sent], "%s: only the list shows it", typ)
		require.True(t, w.run(day, func() bool { return w.head("r").over() }))
		want := Counts{Done: 7, Failed: 1}
		want[state]++
		require.Equal(t, want, w.head("r").Counts(), typ)
		require.Equal(t, 9, w.accepted, "%s: it was not rebuilt", typ)
		require.Equal(t, took, w.head("r").Took)
		w.audit("r")
	}
}
