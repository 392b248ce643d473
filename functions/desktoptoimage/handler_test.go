package desktoptoimage_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/desktoptoimage"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

func function(r *functiontest.Rig) queue.Function {
	return desktoptoimage.New(r.API, r.Engine())
}

func data(r *functiontest.Rig) events.DesktopToImage {
	return events.DesktopToImage{
		ImageName: "golden-2026.01", DesktopID: r.Desktops[0], ImageTags: []events.Tag{{Key: "team", Value: "lab"}}, MinRAM: "4096",
		Then: &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: r.Desktops[1:]}},
	}
}

func command(r *functiontest.Rig) queue.Delivery {
	return r.Command(events.TypeDesktopToImage, "c1", data(r))
}

func TestStartsOneJob(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	e := functiontest.Only(t, r.Process(function(r), command(r)))
	a := functiontest.Data[events.JobAccepted](t, e)
	require.Equal(t, events.FnDesktopToImage, a.Function)
	require.Equal(t, r.Emulator.State().Jobs[0].ID, a.JobID)
	require.Equal(t, "golden-2026.01", a.ImageName)
	require.Equal(t, r.Desktops[:1], a.DesktopIDs)
	require.Equal(t, data(r).Then, a.Then)
	require.Equal(t, a.AcceptedAt.Add(2*time.Hour), a.Deadline)

	before := len(r.Emulator.Requests(0, 0))
	r.Clock.Add(time.Hour)
	require.Equal(t, e, functiontest.Only(t, r.Process(function(r), command(r))))
	require.Len(t, r.Emulator.Requests(0, 0), before, "a second delivery makes no call")
}

func TestTheVendorsExampleIsAcceptedAsItStands(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	d := r.Command(events.TypeDesktopToImage, "c1", `{
		"image_name": "office 2026", "image_description": "spring image", "desktop_id": "`+r.Desktops[0]+`", "execute_sysprep": "true",
		"image_tags": [{"key": "owner", "value": "it"}], "enterprise_project_id": "0", "max_ram": "8192", "min_ram": 4096}`)
	e := functiontest.Only(t, r.Process(function(r), d))
	require.Equal(t, events.TypeJobAccepted, e.Type, "%s", e.Data)
}

func TestATakenNameIsAConflict(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	functiontest.Only(t, r.Process(function(r), command(r)))
	r.Clock.Add(2 * time.Hour)
	cmd := data(r)
	cmd.DesktopID, cmd.Then = r.Desktops[1], nil
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Process(function(r), r.Command(events.TypeDesktopToImage, "c2", cmd)))
	require.Equal(t, events.KindConflict, failed.Error.Kind)
	require.Equal(t, events.EffectNone, failed.Effect)
	require.Contains(t, failed.Error.ErrorMsg, "golden-2026.01")
	_, accepted := r.Calls(emulator.CallDesktopToImage)
	require.Equal(t, 1, accepted)
}

func TestABusyDesktopIsRetried(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	functiontest.Only(t, r.Process(function(r), command(r)))
	cmd := data(r)
	cmd.ImageName = "another name"
	begin := r.Clock.Now()
	e := functiontest.Only(t, r.Follow(function(r), r.Command(events.TypeDesktopToImage, "c2", cmd)))
	require.Equal(t, events.TypeJobAccepted, e.Type, "%s", e.Data)
	require.GreaterOrEqual(t, r.Clock.Now().Sub(begin), 20*time.Minute, "when the first capture was done")

	cmd.ImageName = "a third name"
	r.Config.ConflictDeadline = 5 * time.Minute
	f := function(r)
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(f, r.Command(events.TypeDesktopToImage, "c3", cmd)))
	require.Equal(t, events.KindConflict, failed.Error.Kind)
	require.Equal(t, 409, failed.Error.HTTPStatus)
	require.Equal(t, "WKS.00010032", failed.Error.ErrorCode)
	require.Contains(t, failed.Error.ErrorMsg, r.Desktops[0], "the service names state, operation and desktop")
	require.Equal(t, events.EffectNone, failed.Effect)
}

func TestTheSameIDWithOtherDataIsRefused(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	first := functiontest.Only(t, r.Process(function(r), command(r)))
	cmd := data(r)
	cmd.ImageName = "another name"
	other := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeDesktopToImage, "c1", cmd)))
	failed := functiontest.Data[events.CommandFailed](t, other)
	require.Equal(t, events.KindIDReused, failed.Error.Kind)
	require.NotEqual(t, first.ID, other.ID)
	require.Equal(t, first, functiontest.Only(t, r.Process(function(r), command(r))))
	_, accepted := r.Calls(emulator.CallDesktopToImage)
	require.Equal(t, 1, accepted)
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	functiontest.WriteStatuses(t, emulator.CallDesktopToImage, function, command)
}

func TestAnAnswerWithoutAJobIsLookedFor(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(emulator.Fault{Call: emulator.CallDesktopToImage, Do: emulator.Do{Quirk: "image-200-no-job"}})
	a := functiontest.OnlyData[events.JobAccepted](t, r.Follow(function(r), command(r)))
	require.Equal(t, r.Emulator.State().Jobs[0].ID, a.JobID)
	asked, accepted := r.Calls(emulator.CallDesktopToImage)
	require.Equal(t, [2]int{1, 1}, [2]int{asked, accepted})
}

// The job is no longer listed, but an image of the name exists: the call was accepted, so it is not repeated.
func TestAnImageOfTheNameKeepsALostCallFromBeingMadeAgain(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(
		emulator.Fault{Call: emulator.CallDesktopToImage, Do: emulator.Do{Drop: "after"}},
		emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "history-deleted"}})
	first := r.Process(function(r), command(r))
	r.Clock.Add(time.Hour)
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(function(r), r.Later(first.Delay)))
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Equal(t, events.EffectUnknown, failed.Effect)
	require.Contains(t, failed.Error.ErrorMsg, "neither found nor proved absent")
	require.Contains(t, failed.Error.ErrorMsg, "has the name by now")
	asked, accepted := r.Calls(emulator.CallDesktopToImage)
	require.Equal(t, [2]int{1, 1}, [2]int{asked, accepted})
}

func TestRefusesWithoutACall(t *testing.T) {
	t.Parallel()
	functiontest.Refuses(t, events.TypeDesktopToImage, function, map[string]functiontest.Refusal{
		"sysprep not given":        {`{"image_name":"a","desktop_id":"d1"}`, events.KindInvalid, "execute_sysprep: must be given"},
		"clear data with sysprep":  {`{"image_name":"a","desktop_id":"d1","execute_sysprep":true,"is_clear_data":true}`, events.KindInvalid, "is_clear_data"},
		"captured desktop in then": {`{"image_name":"a","desktop_id":"d1","execute_sysprep":false,"then":{"rebuild":{"desktop_ids":["d2","d1"]}}}`, events.KindInvalid, "then.rebuild.desktop_ids"},
		"a day and a minute":       {`{"image_name":"a","desktop_id":"d1","execute_sysprep":false,"then":{"rebuild":{"desktop_ids":["d2"],"delay_time":1441}}}`, events.KindInvalid, "then.rebuild.delay_time"},
	})
}

// partial is a service whose list of images is never complete.
type partial struct{ *workspace.Client }

func (p partial) ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error) {
	list, err := p.Client.ListImages(ctx, q)
	list.Complete = false
	return list, err
}

// An incomplete list is read several times, also by a command that has waited often, such as during a freeze.
func TestAnIncompleteListOfImagesIsReadSeveralTimes(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	f := desktoptoimage.New(partial{r.API}, r.Engine())
	d := command(r)
	d.Headers[queue.AttemptHeader] = []string{"20"}
	waits := r.Process(f, d)
	require.NotNil(t, waits.Delay)
	failed := functiontest.Data[events.CommandFailed](t, functiontest.Only(t, r.Follow(f, r.Later(waits.Delay))))
	require.Equal(t, events.KindBadAnswer, failed.Error.Kind)
	asked, _ := r.Calls(emulator.CallListImages)
	require.Equal(t, 7, asked)
}
