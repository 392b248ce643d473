package once

import (
	"context"
	"strings"
	"sync"
	"time"

	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// Shared makes one call for several callers of Get. Each Get waits for the next call to begin, and never for one that began
// before it: the answer shows the service as it is after Get was called.
type Shared[Q comparable, A any] struct {
	call    func(ctx context.Context, q Q) (A, error)
	gap     func(A) time.Duration // between the beginnings of two calls, after this answer; nil: none
	mu      sync.Mutex
	next    map[Q]*sharedCall[A] // that have not begun
	running map[Q]bool
}

type sharedCall[A any] struct {
	done   chan struct{}
	answer A
	err    error
}

// NewShared shares a call, of which at most one for each q runs at a time.
func NewShared[Q comparable, A any](call func(ctx context.Context, q Q) (A, error)) *Shared[Q, A] {
	return &Shared[Q, A]{call: call, next: map[Q]*sharedCall[A]{}, running: map[Q]bool{}}
}

// Get returns the answer of the next call. It is shared and must not be changed. If ctx ends first, the error is a
// [workspace.Error] of class NotSent, and the call goes on for the others.
func (s *Shared[Q, A]) Get(ctx context.Context, q Q) (A, error) {
	s.mu.Lock()
	c := s.next[q]
	if c == nil {
		c = &sharedCall[A]{done: make(chan struct{})}
		s.next[q] = c
	}
	if !s.running[q] {
		s.running[q] = true
		go s.run(context.WithoutCancel(ctx), q)
	}
	s.mu.Unlock()
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		var none A
		return none, &workspace.Error{Operation: "shared call", Class: workspace.NotSent, Err: ctx.Err()}
	}
}

// run makes one call after the other, as long as a caller waits for the next.
func (s *Shared[Q, A]) run(ctx context.Context, q Q) {
	for {
		s.mu.Lock()
		c := s.next[q]
		delete(s.next, q)
		if c == nil {
			delete(s.running, q)
		}
		s.mu.Unlock()
		if c == nil {
			return
		}
		begun := time.Now()
		c.answer, c.err = queue.Guarded(func() (A, error) { return s.call(ctx, q) })
		close(c.done)
		if s.gap == nil {
			continue
		}
		if left := s.gap(c.answer) - time.Since(begun); left > 0 {
			<-time.After(left) // others join the next call meanwhile
		}
	}
}

// Lists are the lists that commands of several kinds read.
type Lists interface {
	Jobs
	ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error)
}

// SharedLists are Lists of which several commands read one at a time.
type SharedLists struct {
	jobs   *Shared[jobsQuery, workspace.SubJobs]
	images *Shared[workspace.ImagesQuery, workspace.Images]
}

// jobsQuery is what commands that share a list of jobs ask for.
type jobsQuery struct {
	jobType, statuses string // by line
	sure              bool
}

// listGap is the time from the beginning of a list of jobs that has several pages to that of the next: commands that come
// meanwhile join it. It is short enough for a worker to make all the writes that the service allows, with as many commands
// at a time as this one may handle.
func (e *Engine) listGap() time.Duration {
	const each, most = 500 * time.Millisecond, 10 * time.Second
	return e.Paced(min(time.Duration(e.Config.Concurrency)*each, most))
}

// onePage is how many jobs are listed by one call.
const onePage = 1000

// ShareLists shares the lists of images, and those of all jobs of a type, which are at least the listGap apart if they are
// long. What is in a list is shared, too.
func (e *Engine) ShareLists(api Lists) SharedLists {
	jobs := NewShared(func(ctx context.Context, of jobsQuery) (workspace.SubJobs, error) {
		q := workspace.SubJobsQuery{JobType: of.jobType, Brief: true, Sure: of.sure}
		if of.statuses != "" {
			q.Status = strings.Split(of.statuses, "\n")
		}
		return api.ListSubJobs(ctx, q)
	})
	jobs.gap = func(list workspace.SubJobs) time.Duration {
		if len(list.Jobs) < onePage {
			return 0
		}
		return e.listGap()
	}
	return SharedLists{jobs, NewShared(api.ListImages)}
}

// ListSubJobs joins the next list of the jobs of a type; the query has no more than a type, statuses and whether to be sure.
func (s SharedLists) ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	return s.jobs.Get(ctx, jobsQuery{q.JobType, strings.Join(q.Status, "\n"), q.Sure})
}

// ListImages joins the next list.
func (s SharedLists) ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error) {
	return s.images.Get(ctx, q)
}
