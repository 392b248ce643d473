package watchjob_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/watchjob"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

// fresh is the function of a worker that has just started. Its own clock, which is the rig's, is off from those of the
// service and of other workers.
func fresh(r *functiontest.Rig) queue.Function {
	r.TB.Helper()
	return watchjob.New(r.Client(), r.Engine())
}

var skews = []time.Duration{-50 * time.Minute, -20 * time.Minute, 20 * time.Minute, 3 * time.Hour}

func TestAGoodJobSucceedsWhateverTheClocksShow(t *testing.T) {
	t.Parallel()
	for _, ahead := range skews {
		t.Run(fmt.Sprint("service ahead by ", ahead), func(t *testing.T) {
			t.Parallel()
			r := functiontest.NewSkewed(t, 2, ahead)
			d := rebuilding(r, 0)
			begin := r.Clock.Now()
			var looks int
			for done := false; !done; looks++ {
				require.Less(t, looks, 30)
				result := r.Process(fresh(r), d) // each look by another worker, as on Lambda
				require.NoError(t, result.Retry)
				if done = result.Delay == nil; done {
					end := functiontest.OnlyData[events.JobCompleted](t, result)
					require.Equal(t, events.Succeeded, end.Outcome)
					break
				}
				require.LessOrEqual(t, result.Delay.After, 5*time.Minute, "no look for long")
				d = r.Later(result.Delay)
			}
			require.Less(t, r.Clock.Now().Sub(begin), 13*time.Minute, "a rebuild takes ten")
		})
	}
}

func TestLostAndTimedOutAreTheServicesTimes(t *testing.T) {
	t.Parallel()
	for _, ahead := range skews {
		t.Run(fmt.Sprint("service ahead by ", ahead), func(t *testing.T) {
			t.Parallel()
			for quirk, wanted := range map[string]struct {
				outcome string
				after   time.Duration
			}{"sub-jobs-empty": {events.Lost, 5 * time.Minute}, "html-502": {events.TimedOut, 45 * time.Minute}} {
				r := functiontest.NewSkewed(t, 2, ahead)
				d := rebuilding(r, 0)
				begin, before := r.Clock.Now(), len(r.Emulator.Requests(0, 0))
				r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: quirk}})
				done := functiontest.OnlyData[events.JobCompleted](t, r.Follow(fresh(r), d))
				require.Equal(t, wanted.outcome, done.Outcome)
				require.InDelta(t, wanted.after, r.Clock.Now().Sub(begin), float64(90*time.Second))
				require.Less(t, len(r.Emulator.Requests(0, 0))-before, 60)
			}
		})
	}
}

func TestAJobEndsThoughTheServiceNeverAnswers(t *testing.T) {
	t.Parallel()
	r := functiontest.NewSkewed(t, 1, -50*time.Minute)
	d := rebuilding(r, 0)
	begin := r.Clock.Now()
	r.Faults(emulator.Fault{Call: emulator.CallAny, Do: emulator.Do{Drop: emulator.DropBefore}})
	done := functiontest.OnlyData[events.JobCompleted](t, r.Follow(fresh(r), d))
	require.Equal(t, events.TimedOut, done.Outcome)
	require.InDelta(t, 45*time.Minute, r.Clock.Now().Sub(begin), float64(2*time.Minute), "the service's clock is not known, the time is")
}

// The number of looks is no measure of time: a job near its end is looked at every ten seconds. A worker that has just
// started looks at the job, and the service answers or not.
func TestManyLooksAreNoDeadline(t *testing.T) {
	t.Parallel()
	for _, fault := range []emulator.Do{{Quirk: "end-time-while-running"}, {Quirk: "html-502"}, {Drop: emulator.DropBefore}} {
		r := functiontest.New(t, 1)
		d := rebuilding(r, 0)
		r.Clock.Add(9 * time.Minute)
		r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: fault})
		d.Headers[queue.AttemptHeader] = []string{"60"}
		result := r.Process(fresh(r), d)
		require.NotNil(t, result.Delay, "the job runs, and its deadline is not over")
		require.Equal(t, 61, result.Delay.Attempt)
	}
}

// One answer with a wrong Date, such as that of a proxy, ends no job: the list of the job has a Date, too.
func TestAWrongDateIsNoDeadline(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	d := rebuilding(r, 0)
	d.Headers[queue.AttemptHeader] = []string{"3"}
	r.Clock.Add(2 * time.Minute)
	f := watchjob.New(&wrongDate{Client: r.API, ahead: time.Hour}, r.Engine())
	result := r.Process(f, d)
	require.Empty(t, result.Events, "the job runs, and its deadline is not over")
	require.NotNil(t, result.Delay)
}

// wrongDate is a client whose clock was set wrong by an answer, until the next answer.
type wrongDate struct {
	*workspace.Client
	ahead time.Duration
}

func (w *wrongDate) ServiceClock() (time.Time, bool) {
	now, known := w.Client.ServiceClock()
	return now.Add(w.ahead), known
}

func (w *wrongDate) ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	w.ahead = 0
	return w.Client.ListSubJobs(ctx, q)
}

func TestTheDelayOfAServiceThatIsAheadIsNotWaitedForTwice(t *testing.T) {
	t.Parallel()
	r := functiontest.NewSkewed(t, 1, 3*time.Hour)
	d := rebuilding(r, 4)
	require.LessOrEqual(t, r.Process(fresh(r), d).Delay.After, 4*time.Minute+10*time.Second)
}
