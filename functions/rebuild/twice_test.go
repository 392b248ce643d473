package rebuild_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/functiontest"
)

// A gateway that loses its backend's answer sends the POST once more by itself: the first delivery was taken, and the
// answer to the second one is a refusal. Whatever it is, and whatever else the service hides for a while, each desktop
// is rebuilt once, and its command reports that job.
func TestARefusalThatAnEarlierDeliveryCaused(t *testing.T) {
	t.Parallel()
	twice := emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: "deliver-twice"}}
	coded := emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: "taken-200-error"}}
	unknown := coded
	unknown.Do.ErrorCode = "WKS.00010109"
	for name, faults := range map[string][]emulator.Fault{
		"409":                             {twice},
		"200 with the code of a busy one": {coded},
		"200 with another code":           {unknown},
		"409, check-images lags":          {{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: "deliver-twice,desktop-lag"}}},
		"409, the job is listed late":     {{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: "deliver-twice,sub-jobs-empty"}}},
		"409, the looks fail for a while": {twice, {Call: emulator.CallListSubJobs, Skip: 2, Times: 3, Do: emulator.Do{Status: 503}}},
		"409, its type is spelled oddly":  {twice, {Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "job-type-typo"}}},
	} {
		for _, current := range []bool{false, true} {
			for _, desktops := range []int{1, 6} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					r := functiontest.New(t, desktops)
					cmd := data(r)
					if current {
						cmd.ImageID, cmd.ImageType, cmd.RebuildCurrent = r.Emulator.State().Desktops[0].Metadata["metering.image_id"], "gold", true
					}
					r.Faults(faults...)
					_, ends := chain(t, r, function(r), r.Command(events.TypeRebuild, "c1", cmd))
					for _, id := range r.Desktops {
						require.Equal(t, "accepted", ends[id])
					}
					r.Clock.Add(time.Hour)
					times := map[string]int{}
					for _, job := range r.Emulator.State().Jobs {
						for _, sub := range job.SubJobs {
							times[sub.Entities.DesktopID]++
						}
					}
					for _, id := range r.Desktops {
						require.Equal(t, 1, times[id], "desktop %s", id)
					}
				})
			}
		}
	}
}
