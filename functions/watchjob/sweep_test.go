package watchjob_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/functions/watchjob"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

// listing counts lists, and changes what a sweep shows.
type listing struct {
	*workspace.Client
	sweeps, lists int
	change        func(workspace.SubJobs, error) (workspace.SubJobs, error)
	scarce        bool
}

func (l *listing) ReadsLeft() bool { return !l.scarce }

func (l *listing) ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	if q.JobID != "" {
		l.lists++
		return l.Client.ListSubJobs(ctx, q)
	}
	l.sweeps++
	list, err := l.Client.ListSubJobs(ctx, q)
	if l.change != nil {
		return l.change(list, err)
	}
	return list, err
}

// several starts so many rebuilds of two desktops each, and gives their job.accepted after their first delivery.
func several(r *functiontest.Rig, f queue.Function, jobs int) []queue.Delivery {
	r.TB.Helper()
	image, imageType := r.OtherImage()
	var looks []queue.Delivery
	for i := range jobs {
		cmd := events.Rebuild{DesktopIDs: r.Desktops[2*i : 2*i+2], ImageID: image, ImageType: imageType}
		e := functiontest.Only(r.TB, r.Process(rebuild.New(r.API, r.Engine()), r.Command(events.TypeRebuild, fmt.Sprint("c", i), cmd)))
		looks = append(looks, later(r, r.Process(f, r.Message(e))))
	}
	return looks
}

// later is a delayed message; the clock stays.
func later(r *functiontest.Rig, result queue.Result) queue.Delivery {
	r.TB.Helper()
	require.NotNil(r.TB, result.Delay)
	d := *result.Delay
	d.After = 0
	return r.Later(&d)
}

func TestOneSweepAnswersTheLooksAtManyJobs(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 60)
	api := &listing{Client: r.API}
	f := watchjob.New(api, r.Engine())
	looks := several(r, f, 30)
	for range 3 {
		r.Clock.Add(20 * time.Second)
		for i, d := range looks {
			looks[i] = later(r, r.Process(f, d))
		}
	}
	require.Equal(t, 1, api.lists, "the first look, which shows how the service spells the type of the job")
	require.Equal(t, 2, api.sweeps, "once it is known that they go on for minutes, a sweep is good for one")

	r.Clock.Add(8 * time.Minute)
	for i, d := range looks {
		require.NotNil(t, r.Process(f, d).Delay, "job %d goes on", i)
	}
	before := api.lists
	r.Clock.Add(2 * time.Minute)
	for _, d := range looks {
		done := functiontest.OnlyData[events.JobCompleted](t, r.Process(f, d))
		require.Equal(t, events.Succeeded, done.Outcome)
		require.Len(t, done.Desktops, 2)
	}
	require.Equal(t, 30, api.lists-before, "the end of each is read from its own list")
}

// Whatever a sweep shows, the end of a job and the results of its desktops are those of its own list.
func TestASweepDecidesNothing(t *testing.T) {
	t.Parallel()
	pending := func(desktop string) func(workspace.SubJobs, error) (workspace.SubJobs, error) {
		return func(list workspace.SubJobs, err error) (workspace.SubJobs, error) {
			for i := range list.Jobs {
				list.Jobs[i].Entities = &workspace.JobEntities{DesktopID: desktop}
			}
			return list, err
		}
	}
	for name, c := range map[string]struct {
		change func(workspace.SubJobs, error) (workspace.SubJobs, error)
		after  time.Duration
		own    bool // list of a job is read
	}{
		"as it is": {},
		"nothing": {func(workspace.SubJobs, error) (workspace.SubJobs, error) {
			return workspace.SubJobs{Complete: true}, nil
		}, 0, true},
		"rows of all states": {func(list workspace.SubJobs, err error) (workspace.SubJobs, error) {
			for i := range list.Jobs {
				list.Jobs[i].Status = "SUCCESS"
			}
			return list, err
		}, 0, true},
		"rows of desktops of others": {pending("d-x"), 0, true},
		"rows without a desktop":     {pending(""), 0, true},
		"rows in other letters": {func(list workspace.SubJobs, err error) (workspace.SubJobs, error) {
			for i := range list.Jobs {
				list.Jobs[i].Entities = &workspace.JobEntities{DesktopID: strings.ToUpper(list.Jobs[i].DesktopID())}
			}
			return list, err
		}, 0, false},
		"an incomplete list":          {func(l workspace.SubJobs, err error) (workspace.SubJobs, error) { l.Complete = false; return l, err }, 0, false},
		"rows of jobs past their end": {func(l workspace.SubJobs, err error) (workspace.SubJobs, error) { return l, err }, 11 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 20)
			api := &listing{Client: r.API}
			f := watchjob.New(api, r.Engine())
			looks := several(r, f, 10)
			r.Clock.Add(20 * time.Second)
			for i, d := range looks {
				looks[i] = later(r, r.Process(f, d))
			}
			before := api.lists
			r.Clock.Add(40*time.Second + c.after)
			api.change = c.change
			for _, d := range looks {
				result := r.Process(f, d)
				require.NoError(t, result.Retry)
				require.Equal(t, c.after == 0, result.Delay != nil)
			}
			if c.own {
				require.Equal(t, len(looks), api.lists-before)
			} else {
				require.Equal(t, before, api.lists)
			}
		})
	}
}

func TestAJobPastItsDeadlineIsReadFromItsOwnList(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 20)
	r.Config.RebuildDeadline = 30 * time.Second
	api := &listing{Client: r.API}
	f := watchjob.New(api, r.Engine())
	looks := several(r, f, 10)
	r.Clock.Add(20 * time.Second)
	for i, d := range looks {
		looks[i] = later(r, r.Process(f, d))
	}
	before := api.lists
	r.Clock.Add(10 * time.Second)
	for _, d := range looks {
		done := functiontest.OnlyData[events.JobCompleted](t, r.Process(f, d))
		require.Equal(t, events.TimedOut, done.Outcome)
	}
	require.Equal(t, len(looks), api.lists-before)
}

// lookedOnce returns ten jobs after their first look, which a sweep answered, and their next looks.
func lookedOnce(t *testing.T) (*functiontest.Rig, *listing, queue.Function, []queue.Delivery) {
	t.Helper()
	r := functiontest.New(t, 20)
	api := &listing{Client: r.API}
	f := watchjob.New(api, r.Engine())
	looks := several(r, f, 10)
	r.Clock.Add(20 * time.Second)
	for i, d := range looks {
		looks[i] = later(r, r.Process(f, d))
	}
	return r, api, f, looks
}

func TestASweepThatFailsIsFollowedByAnotherLook(t *testing.T) {
	t.Parallel()
	r, _, f, looks := lookedOnce(t)
	r.Clock.Add(40 * time.Second)
	r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Status: 503}})
	for i, d := range looks {
		looks[i] = later(r, r.Process(f, d))
	}
	r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Status: 401, ErrorCode: "APIGW.0301"}})
	require.Error(t, r.Process(f, looks[0]).Stop)
}

// The jobs before show how long one takes: the next looks come when it is likely to have ended.
func TestLooksComeWhenTheJobsBeforeHadEnded(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 4)
	f := function(r)
	first := several(r, f, 1)[0]
	functiontest.Only(t, r.Follow(f, first))
	r.Clock.Add(time.Minute)
	image, imageType := r.OtherImage()
	cmd := events.Rebuild{DesktopIDs: r.Desktops[2:], ImageID: image, ImageType: imageType}
	cmd.AllowOSChange = true
	e := functiontest.Only(t, r.Process(rebuild.New(r.API, r.Engine()), r.Command(events.TypeRebuild, "c9", cmd)))
	begun := r.Clock.Now()
	result := r.Process(f, r.Message(e))
	looks := 0
	for ; result.Delay != nil; looks++ {
		result = r.Process(f, r.Later(result.Delay))
	}
	functiontest.OnlyData[events.JobCompleted](t, result)
	require.Equal(t, 3, looks, "soon after its begin, after five minutes, and at its end")
	require.InDelta(t, 10*time.Minute, r.Clock.Now().Sub(begun), float64(10*time.Second))
}

// While reads are scarce, the looks that are unlikely to find an end wait; those at jobs that may have ended do not.
func TestLooksLeaveScarceReadsToWrites(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	api := &listing{Client: r.API, scarce: true}
	f := watchjob.New(api, r.Engine())
	look := several(r, f, 1)[0]
	r.Clock.Add(time.Minute)
	result := r.Process(f, look)
	require.Equal(t, 10*time.Second, result.Delay.After)
	require.Zero(t, api.lists)
	r.Clock.Add(time.Minute)
	look = later(r, r.Process(f, look))
	require.Equal(t, 1, api.lists, "it may have ended, for all that is known")
	r.Clock.Add(7 * time.Minute)
	require.Equal(t, 10*time.Second, r.Process(f, look).Delay.After)
	require.Equal(t, 1, api.lists, "by its progress it goes on")
	r.Clock.Add(2 * time.Minute)
	done := functiontest.OnlyData[events.JobCompleted](t, r.Process(f, look))
	require.Equal(t, events.Succeeded, done.Outcome)
}

// A fleet of more sub-jobs than the service lists: those that no sweep reaches are read by themselves, without more sweeps.
func TestJobsBeyondTheReachOfASweepCauseNoFurtherSweeps(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 40)
	api := &listing{Client: r.API}
	api.change = func(list workspace.SubJobs, err error) (workspace.SubJobs, error) {
		list.Jobs, list.Complete = list.Jobs[:min(len(list.Jobs), 20)], false
		return list, err
	}
	f := watchjob.New(api, r.Engine())
	looks := several(r, f, 20)
	r.Clock.Add(20 * time.Second)
	for _, d := range looks {
		require.NotNil(t, r.Process(f, d).Delay)
	}
	require.Equal(t, 1, api.sweeps)
	require.Equal(t, 10, api.lists, "of the ten oldest jobs")
}

func TestASweepOfTheFutureIsNotUsed(t *testing.T) {
	t.Parallel()
	r, api, f, looks := lookedOnce(t)
	require.Equal(t, 1, api.sweeps)
	r.Clock.Add(-time.Second) // the clock of this machine is corrected
	for _, d := range looks {
		require.NotNil(t, r.Process(f, d).Delay)
	}
	require.Equal(t, 2, api.sweeps)
}
