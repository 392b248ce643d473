package once_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// What a call shows is what was there when it began: a Get that came after that must not have its answer.
func TestASharedCallBeginsAfterItWasAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		s := once.NewShared(func(context.Context, string) (time.Time, error) {
			calls.Add(1)
			begun := time.Now()
			<-time.After(4 * time.Second)
			return begun, nil
		})
		for i := range 20 {
			go func() {
				<-time.After(time.Duration(i) * 1100 * time.Millisecond)
				asked := time.Now()
				begun, err := s.Get(t.Context(), "q")
				require.NoError(t, err)
				require.False(t, begun.Before(asked), "%v before it was asked for", asked.Sub(begun))
				require.Less(t, begun.Sub(asked), 4*time.Second, "it is the next one")
			}()
		}
		<-time.After(time.Minute)
		require.EqualValues(t, 7, calls.Load(), "at 0, 4, 8, … 24 s")
	})
}

func TestSharedCallsOfOtherQuestionsRunBesideEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := once.NewShared(func(_ context.Context, q string) (string, error) {
			<-time.After(time.Second)
			return q, nil
		})
		begun := time.Now()
		done := make(chan string)
		for _, q := range []string{"a", "b"} {
			go func() {
				answer, err := s.Get(t.Context(), q)
				require.NoError(t, err)
				done <- answer
			}()
		}
		require.ElementsMatch(t, []string{"a", "b"}, []string{<-done, <-done})
		require.Equal(t, time.Second, time.Since(begun))
	})
}

func TestASharedCallOutlivesTheOneThatBeganIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		s := once.NewShared(func(ctx context.Context, _ string) (int, error) {
			select {
			case <-time.After(2 * time.Second):
				return 7, failed
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Get(ctx, "q")
		require.Equal(t, workspace.NotSent, workspace.ClassOf(err), "it comes again")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Get(t.Context(), "q")
		require.ErrorIs(t, err, failed)
		synctest.Wait()
	})
}

func TestSharedListsKeepWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	var asked []workspace.SubJobsQuery
	shared := sharing(func(q workspace.SubJobsQuery) (workspace.SubJobs, error) {
		asked = append(asked, q)
		return workspace.SubJobs{Complete: true}, nil
	})
	queries := []workspace.SubJobsQuery{{JobType: "a"}, {JobType: "b", Status: []string{"WAITING", "RUNNING"}}}
	for _, q := range queries {
		list, err := shared.ListSubJobs(t.Context(), q)
		require.NoError(t, err)
		require.True(t, list.Complete)
	}
	for i := range queries {
		queries[i].Brief = true
	}
	require.Equal(t, queries, asked)
}

type listing func(workspace.SubJobsQuery) (workspace.SubJobs, error)

// sharing shares a list of jobs, 4 s apart where it is long.
func sharing(jobs listing) once.SharedLists {
	c := config.Default()
	c.Concurrency = 8
	return once.New(c, nil, once.Options{}).ShareLists(jobs)
}

func (l listing) ListSubJobs(_ context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	return l(q)
}

func (listing) ListImages(context.Context, workspace.ImagesQuery) (workspace.Images, error) {
	return workspace.Images{}, nil
}

func TestLongListsBeginSomeTimeApart(t *testing.T) {
	t.Parallel()
	for rows, want := range map[int][]time.Duration{
		999:  {0, 1500 * time.Millisecond, 3 * time.Second, 4500 * time.Millisecond},
		1000: {0, 4 * time.Second, 8 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var begun []time.Duration
			shared := sharing(func(workspace.SubJobsQuery) (workspace.SubJobs, error) {
				begun = append(begun, time.Since(start))
				<-time.After(time.Second)
				return workspace.SubJobs{Jobs: make([]workspace.SubJob, rows)}, nil
			})
			for i := range 4 {
				go func() {
					<-time.After(time.Duration(i) * 1500 * time.Millisecond)
					_, err := shared.ListSubJobs(t.Context(), workspace.SubJobsQuery{JobType: "a"})
					require.NoError(t, err)
				}()
			}
			<-time.After(time.Minute)
			require.Equal(t, want, begun)
		})
	}
}

// The call runs beside its callers, where no guard of theirs catches a panic: it must not end the worker.
func TestAPanicOfASharedCallIsTheErrorOfItsCallers(t *testing.T) {
	t.Parallel()
	calls := 0
	s := once.NewShared(func(context.Context, string) (int, error) {
		if calls++; calls == 1 {
			panic("odd answer")
		}
		return calls, nil
	})
	_, err := s.Get(t.Context(), "q")
	crash, ok := errors.AsType[*queue.PanicError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "odd answer", crash.Value)
	answer, err := s.Get(t.Context(), "q")
	require.NoError(t, err)
	require.Equal(t, 2, answer)
}
