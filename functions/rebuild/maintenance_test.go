package rebuild_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/functiontest"
)

// TestAMaintenancePageDoesNotLoseTheRebuildAfterACapture has the capture done when the gateway answers with pages for a
// while.
func TestAMaintenancePageDoesNotLoseTheRebuildAfterACapture(t *testing.T) {
	t.Parallel()
	for _, quirk := range []string{"redirect-302", "html-502", "empty-answer"} {
		t.Run(quirk, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			image, kind := r.OtherImage()
			data, err := json.Marshal(events.JobCompleted{
				Function: events.FnDesktopToImage, JobID: "j1", Outcome: events.Succeeded,
				Image: &events.Image{ImageID: image, ImageName: "golden", ImageType: kind},
				Then:  &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: r.Desktops}},
			})
			require.NoError(t, err)
			d := r.Message(events.Envelope{
				ID: "done", Source: "recompose/watchjob", Type: events.TypeJobCompleted, Time: r.Clock.Now(), Correlation: "chain", Data: data,
			})
			r.Faults(emulator.Fault{Call: emulator.CallCheckImages, Times: 4, Do: emulator.Do{Quirk: quirk}})
			e := functiontest.Only(t, r.Follow(function(r), d))
			require.Equal(t, events.TypeJobAccepted, e.Type, "%s", e.Data)
			_, accepted := r.Calls(emulator.CallRebuild)
			require.Equal(t, 1, accepted)
		})
	}
}
