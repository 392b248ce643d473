package watchjob_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/testkit/functiontest"
)

func TestProgressIsPublishedOnceAQuarter(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*functiontest.Rig) queue.Delivery{
		"rebuild": func(r *functiontest.Rig) queue.Delivery { return rebuilding(r, 0) }, "image": capturing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 3)
			d := begin(r)
			published := looks(r, d)
			notices, end := published[:len(published)-1], published[len(published)-1]
			require.Equal(t, events.TypeJobCompleted, end.Type)
			accepted, err := events.Decode(d.Headers, d.Body, events.Bare{})
			require.NoError(t, err)
			last := 0
			for _, e := range notices {
				p := functiontest.Data[events.JobProgress](t, e)
				require.Greater(t, p.Percent, last)
				require.Contains(t, []int{25, 50, 75}, p.Percent)
				require.Equal(t, r.Emulator.State().Jobs[0].ID, p.JobID)
				require.Equal(t, "c1", p.Command.ID)
				require.Equal(t, events.Derive(accepted.Identity(), "job.progress", strconv.Itoa(p.Percent)), e.ID)
				require.Empty(t, e.Causation, "it answers nothing")
				require.Equal(t, "chain", e.Correlation)
				last = p.Percent
			}
			require.Equal(t, 75, last)
			root := events.Root{ID: accepted.ID}
			require.NotEmpty(t, events.Open(root, notices))
		})
	}
}

func TestASecondWatcherPublishesNoProgressTwice(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	d := rebuilding(r, 0)
	next, seen := r.Process(function(r), d).Delay, map[string]int{}
	for range 200 {
		poll := r.Later(next)
		result := r.Process(function(r), poll)
		for _, e := range append(result.Events, r.Process(function(r), poll).Events...) { // the same message once more
			if e.Type == events.TypeJobProgress {
				seen[e.ID]++
			}
		}
		if result.Delay == nil {
			break
		}
		next = result.Delay
	}
	require.GreaterOrEqual(t, len(seen), 2)
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
}

func TestAJobIsFollowedWhereItsProgressCannotBeRecorded(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	d := rebuilding(r, 0)
	r.Ledger = endsOnly{r.Ledger}
	e := functiontest.Only(t, queue.Result{Events: looks(r, d)})
	require.Equal(t, events.Succeeded, functiontest.Data[events.JobCompleted](t, e).Outcome)
}

// endsOnly is a store that takes ends and nothing else.
type endsOnly struct{ ledger.Store }

func (f endsOnly) Put(ctx context.Context, key string, r ledger.Record, old store.Revision) (store.Revision, error) {
	if r.End == nil {
		return 0, errors.New("no space left")
	}
	return f.Store.Put(ctx, key, r, old)
}
