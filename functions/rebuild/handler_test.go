package rebuild_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/testkit/functiontest"
)

func function(r *functiontest.Rig) queue.Function {
	return rebuild.New(r.API, r.Engine())
}

func data(r *functiontest.Rig) events.Rebuild {
	id, imageType := r.OtherImage()
	return events.Rebuild{DesktopIDs: r.Desktops, ImageID: id, ImageType: imageType}
}

func command(r *functiontest.Rig) queue.Delivery { return r.Command(events.TypeRebuild, "c1", data(r)) }

func TestStartsOneJobAndPublishesTheImagesBefore(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	cmd := data(r)
	cmd.DelayTime, cmd.Message = 15, "Your desktop is rebuilt at noon."
	d := r.Command(events.TypeRebuild, "c1", cmd)
	e := functiontest.Only(t, r.Process(function(r), d))
	a := functiontest.Data[events.JobAccepted](t, e)
	require.Equal(t, events.FnRebuild, a.Function)
	require.Equal(t, events.CommandRef{Type: events.TypeRebuild, ID: "c1", Source: "test", Digest: events.Digest(cmd)}, a.Command)
	require.Equal(t, r.Emulator.State().Jobs[0].ID, a.JobID)
	require.Equal(t, r.Desktops, a.DesktopIDs)
	require.Len(t, a.Previous, 3)
	require.Equal(t, r.Emulator.State().Desktops[0].Metadata["metering.image_id"], a.Previous[0].ImageID)
	require.Equal(t, cmd.ImageID, a.ImageID)
	require.Equal(t, cmd.ImageType, a.ImageType)
	require.EqualValues(t, 15, a.DelayTime)
	require.Equal(t, a.AcceptedAt.Add(45*time.Minute+15*time.Minute), a.Deadline)
	require.Equal(t, "c1", e.Causation)
	require.NotEmpty(t, a.RequestID)

	// Each redelivery of the command publishes the same events without a call.
	before := len(r.Emulator.Requests(0, 0))
	r.Clock.Add(24 * time.Hour)
	for range 3 {
		require.Equal(t, e, functiontest.Only(t, r.Process(function(r), d)))
	}
	require.Len(t, r.Emulator.Requests(0, 0), before)
}

func TestSkipsWhatRunsTheImageAlready(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	other, imageType := r.OtherImage()
	first := events.Rebuild{DesktopIDs: r.Desktops[:1], ImageID: other, ImageType: imageType}
	functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c0", first)))
	r.Clock.Add(time.Hour)

	all := events.Rebuild{DesktopIDs: r.Desktops, ImageID: other, ImageType: imageType}
	a := functiontest.OnlyData[events.JobAccepted](t, r.Process(function(r), r.Command(events.TypeRebuild, "c1", all)))
	require.Equal(t, r.Desktops[1:], a.DesktopIDs)
	require.Equal(t, r.Desktops[:1], a.Skipped)
	jobs := r.Emulator.State().Jobs
	require.Len(t, jobs[len(jobs)-1].SubJobs, 2)
}

func TestWithNothingToDoItMakesNoCall(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: r.Emulator.State().Desktops[0].Metadata["metering.image_id"], ImageType: "gold"}
	d := r.Command(events.TypeRebuild, "c1", cmd)
	e := functiontest.Only(t, r.Process(function(r), d))
	done := functiontest.Data[events.JobCompleted](t, e)
	require.Equal(t, events.Succeeded, done.Outcome)
	require.Empty(t, done.JobID)
	require.Equal(t, []events.DesktopResult{
		{DesktopID: r.Desktops[0], Outcome: events.Skipped}, {DesktopID: r.Desktops[1], Outcome: events.Skipped},
	}, done.Desktops)
	require.Empty(t, events.Open(events.Root{ID: "c1"}, []events.Envelope{e}))
	require.Equal(t, e, functiontest.Only(t, r.Process(function(r), d)))
	asked, _ := r.Calls(emulator.CallRebuild)
	require.Zero(t, asked)

	cmd.RebuildCurrent = true
	functiontest.OnlyData[events.JobAccepted](t, r.Process(function(r), r.Command(events.TypeRebuild, "c2", cmd)))
}

func TestMoreThanAHundredAreSplit(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 250)
	d := command(r)
	result := r.Process(function(r), d)
	require.Len(t, result.Events, 1)
	split := functiontest.Data[events.CommandSplit](t, result.Events[0])
	require.Len(t, split.Parts, 3)
	require.Len(t, result.Next, 3)
	var all []string
	for i, next := range result.Next {
		require.Equal(t, events.FnRebuild, next.Function)
		require.Equal(t, split.Parts[i].ID, next.Envelope.ID)
		require.Equal(t, "chain", next.Envelope.Correlation)
		require.Equal(t, "c1", next.Envelope.Causation)
		part, err := events.DecodeRebuild(next.Envelope.Data)
		require.NoError(t, err)
		require.Equal(t, split.Parts[i].DesktopIDs, part.DesktopIDs)
		require.Equal(t, split.Parts[i].Digest, next.Envelope.Digest())
		all = append(all, part.DesktopIDs...)
	}
	require.Equal(t, r.Desktops, all)
	require.Equal(t, result, r.Process(function(r), d), "a second delivery publishes the same")

	published := result.Events
	for _, next := range result.Next {
		require.NotEmpty(t, events.Open(events.Root{ID: "c1"}, published))
		e := functiontest.Only(t, r.Process(function(r), r.Message(next.Envelope)))
		a := functiontest.Data[events.JobAccepted](t, e)
		require.Equal(t, next.Envelope.Digest(), a.Command.Digest)
		published = append(published, e)
	}
	require.Len(t, events.Chain(events.Root{ID: "c1", Source: "test", Digest: events.Digest(data(r))}, published), 4)
	asked, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, [2]int{3, 3}, [2]int{asked, accepted})
}

func TestASplitIdWithOtherDataIsRefused(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 150)
	r.Process(function(r), command(r))
	cmd := data(r)
	cmd.DesktopIDs = cmd.DesktopIDs[:120]
	e := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c1", cmd)))
	require.Equal(t, events.KindIDReused, functiontest.Data[events.CommandFailed](t, e).Error.Kind)
}

func TestFollowsAnImage(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	image, imageType := r.OtherImage()
	event := func(outcome string) queue.Delivery {
		raw, err := json.Marshal(events.JobCompleted{
			Function: events.FnDesktopToImage, JobID: "j1", Outcome: outcome,
			Image: &events.Image{ImageID: image, ImageName: "golden", ImageType: imageType},
			Then:  &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: r.Desktops[1:], RebuildOptions: events.RebuildOptions{Message: "hello"}}},
		})
		require.NoError(t, err)
		return r.Message(events.Envelope{ID: "done-" + outcome, Source: "recompose/watchjob", Type: events.TypeJobCompleted, Time: r.Clock.Now(), Correlation: "chain", Data: raw})
	}
	require.Equal(t, queue.Result{}, r.Process(function(r), event(events.Failed)))

	d := event(events.Succeeded)
	e := functiontest.Only(t, r.Process(function(r), d))
	a := functiontest.Data[events.JobAccepted](t, e)
	require.Equal(t, r.Desktops[1:], a.DesktopIDs)
	require.Equal(t, image, a.ImageID)
	require.Equal(t, events.ReactionID(events.Envelope{ID: "done-succeeded", Source: "recompose/watchjob"}, events.FnRebuild), a.Command.ID)
	require.Equal(t, a.Command.ID, e.Causation)
	require.Equal(t, e, functiontest.Only(t, r.Process(function(r), d)))
	_, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, 1, accepted)
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	functiontest.WriteStatuses(t, emulator.CallRebuild, function, func(r *functiontest.Rig) queue.Delivery {
		cmd := data(r)
		cmd.DesktopIDs = cmd.DesktopIDs[:1]
		return r.Command(events.TypeRebuild, "c1", cmd)
	})
}

func TestAnErrorBesideAJobIsAWarning(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: "rebuild-200-both"}})
	a := functiontest.OnlyData[events.JobAccepted](t, r.Process(function(r), command(r)))
	require.NotNil(t, a.Warning)
	require.NotEmpty(t, a.Warning.ErrorCode)
}

func TestAnErrorWithoutAJobIsLookedForAndMadeAgain(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Quirk: "rebuild-200-error"}})
	functiontest.OnlyData[events.JobAccepted](t, r.Follow(function(r), command(r)))
	asked, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, [2]int{2, 1}, [2]int{asked, accepted})
}

func TestNoBaselineNoCall(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(emulator.Fault{Call: emulator.CallCheckImages, Do: emulator.Do{Status: 403, ErrorCode: "WKS.00010099"}})
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Process(function(r), command(r)))
	require.Equal(t, events.KindForbidden, failed.Error.Kind)
	require.Equal(t, events.EffectNone, failed.Effect)
	asked, _ := r.Calls(emulator.CallRebuild)
	require.Zero(t, asked)

	r.Faults(emulator.Fault{Call: emulator.CallCheckImages, Times: 2, Do: emulator.Do{Status: 500}})
	e := functiontest.Only(t, r.Follow(function(r), r.Command(events.TypeRebuild, "c2", data(r))))
	require.Equal(t, events.TypeJobAccepted, e.Type)
}

func TestExpiredCommandsFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		expiry time.Duration
		wait   time.Duration
		late   bool
	}{
		"expirytime passed":     {expiry: time.Minute, wait: time.Minute, late: true},
		"expirytime to come":    {expiry: time.Minute, wait: 59 * time.Second},
		"older than six hours":  {wait: 6*time.Hour + time.Second, late: true},
		"six hours and no more": {wait: 6 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			raw, err := json.Marshal(data(r))
			require.NoError(t, err)
			e := events.Envelope{ID: "c1", Source: "test", Type: events.TypeRebuild, Time: r.Clock.Now(), Data: raw}
			if c.expiry > 0 {
				e.Expiry = e.Time.Add(c.expiry)
			}
			r.Clock.Add(c.wait)
			published := functiontest.Only(t, r.Process(function(r), r.Message(e)))
			if !c.late {
				require.Equal(t, events.TypeJobAccepted, published.Type)
				return
			}
			failed := functiontest.Data[events.CommandFailed](t, published)
			require.Equal(t, events.KindExpired, failed.Error.Kind)
			require.Empty(t, r.Emulator.Requests(0, 0))
		})
	}
}

func TestListsAreReadBeforeEveryWrite(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	options := r.Options()
	lists := &safety.Files{AllowDesktopsFile: filepath.Join(t.TempDir(), "allow"), DenyDesktopsFile: filepath.Join(t.TempDir(), "deny")}
	options.Safety = safety.New(safety.Options{Files: lists})
	f := rebuild.New(r.API, r.EngineWith(options))
	write := func(file, text string) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		require.NoError(t, os.Chtimes(file, time.Time{}, time.Unix(0, 0))) // a first list that was just written waits
	}
	refused := func(id string) []string {
		e := functiontest.Only(t, r.Process(f, r.Command(events.TypeRebuild, id, data(r))))
		failed := functiontest.Data[events.CommandFailed](t, e)
		require.Equal(t, events.KindNotAllowed, failed.Error.Kind)
		require.Equal(t, r.Desktops, failed.DesktopIDs, "none of them is rebuilt")
		names := strings.Split(strings.TrimPrefix(failed.Error.ErrorDetail, "not allowed: "), ", ")
		require.Contains(t, failed.Error.ErrorMsg, "do not allow "+names[0])
		return names
	}

	waits := r.Process(f, r.Command(events.TypeRebuild, "c0", data(r)))
	require.NotNil(t, waits.Delay, "a list that cannot be read stops the write")
	require.Empty(t, waits.Events)
	write(lists.AllowDesktopsFile, r.Desktops[0]+"\n"+r.Desktops[1]+"\n"+r.Desktops[2]+"\n")
	write(lists.DenyDesktopsFile, "x\n\"y\"\n")
	waits = r.Process(f, r.Command(events.TypeRebuild, "c0", data(r)))
	require.NotNil(t, waits.Delay, "so does one line of it that is no id")
	require.Contains(t, waits.Delay.Reason, ": line 2 cannot be read")
	require.NotContains(t, waits.Delay.Reason, `"y"`, "the sender of a command must not see the content of a list")
	require.Empty(t, waits.Events)
	write(lists.AllowDesktopsFile, "# the lab\r\n"+r.Desktops[0]+"\r\n"+r.Desktops[1]+" # two\r\n")
	write(lists.DenyDesktopsFile, "")
	require.Equal(t, r.Desktops[2:], refused("c1"))
	write(lists.DenyDesktopsFile, r.Desktops[1])
	require.Equal(t, r.Desktops[1:], refused("c2"))
	write(lists.AllowDesktopsFile, r.Desktops[0]+"\n"+r.Desktops[1]+"\n"+r.Desktops[2]+"\n")
	write(lists.DenyDesktopsFile, "#"+r.Desktops[1])
	waits = r.Process(f, r.Command(events.TypeRebuild, "c3", data(r)))
	require.NotNil(t, waits.Delay, "and lists that allow more, until they are known to be whole")
	require.Contains(t, waits.Delay.Reason, "may be half written")
	asked, _ := r.Calls(emulator.CallRebuild)
	require.Zero(t, asked)
	options.Safety = safety.New(safety.Options{Files: &safety.Files{AllowDesktopsFile: lists.AllowDesktopsFile, DenyDesktopsFile: lists.DenyDesktopsFile}})
	f = rebuild.New(r.API, r.EngineWith(options)) // a worker that starts
	e := functiontest.Only(t, r.Process(f, r.Command(events.TypeRebuild, "c3", data(r))))
	require.Equal(t, events.TypeJobAccepted, e.Type)
	require.Equal(t, events.TypeCommandFailed, functiontest.Only(t, r.Process(f, r.Command(events.TypeRebuild, "c2", data(r)))).Type, "an end stays")
}

func TestDelayTimeHasALimit(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	cmd := data(r)
	cmd.DelayTime = 1441
	e := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c1", cmd)))
	failed := functiontest.Data[events.CommandFailed](t, e)
	require.Equal(t, events.KindInvalid, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, "delay_time: must be at most 1440")
}

// A command that was begun has one end, though it is delivered once more to a worker with a lower limit.
func TestALowerLimitOfTheDelayEndsNoJob(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	cmd := data(r)
	cmd.DelayTime = 60
	d := r.Command(events.TypeRebuild, "c1", cmd)
	first := functiontest.Only(t, r.Process(function(r), d))
	r.Config.MaxDelayTime = 30
	require.Equal(t, first, functiontest.Only(t, r.Process(function(r), d)))
	d.Deliveries = queue.MaxDeliveries + 1
	require.Equal(t, first, functiontest.Only(t, r.Process(function(r), d)))
}

func TestGivingUpDependsOnTheRecord(t *testing.T) {
	t.Parallel()
	usedUp := func(d queue.Delivery) queue.Delivery {
		d.Deliveries = queue.MaxDeliveries + 1
		return d
	}
	t.Run("nothing was begun", func(t *testing.T) {
		t.Parallel()
		r := functiontest.New(t, 2)
		result := r.Process(function(r), usedUp(command(r)))
		failed := functiontest.Data[events.CommandFailed](t, result.Events[0])
		require.Equal(t, events.KindAttemptsUsedUp, failed.Error.Kind)
		require.Equal(t, events.EffectNone, failed.Effect)
		require.Equal(t, result.Dead.ID, failed.DeadLetter)
		require.Equal(t, result.Events[0].ID, functiontest.Only(t, r.Process(function(r), command(r))).ID, "an end stays")
		require.Empty(t, r.Emulator.Requests(0, 0))
	})
	t.Run("a job was accepted", func(t *testing.T) {
		t.Parallel()
		r := functiontest.New(t, 2)
		accepted := functiontest.Only(t, r.Process(function(r), command(r)))
		result := r.Process(function(r), usedUp(command(r)))
		require.Equal(t, []events.Envelope{accepted}, result.Events)
	})
	t.Run("a call was begun", func(t *testing.T) {
		t.Parallel()
		r := functiontest.New(t, 2)
		now := r.Clock.Now()
		record := ledger.Record{SignedAt: now, Lease: now.Add(time.Minute)}
		_, err := r.Ledger.Put(t.Context(), events.Identity("test", "c1"), record, 0)
		require.NoError(t, err)
		waiting := r.Process(function(r), usedUp(command(r)))
		require.Nil(t, waiting.Dead, "another worker holds the command")
		require.Empty(t, waiting.Events)
		d := r.Later(waiting.Delay)
		result := r.Process(function(r), usedUp(d))
		failed := functiontest.Data[events.CommandFailed](t, result.Events[0])
		require.Equal(t, events.EffectUnknown, failed.Effect)
		asked, _ := r.Calls(emulator.CallRebuild)
		require.Zero(t, asked)
	})
}
