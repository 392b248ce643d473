package rebuild_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

// split processes a command for all desktops of a rig, and gives the parts as messages.
func split(r *functiontest.Rig) []queue.Delivery {
	r.TB.Helper()
	result := r.Follow(function(r), command(r))
	require.Len(r.TB, result.Events, 1)
	functiontest.Data[events.CommandSplit](r.TB, result.Events[0])
	parts := make([]queue.Delivery, 0, len(result.Next))
	for _, next := range result.Next {
		require.NotContains(r.TB, string(next.Envelope.Data), "image_infos")
		parts = append(parts, r.Message(next.Envelope))
	}
	return parts
}

// begun processes a part, which must be accepted.
func begun(r *functiontest.Rig, part queue.Delivery) events.JobAccepted {
	r.TB.Helper()
	return functiontest.OnlyData[events.JobAccepted](r.TB, r.Follow(function(r), part))
}

func checks(r *functiontest.Rig) int {
	r.TB.Helper()
	asked, _ := r.Calls(emulator.CallCheckImages)
	return asked
}

func TestTheImagesOfPartsAreReadFiveHundredAtATime(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1130)
	parts := split(r)
	require.Len(t, parts, 12)
	require.Equal(t, 3, checks(r))
	for i, part := range parts {
		a := begun(r, part)
		require.Len(t, a.Previous, len(a.DesktopIDs), "part %d has its baseline", i)
		require.Equal(t, a.DesktopIDs[0], a.Previous[0].DesktopID)
		require.NotEmpty(t, a.Previous[0].ImageID)
	}
	require.Equal(t, 3, checks(r))
	_, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, 12, accepted)
}

func TestImagesReadTenMinutesAgoAreReadOnceMore(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 200)
	parts := split(r)
	r.Clock.Add(10*time.Minute - time.Second)
	begun(r, parts[0])
	require.Equal(t, 1, checks(r))
	r.Clock.Add(time.Second)
	begun(r, parts[1])
	require.Equal(t, 2, checks(r))
}

// Another user rebuilds a desktop after its image was read: the part of that desktop sees it.
func TestImagesReadBeforeAJobOfOthersAreReadOnceMore(t *testing.T) {
	t.Parallel()
	r := functiontest.NewWith(t, emulator.Options{Desktops: 300, Speed: 2})
	parts := split(r)
	image, imageType := r.OtherImage()
	_, err := r.API.Rebuild(t.Context(), r.API.ServiceNow(), workspace.RebuildRequest{
		DesktopIDs: r.Desktops[100:101], ImageID: image, ImageType: imageType,
	})
	require.NoError(t, err)
	r.Clock.Add(5 * time.Minute)
	begun(r, parts[0])
	require.Equal(t, 1, checks(r), "its desktops had no job")
	r.Clock.Add(30 * time.Second)
	require.Equal(t, image, r.Emulator.State().Desktops[100].Metadata["metering.image_id"])
	require.Zero(t, r.Emulator.State().Desktops[100].TaskStatus)
	r.Clock.Add(4 * time.Minute)
	a := begun(r, parts[1])
	require.Equal(t, 2, checks(r))
	require.NotContains(t, a.DesktopIDs, r.Desktops[100], "it runs the image by now and is not wiped once more")
}

func TestWhatIsHeldBackReadsTheImagesOnce(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	r.Faults(
		emulator.Fault{Call: emulator.CallListSubJobs, Times: 1, Do: emulator.Do{Status: 429}},
		emulator.Fault{Call: emulator.CallListImages, Times: 2, Do: emulator.Do{Status: 429}},
	)
	a := begun(r, command(r))
	require.Len(t, a.Previous, 3)
	require.Equal(t, 1, checks(r))
}

// A function on AWS may have no room to describe all desktops of a batch in one delivery.
func TestTheDisksOfABatchAreReadInSeveralDeliveries(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 5)
	cmd := data(r)
	cmd.ImageID, cmd.ImageType, cmd.RebuildCurrent = r.Emulator.State().Desktops[0].Metadata["metering.image_id"], "gold", true
	operators := &safety.Operators{Store: memstore.New()}
	options := r.Options()
	options.Safety = safety.New(safety.Options{Operators: operators})
	f := rebuild.New(r.API, r.EngineWith(options))
	r.Faults(emulator.Fault{Call: emulator.CallGetDesktop, Skip: 3, Times: 1, Do: emulator.Do{Status: 429}})
	waits := r.Process(f, r.Command(events.TypeRebuild, "c1", cmd))
	require.NoError(t, operators.SetFreeze(t.Context(), safety.Freeze{Reason: "storm"}))
	waits = r.Process(f, r.Later(waits.Delay)) // which reads nothing
	require.NoError(t, operators.Thaw(t.Context()))
	functiontest.OnlyData[events.JobAccepted](t, r.Process(f, r.Later(waits.Delay)))
	described, _ := r.Calls(emulator.CallGetDesktop)
	require.Equal(t, 5+1, described, "each once, and the one that was refused")
	require.Equal(t, 1, checks(r))
}

func TestASplitThatIsHeldBackGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1200)
	r.Faults(emulator.Fault{Call: emulator.CallCheckImages, Skip: 2, Times: 3, Do: emulator.Do{Status: 429}})
	parts := split(r)
	require.Equal(t, 3+3, checks(r), "each once, and those that were refused")
	begun(r, parts[11])
	require.Equal(t, 6, checks(r))
}

func TestPartsReadForThemselvesWhatCannotBeReadForAll(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 200)
	r.Faults(emulator.Fault{Call: emulator.CallCheckImages, Times: 1, Do: emulator.Do{Status: 400}})
	for _, part := range split(r) {
		require.Len(t, begun(r, part).Previous, 100)
	}
	require.Equal(t, 3, checks(r))
}
