package rollout

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestTheForecastRunsToTheEndAtAnyPaceAndWithDataVolumes(t *testing.T) {
	t.Parallel()
	spec := Defaults()
	spec.Name, spec.Strategy.MaxUnavailable, spec.Strategy.Canary, spec.Strategy.Soak = "r", 50, 0, Duration(time.Second)
	spec.Targets.Where = &Where{Status: "ACTIVE"}
	in := PlanInput{Spec: spec, Image: TargetImage{ID: "new", Type: "gold"}, Images: map[string]bool{"old": true, "new": true}}
	for i := range 100 {
		in.Fleet = append(in.Fleet, Desktop{
			ID: fmt.Sprintf("d-%03d", i), Status: "ACTIVE", Login: "REGISTERED", Image: "old", ImageType: "gold", OSType: "Windows", Data: "hash",
		})
	}
	plan := MakePlan(in)
	h := Head{Name: "r", Spec: spec, Plan: 1, Waves: plan.Waves, Image: in.Image}
	for i := range h.Waves {
		h.Waves[i].Next = h.Waves[i].From
	}
	for _, pace := range []float64{1, 15, 60, 200} {
		f, err := Forecast(h, plan.Slots, t0, pace, 0)
		require.NoError(t, err)
		rounds := time.Duration(len(plan.Waves)) * time.Duration(float64(defaultP50)/pace)
		require.GreaterOrEqual(t, f.End.Sub(t0), rounds, "pace %v: a job a wave", pace)
	}
}

func TestAnUnansweredCheckDoesNotKeepAMatchedBatchDue(t *testing.T) {
	t.Parallel()
	s := &step{name: "r", Facts: Facts{Now: t0, Pace: 1}, records: map[string]any{}, head: &Head{Name: "r", Waves: []Wave{{}}, Image: TargetImage{ID: "new"}}}
	b := &Batch{
		State: Verifying, Ends: t0.Add(10 * time.Minute), Probe: t0.Add(-time.Minute), Rows: []Row{{Slot: Slot{ID: "d-1"}, State: Sent, Rebuilt: true, Matched: true}},
		Look:  &Request{ID: "look", To: events.FnListDesktops, At: t0, RepublishAt: t0.Add(time.Minute)},
		Check: &Request{ID: "check", To: events.FnCheckImages, At: t0.Add(-2 * time.Minute), RepublishAt: t0.Add(-time.Second)},
	}
	s.verify(b)
	require.True(t, b.due().After(t0), "due at %s, now %s", b.due(), t0)
}
