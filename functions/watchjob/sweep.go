package watchjob

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/workspace"
)

// A fleet has hundreds of jobs under way. One list of the sub-jobs that wait or run, a sweep, answers the looks at all
// jobs that are in it: they have not ended. Whether a job that is not in it has ended is decided by the list of that job
// alone, so that a sweep may miss rows, be cut at the service's last offset, or be some seconds old.

// How old a sweep may be that answers a look: most of the time that the job is expected to go on, within these.
const (
	freshest  = 5 * time.Second
	stalest   = 2 * time.Minute
	unknowing = 30 * time.Second // where it is not known how long the job goes on
)

// How many sub-jobs an answer of the service has at most, and how many answers a list.
const (
	rowsOnPage = 1000
	mostPages  = 11
)

// forgotten is how long after its next look a job is taken to be followed by another process.
const forgotten = 10 * time.Minute

// sweep is what a list of running sub-jobs showed.
type sweep struct {
	begun time.Time
	jobs  map[string][]underWay // by their job
}

// underWay is what is kept of a sub-job of a sweep.
type underWay struct {
	desktop, status string
	process         *int64
}

// follower knows the jobs that this process follows.
type follower struct {
	api    API
	engine *once.Engine                // records the end of a job before it is published
	sweeps *once.Shared[string, sweep] // by function

	mu     sync.Mutex
	jobs   map[string]following
	types  map[string][]string // the types of the jobs of a function, as the service spells them
	latest map[string]sweep
	took   map[string][]time.Duration // how long the last jobs of a function took
	whole  map[string]time.Duration   // how long a job of a function takes, by the progress that one showed last
}

// following is a job between two looks.
type following struct {
	function string
	desktops int
	next     time.Time // look
	ends     time.Time // as expected; zero: not known
}

func follow(api API, engine *once.Engine) *follower {
	f := &follower{
		api: api, engine: engine, jobs: map[string]following{}, types: map[string][]string{}, latest: map[string]sweep{},
		took: map[string][]time.Duration{}, whole: map[string]time.Duration{},
	}
	f.sweeps = once.NewShared(f.sweep)
	return f
}

// now is the wall time: the monotonic reading stands still while a machine, or a function on Lambda, is suspended.
func (f *follower) now() time.Time { return f.engine.Now().Round(0) }

// running returns the sub-jobs of a job that a sweep shows, and how old that is: the job had not ended then. It returns
// none if the job's own list must be read.
func (f *follower) running(ctx context.Context, job events.JobAccepted, ran time.Duration) (subs []workspace.SubJob, age time.Duration, err error) {
	s, worth := f.plan(job, f.now(), ran)
	if worth {
		s, err = f.sweeps.Get(ctx, job.Function)
	}
	return ofJob(s, job), f.now().Sub(s.begun), err
}

// plan gives the latest sweep, if it is young enough for a look at a job. Else it reports whether a sweep costs less than
// the lists of the jobs that are looked at about now.
func (f *follower) plan(job events.JobAccepted, now time.Time, ran time.Duration) (s sweep, worth bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.jobs[job.JobID]; !known { // so that those of a batch count each other
		f.jobs[job.JobID] = following{function: job.Function, desktops: len(job.DesktopIDs), next: now}
	}
	age, expected := f.engine.Paced(unknowing), false
	if ends := f.jobs[job.JobID].ends; !ends.IsZero() {
		age = min(max(ends.Sub(now)*3/4, f.engine.Paced(freshest)), f.engine.Paced(stalest))
		expected = !now.Before(ends)
	} else if left := f.whole[job.Function] - ran; left > 0 { // another worker has looked at it
		age = min(max(left*3/4, f.engine.Paced(freshest)), f.engine.Paced(stalest)/2)
	}
	if s = f.latest[job.Function]; !s.begun.Before(now.Add(-age)) && !s.begun.After(now) { // also one without the job
		return s, false
	}
	due, rows := 1, len(job.DesktopIDs)
	for id, other := range f.jobs {
		switch {
		case other.next.Before(now.Add(-f.engine.Paced(forgotten))):
			delete(f.jobs, id)
		case id != job.JobID && other.function == job.Function:
			rows += other.desktops
			if other.next.Before(now.Add(age)) && other.next.After(now.Add(-f.engine.Paced(longest))) {
				due++ // another worker looks at those that are long due
			}
		}
	}
	pages := min(rows/rowsOnPage+1, mostPages) * len(f.types[job.Function])
	return sweep{}, pages > 0 && due > pages && !expected // a job that is expected to have ended is in no sweep
}

// ofJob are the rows of a sweep that show that the job goes on: they are of its desktops, in any letter case.
func ofJob(s sweep, job events.JobAccepted) []workspace.SubJob {
	var rows []workspace.SubJob
	for _, row := range s.jobs[job.JobID] {
		if slices.ContainsFunc(job.DesktopIDs, func(id string) bool { return strings.EqualFold(id, row.desktop) }) {
			entities := workspace.JobEntities{DesktopID: row.desktop}
			rows = append(rows, workspace.SubJob{JobID: job.JobID, Status: row.status, Process: row.process, Entities: &entities})
		}
	}
	return rows
}

// sweep lists the sub-jobs under way of the types that the jobs of a function had. The filter is not relied on.
func (f *follower) sweep(ctx context.Context, function string) (sweep, error) {
	s := sweep{begun: f.now(), jobs: map[string][]underWay{}}
	f.mu.Lock()
	types := slices.Clone(f.types[function])
	f.mu.Unlock()
	for _, t := range types {
		list, err := f.api.ListSubJobs(ctx, workspace.SubJobsQuery{JobType: t, Status: []string{"WAITING", "RUNNING"}, Brief: true})
		if err != nil {
			return sweep{}, err
		}
		for _, row := range list.Jobs {
			if row.State() == workspace.Pending && row.JobID != "" {
				s.jobs[row.JobID] = append(s.jobs[row.JobID], underWay{row.DesktopID(), row.Status, row.Process})
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest[function] = s
	return s, nil
}

// learn records the types of the sub-jobs of a job.
func (f *follower) learn(function string, subs []workspace.SubJob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sub := range subs {
		if sub.JobType != "" && !slices.Contains(f.types[function], sub.JobType) {
			f.types[function] = append(f.types[function], sub.JobType)
		}
	}
}

// goesOn records the time of the next look at a job, and when the job is expected to end.
func (f *follower) goesOn(job events.JobAccepted, ran, wait, left time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	next := following{function: job.Function, desktops: len(job.DesktopIDs), next: now.Add(wait)}
	if left > 0 {
		next.ends = now.Add(left)
		f.whole[job.Function] = ran + left
	}
	f.jobs[job.JobID] = next
}

// expected is how long a job is expected to go on from now; zero or less: it is not known, or it may have ended.
func (f *follower) expected(job events.JobAccepted) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ends := f.jobs[job.JobID].ends; !ends.IsZero() {
		return ends.Sub(f.now())
	}
	return 0
}

// youngFor is how long a job of which nothing is known is not looked at while reads are scarce.
const youngFor = 2 * time.Minute

// canWait reports whether a look at a job that has run for so long is unlikely to find its end: while reads are scarce,
// they are left to writes.
func (f *follower) canWait(job events.JobAccepted, ran time.Duration) bool {
	return f.expected(job) > f.engine.Paced(firstWait) || ran < f.engine.Paced(youngFor)
}

// remembered is the number of jobs whose duration is kept.
const remembered = 32

// ended records how long a job took that has ended.
func (f *follower) ended(job events.JobAccepted, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.jobs, job.JobID)
	if took > 0 {
		f.took[job.Function] = append(f.took[job.Function], took)
		f.took[job.Function] = f.took[job.Function][max(0, len(f.took[job.Function])-remembered):]
	}
}

// leastProgress is from which percentage on the progress of a job shows how long it takes.
const leastProgress = 5

// left is how long a job that has run for so long is expected to go on: by its own sub-jobs under way, of which the
// slowest counts, and by the shortest of the jobs before. Zero: not known. exact reports that those all took as long.
func (f *follower) left(function string, ran time.Duration, subs []workspace.SubJob) (left time.Duration, exact bool) {
	if ran <= 0 {
		return 0, false
	}
	if slowest := slowest(subs); slowest >= leastProgress {
		left = time.Duration(float64(ran) * float64(100-slowest) / float64(slowest))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	took := f.took[function]
	if len(took) == 0 {
		return left, false
	}
	shortest, longest := slices.Min(took), slices.Max(took)
	switch byOthers := shortest - ran; {
	case byOthers > 0 && (left == 0 || byOthers < left):
		return byOthers, longest-shortest < shortest/20
	case left == 0 && ran < longest+shortest/4:
		return 1, false // any moment
	}
	return left, false
}

// slowest is the progress of the slowest sub-job under way, at most 99 percent; zero where one shows none, or there is
// none.
func slowest(subs []workspace.SubJob) int64 {
	slowest := int64(100)
	for _, sub := range subs {
		switch {
		case sub.State() != workspace.Pending:
		case sub.Process == nil:
			return 0
		default:
			slowest = min(slowest, *sub.Process, 99)
		}
	}
	return slowest % 100
}
