package functions_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
)

// functionOf is one of the functions that the constructor makes from the settings of a rig.
func functionOf(t *testing.T, r *functiontest.Rig, name string) queue.Function {
	t.Helper()
	for _, f := range functions.New(r.Config, r.API, r.Options()) {
		if f.Name == name {
			return f
		}
	}
	require.Fail(t, "there is no function "+name)
	return queue.Function{}
}

// Each setting of the Config changes what a function does.
func TestTheSettingsReachTheFunctions(t *testing.T) {
	t.Parallel()
	image := func(r *functiontest.Rig) (string, any) {
		return events.FnDesktopToImage, events.DesktopToImage{DesktopID: r.Desktops[0], ImageName: "golden", ExecuteSysprep: true}
	}
	rebuild := func(r *functiontest.Rig) (string, any) {
		id, typ := r.OtherImage()
		return events.FnRebuild, events.Rebuild{DesktopIDs: r.Desktops, ImageID: id, ImageType: typ, RebuildOptions: events.RebuildOptions{DelayTime: 3}}
	}
	refused := func(kind, part string) func(*testing.T, queue.Result) {
		return func(t *testing.T, result queue.Result) {
			t.Helper()
			failed := functiontest.OnlyData[events.CommandFailed](t, result)
			require.Equal(t, kind, failed.Error.Kind)
			require.Contains(t, failed.Error.ErrorMsg, part)
		}
	}
	watched := func(d time.Duration) func(*testing.T, queue.Result) {
		return func(t *testing.T, result queue.Result) {
			t.Helper()
			job := functiontest.OnlyData[events.JobAccepted](t, result)
			require.Equal(t, d, job.Deadline.Sub(job.AcceptedAt))
		}
	}
	waits := func(least, most time.Duration) func(*testing.T, queue.Result) {
		return func(t *testing.T, result queue.Result) {
			t.Helper()
			require.NotNil(t, result.Delay)
			require.GreaterOrEqual(t, result.Delay.After, least)
			require.Less(t, result.Delay.After, most)
		}
	}
	busy := emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Status: 429, ErrorCode: "APIGW.0308"}}
	for _, test := range []struct {
		name  string
		set   func(*config.Config)
		data  func(*functiontest.Rig) (string, any)
		fault *emulator.Fault
		old   time.Duration // age of the command
		check func(*testing.T, queue.Result)
	}{
		{"defaults of an image", func(*config.Config) {}, image, nil, 0, watched(2 * time.Hour)},
		{"defaults of a rebuild", func(*config.Config) {}, rebuild, nil, 0, watched(48 * time.Minute)},
		{"ImageDeadline", func(c *config.Config) { c.ImageDeadline = time.Hour }, image, nil, 0, watched(time.Hour)},
		{"RebuildDeadline", func(c *config.Config) { c.RebuildDeadline = 10 * time.Minute }, rebuild, nil, 0, watched(13 * time.Minute)},
		{"MaxDelayTime", func(c *config.Config) { c.MaxDelayTime = 2 }, rebuild, nil, 0, refused(events.KindInvalid, "at most 2 minutes")},
		{"CommandMaxAge", func(c *config.Config) { c.CommandMaxAge = time.Minute }, rebuild, nil, 2 * time.Minute, refused(events.KindExpired, "1m0s")},
		{"defaults of a wait", func(*config.Config) {}, rebuild, &busy, 0, waits(5*time.Second, time.Hour)},
		{"Pace", func(c *config.Config) { c.Pace = 60 }, rebuild, &busy, 0, waits(0, 5*time.Second)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			test.set(r.Config)
			if test.fault != nil {
				r.Faults(*test.fault)
			}
			name, data := test.data(r)
			command := r.Command(events.CommandType(name), "c1", data)
			r.Clock.Add(test.old)
			test.check(t, r.Process(functionOf(t, r, name), command))
		})
	}
}
