package rebuild_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

// hidden makes the service take the next rebuild and refuse it in the same moment, and list its job nowhere. The lists
// that are read before the call are true.
func hidden(r *functiontest.Rig, refusal emulator.Do) {
	r.Faults(
		emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: refusal},
		emulator.Fault{Call: emulator.CallListSubJobs, Skip: 2, Do: emulator.Do{Quirk: "sub-jobs-empty"}},
	)
}

var (
	twice   = emulator.Do{Quirk: "deliver-twice"}                                  // 409
	coded   = emulator.Do{Quirk: "taken-200-error", ErrorCode: "WKS.00010109"}     // a code that is not known
	working = emulator.Do{Quirk: "taken-200-error", ErrorCode: workspace.CodeBusy} // the code of a busy desktop
)

// Desktops that run the image after a refused call were rebuilt meanwhile, but no job shows by which caller. They are
// neither skipped nor failed: the end reports what is known, and their image is checked.
func TestARebuildOfWhichNoJobIsListedIsNoSkip(t *testing.T) {
	t.Parallel()
	for name, current := range map[string]bool{"another image": false, "the image that they run": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 3)
			cmd := data(r)
			if current {
				cmd.ImageID, cmd.ImageType, cmd.RebuildCurrent = r.Emulator.State().Desktops[0].Metadata["metering.image_id"], "gold", true
			}
			hidden(r, twice)
			first := r.Process(function(r), r.Command(events.TypeRebuild, "c1", cmd))
			r.Clock.Add(time.Hour) // the job ends
			e := functiontest.Only(t, r.Follow(function(r), r.Later(first.Delay)))
			done := functiontest.Data[events.JobCompleted](t, e)
			require.Empty(t, done.JobID)
			require.Equal(t, events.Succeeded, done.Outcome)
			require.Len(t, done.Desktops, 3)
			for _, d := range done.Desktops {
				require.Equal(t, events.DesktopResult{DesktopID: d.DesktopID, Outcome: events.Succeeded, Kind: events.KindUnknownOutcome}, d)
			}
			open := events.Open(events.Root{ID: "c1"}, []events.Envelope{e})
			require.Equal(t, []events.Pending{{ID: events.ReactionID(e, events.FnCheckImages), Function: events.FnCheckImages}}, open, "the images are checked")
			require.Len(t, r.Emulator.State().Jobs, 1, "rebuilt once")
		})
	}
}

// Desktops that ran the image before the first attempt are skipped.
func TestBesideAHiddenJobTheBaselineIsSkipped(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	before := data(r)
	before.DesktopIDs = r.Desktops[:1]
	functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c0", before)))
	r.Clock.Add(time.Hour)
	hidden(r, twice)
	cmd := before
	cmd.DesktopIDs = r.Desktops
	first := r.Process(function(r), r.Command(events.TypeRebuild, "c1", cmd))
	r.Clock.Add(time.Hour)
	done := functiontest.OnlyData[events.JobCompleted](t, r.Follow(function(r), r.Later(first.Delay)))
	require.Equal(t, []events.DesktopResult{
		{DesktopID: r.Desktops[0], Outcome: events.Skipped},
		{DesktopID: r.Desktops[1], Outcome: events.Succeeded, Kind: events.KindUnknownOutcome},
		{DesktopID: r.Desktops[2], Outcome: events.Succeeded, Kind: events.KindUnknownOutcome},
	}, done.Desktops)
	require.Equal(t, events.Succeeded, done.Outcome)
	require.Equal(t, r.Desktops[1:], done.Rebuilt())
}

// If check-images left a desktop out, its earlier image is not known, so a rebuild is not proved.
func TestWithoutABaselineARebuildIsNotProved(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(
		emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: twice},
		emulator.Fault{Call: emulator.CallCheckImages, Times: 1, Do: emulator.Do{Quirk: "check-images-no-entry"}},
		emulator.Fault{Call: emulator.CallListSubJobs, Skip: 2, Do: emulator.Do{Quirk: "sub-jobs-empty"}},
	)
	first := r.Process(function(r), command(r))
	r.Clock.Add(time.Hour)
	done := functiontest.OnlyData[events.JobCompleted](t, r.Follow(function(r), r.Later(first.Delay)))
	require.Equal(t, events.Lost, done.Outcome)
	require.Equal(t, events.KindUnknownOutcome, done.Error.Kind)
	for _, d := range done.Desktops {
		require.Equal(t, events.DesktopResult{DesktopID: d.DesktopID, Outcome: events.Missing, Kind: events.KindUnknownOutcome}, d)
	}
	require.Empty(t, done.Rebuilt())
}

// A disk of which the service writes the time in another form shows no rebuild, and no proof that there was none.
func TestATimeInAnotherFormProvesNoRebuild(t *testing.T) {
	t.Parallel()
	for _, quirk := range []string{"", "times-without-zone"} {
		r := functiontest.New(t, 2)
		before := data(r)
		functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c0", before)))
		r.Clock.Add(time.Hour)
		faults := []emulator.Fault{{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Status: 429, ErrorCode: "APIGW.0308"}}}
		if quirk != "" {
			faults = append(faults, emulator.Fault{Call: emulator.CallGetDesktop, Skip: 2, Do: emulator.Do{Quirk: quirk}})
		}
		r.Faults(faults...)
		current := before
		current.RebuildCurrent = true
		first := r.Process(function(r), r.Command(events.TypeRebuild, "c1", current))
		require.NotNil(t, first.Delay)
		r.Clock.Add(time.Hour)
		end := functiontest.Only(t, r.Follow(function(r), r.Later(first.Delay)))
		if quirk == "" {
			functiontest.Data[events.JobAccepted](t, end)
			continue
		}
		done := functiontest.Data[events.JobCompleted](t, end)
		require.Equal(t, events.Lost, done.Outcome)
		require.Equal(t, events.KindUnknownOutcome, done.Error.Kind)
		require.Empty(t, done.Rebuilt())
		require.Len(t, r.Emulator.State().Jobs, 1)
	}
}

// While a desktop that runs the image has a task, the job that nothing lists may not be done. It is waited for until
// the deadline of refused commands.
func TestAHiddenJobIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, deadline := range []time.Duration{3 * time.Hour, 30 * time.Minute} {
		r := functiontest.New(t, 1)
		r.Config.ConflictDeadline = deadline
		f := rebuild.New(r.API, r.Engine())
		hidden(r, twice)
		first := r.Process(f, command(r))
		r.Clock.Add(time.Hour)
		r.Faults(
			emulator.Fault{Call: emulator.CallDesktopToImage, Do: emulator.Do{Quirk: "image-task-status"}},
			emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "sub-jobs-empty"}},
		)
		_, err := r.API.DesktopToImage(t.Context(), r.API.ServiceNow(), workspace.DesktopToImageRequest{ImageName: "n", DesktopID: r.Desktops[0]})
		require.NoError(t, err)
		waits := r.Process(f, r.Later(first.Delay))
		if deadline < time.Hour {
			failed := functiontest.OnlyData[events.CommandFailed](t, waits)
			require.Equal(t, events.KindConflict, failed.Error.Kind)
			require.Equal(t, events.EffectUnknown, failed.Effect)
			require.Contains(t, failed.Error.ErrorDetail, "run the image by now have a task")
			continue
		}
		require.Empty(t, waits.Events)
		done := functiontest.OnlyData[events.JobCompleted](t, r.Follow(f, r.Later(waits.Delay)))
		require.Equal(t, r.Desktops, done.Rebuilt())
	}
}

// A permanent refusal reports the effect none only if the desktops show none.
func TestARefusalWithAHiddenJobIsNoEffectNone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refusal emulator.Do
		kind    string
		wait    time.Duration // of the first delayed message, beyond its delay
	}{
		"an unknown code":                  {coded, events.KindBadAnswer, 0},
		"an unknown code, after the job":   {coded, events.KindBadAnswer, time.Hour},
		"busy for too long, after the job": {working, "", time.Hour},
		"too old, while the job runs":      {twice, events.KindExpired, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 1)
			hidden(r, c.refusal)
			d := command(r)
			if c.kind == events.KindExpired {
				e := decoded(t, d)
				e.Expiry = r.Clock.Now().Add(time.Second)
				d = r.Message(e)
			}
			first := r.Process(function(r), d)
			r.Clock.Add(c.wait)
			e := functiontest.Only(t, r.Follow(function(r), r.Later(first.Delay)))
			if c.kind == "" {
				done := functiontest.Data[events.JobCompleted](t, e)
				require.Equal(t, events.KindUnknownOutcome, done.Desktops[0].Kind)
				return
			}
			failed := functiontest.Data[events.CommandFailed](t, e)
			require.Equal(t, c.kind, failed.Error.Kind)
			require.Equal(t, events.EffectUnknown, failed.Effect)
			require.Contains(t, failed.Error.ErrorDetail, "may have accepted an earlier call")
			_, accepted := r.Calls(emulator.CallRebuild)
			require.Equal(t, 1, accepted)
		})
	}
	t.Run("nothing was taken", func(t *testing.T) {
		t.Parallel()
		r := functiontest.New(t, 1)
		r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Quirk: "rebuild-200-error", ErrorCode: "WKS.1"}})
		e := functiontest.Only(t, r.Follow(function(r), command(r)))
		failed := functiontest.Data[events.CommandFailed](t, e)
		require.Equal(t, events.EffectNone, failed.Effect)
	})
}

// A desktop that is busy until the deadline ends with the effect none only if a listed job keeps it busy.
func TestABusyDesktopWhoseTaskNoJobExplains(t *testing.T) {
	t.Parallel()
	for quirk, effect := range map[string]string{"": events.EffectNone, "sub-jobs-empty": events.EffectUnknown} {
		r := functiontest.New(t, 1)
		r.Config.ConflictDeadline = time.Minute
		faults := []emulator.Fault{{Call: emulator.CallDesktopToImage, Do: emulator.Do{Quirk: "image-task-status"}}}
		if quirk != "" {
			faults = append(faults, emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: quirk}})
		}
		r.Faults(faults...)
		_, err := r.API.DesktopToImage(t.Context(), r.API.ServiceNow(), workspace.DesktopToImageRequest{ImageName: "n", DesktopID: r.Desktops[0]})
		require.NoError(t, err)
		e := functiontest.Only(t, r.Follow(function(r), command(r)))
		failed := functiontest.Data[events.CommandFailed](t, e)
		require.Equal(t, events.KindConflict, failed.Error.Kind)
		require.Equal(t, effect, failed.Effect, quirk)
	}
}

func decoded(t *testing.T, d queue.Delivery) events.Envelope {
	t.Helper()
	e, err := events.Decode(d.Headers, d.Body, d.Bare)
	require.NoError(t, err)
	return e
}

// The answer of a rebuild is lost, its job is never listed, and check-images leaves the desktops out: whether they were
// rebuilt cannot be seen, so the call is not made once more.
func TestADesktopWhoseImageIsNotShownIsNotUnchanged(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(
		emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: emulator.DropAfter}},
		emulator.Fault{Call: emulator.CallCheckImages, Do: emulator.Do{Quirk: "check-images-no-entry"}},
		emulator.Fault{Call: emulator.CallListSubJobs, Skip: 2, Do: emulator.Do{Quirk: "sub-jobs-empty"}},
	)
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(function(r), command(r)))
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	asked, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, [2]int{1, 1}, [2]int{asked, accepted})
}

// The lost call was taken, its job is never listed, and it failed late: the desktop shows the old image and no task, and its
// disk is gone. It is not as it was.
func TestADesktopInErrorIsNotUnchanged(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	r.Faults(
		emulator.Fault{Call: emulator.CallRebuild, DesktopID: r.Desktops[0], Times: 1, Do: emulator.Do{
			Job: "fail", Quirk: "late-failure", ErrorCode: "WKS.1", Drop: emulator.DropAfter}},
		emulator.Fault{Call: emulator.CallListSubJobs, Skip: 2, Do: emulator.Do{Quirk: "sub-jobs-empty"}},
	)
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(function(r), command(r)))
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Equal(t, "ERROR", r.Emulator.State().Desktops[0].Status)
	asked, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, [2]int{1, 1}, [2]int{asked, accepted})
}
