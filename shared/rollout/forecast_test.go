package rollout

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func forecastOf(tb testing.TB, n int) {
	spec := Defaults()
	spec.Name, spec.Strategy.MaxUnavailable = "r", 2000
	in := PlanInput{Spec: spec, Image: TargetImage{ID: "new", Type: "private"}, Images: map[string]bool{"old": true, "new": true}}
	in.Spec.Targets.Where = &Where{Status: "ACTIVE"}
	for i := range n {
		in.Fleet = append(in.Fleet, Desktop{ID: fmt.Sprintf("d-%06d", i), Status: "ACTIVE", Login: "REGISTERED", Image: "old", ImageType: "private", OSType: "Windows"})
	}
	plan := MakePlan(in)
	require.Len(tb, plan.Slots, n)
	h := Head{Name: "r", Spec: spec, Plan: 1, Waves: plan.Waves, Image: in.Image, Tick: &Tick{At: t0.Add(time.Second), Seq: 7}, PlanOnly: true}
	for i := range h.Waves {
		h.Waves[i].Next = h.Waves[i].From
	}
	f, err := Forecast(h, plan.Slots, t0, 1, 0)
	require.NoError(tb, err)
	require.LessOrEqual(tb, f.MaxUnavailable, 2000)
	require.Greater(tb, f.MaxUnavailable, 1000)
	require.Less(tb, f.End.Sub(t0), 24*time.Hour)
	require.Greater(tb, f.Calls, n/100*5)
}

func TestTheForecastOfTenThousandDesktops(t *testing.T) {
	t.Parallel()
	forecastOf(t, 10_000)
}

// On a fast emulator the waits are short, and so must be the answers of the model: else they never come in time.
func TestTheForecastOnAFastEmulatorEnds(t *testing.T) {
	t.Parallel()
	spec := Defaults()
	spec.Name, spec.Strategy.Soak = "r", Duration(100*time.Millisecond)
	in := PlanInput{Spec: spec, Image: TargetImage{ID: "new", Type: "private"}}
	in.Spec.Targets.Where = &Where{Status: "ACTIVE"}
	for i := range 30 {
		in.Fleet = append(in.Fleet, Desktop{ID: fmt.Sprintf("d-%02d", i), Status: "ACTIVE", Login: "REGISTERED", Image: "old", OSType: "Windows"})
	}
	plan := MakePlan(in)
	h := Head{Name: "r", Spec: spec, Plan: 1, Waves: plan.Waves, Image: in.Image}
	for _, pace := range []float64{1, 100, 400, 10_000} {
		f, err := Forecast(h, plan.Slots, t0, pace, 0)
		require.NoError(t, err, pace)
		require.Equal(t, 15, f.MaxUnavailable, "the last wave, at pace %v", pace)
		require.Less(t, f.Calls, 200)
	}
}

func BenchmarkForecast10000(b *testing.B) {
	for b.Loop() {
		forecastOf(b, 10_000)
	}
}

func TestTheForecastKnowsDesktopsWithDataVolumes(t *testing.T) {
	t.Parallel()
	s, f := newSim(t, 10)
	f.data = []events.RowVolume{{ID: "v", Size: 10}}
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
	for s.head == nil || s.head.Phase == Planning {
		_, err := s.next()
		require.NoError(t, err)
	}
	require.True(t, s.head.Forecast.End.After(t0.Add(45*time.Minute)), "it completes: %+v", s.head.Forecast)
}

// The days before the window cost no calls, and each opening counts once.
func TestTheForecastOfAWindow(t *testing.T) {
	t.Parallel()
	spec := Defaults()
	spec.Name, spec.Targets.Where = "r", &Where{Status: "ACTIVE"}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC) // a Thursday
	spec.Window = &Window{Days: []string{"sat"}, From: "20:00", To: "06:00", Timezone: "Europe/Berlin"}
	in := PlanInput{Spec: spec, Image: TargetImage{ID: "new", Type: "private"}}
	for i := range 60 {
		in.Fleet = append(in.Fleet, Desktop{ID: fmt.Sprintf("d-%02d", i), Status: "ACTIVE", Login: "REGISTERED", Image: "old", OSType: "Windows"})
	}
	plan := MakePlan(in)
	h := Head{Name: "r", Spec: spec, Plan: 1, Waves: plan.Waves, Image: in.Image}
	for _, pace := range []float64{1, 60} {
		f, err := Forecast(h, plan.Slots, now, pace, 0)
		require.NoError(t, err)
		require.Equal(t, "2026-11-28", f.End.Format(time.DateOnly))
		require.Equal(t, 1, f.Windows, "pace %v", pace)
		require.Less(t, f.Calls, 150, "pace %v", pace)
		require.Greater(t, f.Calls, 4*len(plan.Waves), "pace %v", pace)
	}
}
