package once_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/workspace"
)

func TestOneCallAndTheSameEventsEachTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(accept)
	first, err := b.do(t, c)
	require.NoError(t, err)
	require.Len(t, first, 1)
	accepted := first[0].Data.(events.JobAccepted)
	require.Equal(t, "job-1", accepted.JobID)
	require.Equal(t, "image-1", accepted.ImageID, "what the function adds")
	r := b.record(t, c)
	require.Equal(t, once.Accepted, once.StateOf(r))
	require.Equal(t, "r-1", r.Detail.RequestID)
	require.Equal(t, r.SignedAt.Add(time.Hour), r.Detail.Deadline)
	require.Equal(t, b.clock.Now().Add(3*time.Second), r.SignedAt, "signed in the service's clock")

	b.clock.Add(24 * time.Hour)
	b.Owner = "w2"
	second, err := b.do(t, c)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.EqualValues(t, 1, b.sends.Load())
}

func TestTheIntentIsRecordedBeforeTheCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.do(t, b.call(func(ctx context.Context) error {
		r, _, err := b.store.Get(ctx, events.Identity("test", "c1"))
		require.NoError(t, err)
		require.Equal(t, once.Intent, once.StateOf(r))
		require.EqualValues(t, 1, r.Fence)
		require.Equal(t, b.clock.Now().Add(once.SendWithin+once.LeaseAfter), r.Lease)
		require.Equal(t, []string{"d-1"}, r.Detail.DesktopIDs)
		deadline, bounded := ctx.Deadline()
		require.True(t, bounded)
		require.LessOrEqual(t, time.Until(deadline), once.SendWithin)
		return nil
	}))
	require.NoError(t, err)
}

func TestOtherDataUnderTheSameIDIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.do(t, b.call(accept))
	require.NoError(t, err)
	c := b.call(accept)
	c.c.Data = "other data"
	_, err = b.do(t, c)
	failed, ok := queue.AsFailed(err)
	require.True(t, ok)
	require.Equal(t, events.KindIDReused, failed.Failure.Kind)
	require.Equal(t, []string{"d-1"}, failed.DesktopIDs)
	require.EqualValues(t, 1, b.sends.Load())
}

func TestARefusedCommandEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 {
		c := b.call(func(context.Context) error { return errRefused })
		_, err := b.do(t, c)
		require.NoError(t, err)
		require.Equal(t, events.KindRefused, failure(t, b.record(t, c)).Error.Kind)
	}
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWhatWasNotDoneIsFree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(func(context.Context) error { return errBusy })
	_, err := b.do(t, c)
	require.ErrorIs(t, err, errBusy)
	require.Equal(t, once.Free, once.StateOf(b.record(t, c)))

	_, err = b.do(t, b.call(accept))
	require.NoError(t, err)
	r := b.record(t, c)
	require.EqualValues(t, 2, r.Fence)
	require.Equal(t, "job-1", r.JobID)
}

func TestACallOfUnknownOutcomeIsNeverRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 3 {
		r, _ := b.follow(t, b.call(func(context.Context) error { return errLost }))
		require.Equal(t, events.KindUnknownOutcome, failure(t, r).Error.Kind)
		require.Equal(t, events.EffectUnknown, failure(t, r).Effect)
		b.clock.Add(time.Hour)
	}
	require.EqualValues(t, 1, b.sends.Load())
}

func TestTheCallOfADeadWorkerIsWaitedForAndThenUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// The worker dies between its intent and the record of the outcome: nothing of the call is recorded.
	b.store.put = func(n int) (bool, error) {
		if n == 1 {
			return true, nil
		}
		return false, errStore
	}
	dying, kill := context.WithCancel(t.Context())
	go func() {
		_, _ = b.engine().Do(dying, b.call(func(ctx context.Context) error { kill(); <-ctx.Done(); select {} }))
	}()
	<-dying.Done()
	b.store.put = nil

	var busy *queue.RetryError
	_, err := b.do(t, b.call(accept))
	require.ErrorAs(t, err, &busy)
	require.Equal(t, once.SendWithin+once.LeaseAfter, busy.After)

	b.clock.Add(busy.After)
	r, _ := b.follow(t, b.call(accept))
	require.Equal(t, events.KindUnknownOutcome, failure(t, r).Error.Kind)
	require.EqualValues(t, 1, b.sends.Load(), "the first call alone")
}

func TestAWorkerThatStoodStillDoesNotSend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Safety = slow(func() { b.clock.Add(once.SendWithin) })
	_, err := b.do(t, b.call(accept))
	require.ErrorContains(t, err, "was suspended before its call")
	require.Zero(t, b.sends.Load())
	b.Safety = nil
	_, err = b.do(t, b.call(accept))
	require.NoError(t, err)
	require.Equal(t, once.Accepted, once.StateOf(b.record(t, b.call(accept))))
}

// slow is a safety that stops nothing, and calls a function at each check.
func slow(do func()) *safety.Safety {
	return safety.New(safety.Options{Operators: &safety.Operators{Store: slowStore{memstore.New(), do}}})
}

type slowStore struct {
	store.Store
	do func()
}

func (s slowStore) GetAll(ctx context.Context, keys ...string) []store.Value {
	s.do()
	return s.Store.GetAll(ctx, keys...)
}

func (s slowStore) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	s.do()
	return s.Store.Get(ctx, key)
}

func TestAWriteThatMayNotGoEndsWithoutACall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Safety = denied()
	c := b.call(accept)
	for range 2 {
		_, err := b.do(t, c)
		require.NoError(t, err)
		require.Equal(t, events.KindNotAllowed, failure(t, b.record(t, c)).Error.Kind)
	}
	require.Zero(t, b.sends.Load())
}

// denied is a safety that allows no desktop.
func denied() *safety.Safety {
	o := &safety.Operators{Store: memstore.New()}
	if _, err := o.SetList(context.Background(), safety.AllowList, nil, "ops"); err != nil {
		panic(err)
	}
	return safety.New(safety.Options{Operators: o})
}

func TestWithNothingToCallTheEndIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(accept)
	c.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
		return ledger.Detail{}, &queue.Outcome{Type: events.TypeJobCompleted, About: []string{"job.completed"}, Data: "nothing"}, nil
	}
	outcomes, err := b.do(t, c)
	require.NoError(t, err)
	require.Len(t, outcomes, 1)
	require.Equal(t, events.TypeJobCompleted, b.record(t, c).End.Type)
	require.Zero(t, b.sends.Load())
}

func TestAFailedPreparationLeavesNoTrace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(accept)
	c.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) { return ledger.Detail{}, nil, errBusy }
	_, err := b.do(t, c)
	require.ErrorIs(t, err, errBusy)
	_, _, err = b.store.Get(t.Context(), c.c.Identity())
	require.ErrorIs(t, err, store.ErrNotFound)
}

// Every put may fail, stored or not stored. In each case the call is made at most once, and the ledger ends with what
// really happened.
func TestAFailingStore(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		for failing := 1; failing <= 3; failing++ {
			b, log := setup(t), &bytes.Buffer{}
			b.Log = slog.New(slog.NewTextHandler(log, nil))
			b.store.put = func(n int) (bool, error) {
				if n == failing {
					return stored, errStore
				}
				return false, nil
			}
			_, err := b.do(t, b.call(accept))
			if failing == 1 && !stored {
				require.ErrorIs(t, err, errStore, "no intent, no call")
				require.Zero(t, b.sends.Load())
				require.Contains(t, log.String(), "a record of the ledger cannot be stored", "else nothing shows why it waits")
				_, err = b.do(t, b.call(accept))
			}
			require.NoError(t, err, "put %d fails, stored %v", failing, stored)
			require.EqualValues(t, 1, b.sends.Load())
			require.Equal(t, "job-1", b.record(t, b.call(accept)).JobID)
		}
	}
}

func TestTheOutcomeOfACallIsRecordedThoughTheWorkerStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, stop := context.WithCancel(t.Context())
	c := b.call(func(context.Context) error { stop(); return nil })
	_, err := b.engine().Do(ctx, c)
	require.NoError(t, err)
	require.Equal(t, "job-1", b.record(t, c).JobID)
}

func TestManyWorkersOneCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var accepted, busy atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			outcomes, err := b.do(t, b.call(accept))
			var wait *queue.RetryError
			switch {
			case errors.As(err, &wait):
				busy.Add(1)
			case err == nil && outcomes[0].Data.(events.JobAccepted).JobID == "job-1":
				accepted.Add(1)
			default:
				t.Errorf("outcomes %+v, error %v", outcomes, err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, b.sends.Load())
	require.EqualValues(t, 32, accepted.Load()+busy.Load())
	require.Positive(t, accepted.Load())
}

func TestTheFirstEndOfAJobStands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(accept)
	_, err := b.do(t, c)
	require.NoError(t, err)
	ends := make([]queue.Outcome, 16)
	var all sync.WaitGroup
	for i := range ends {
		all.Go(func() {
			end, err := b.engine().EndJob(t.Context(), c.c.Ref(), queue.Outcome{
				ID: string(rune('a' + i)), Type: events.TypeJobCompleted, Causation: once.AcceptedID(c.c.Identity()), Data: i,
			})
			if err != nil {
				t.Error(err)
			}
			ends[i] = end
		})
	}
	all.Wait()
	for _, e := range ends {
		require.Equal(t, ends[0], e)
	}
	end, err := b.engine().EndOf(t.Context(), events.JobAccepted{Command: c.c.Ref(), JobID: "job-1"}, "")
	require.NoError(t, err)
	require.Equal(t, ends[0], *end)
	outcomes, err := b.do(t, c)
	require.NoError(t, err)
	require.Len(t, outcomes, 2, "a second delivery publishes the job and its end")
	require.Equal(t, ends[0], outcomes[1])
	require.Equal(t, "job-1", outcomes[0].Data.(events.JobAccepted).JobID)
}

func TestARefusalThatMayPass(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begin := b.clock.Now()
	c := b.call(func(context.Context) error {
		if b.clock.Now().Sub(begin) < time.Minute {
			require.Contains(t, []time.Time{{}, begin}, since(t, b), "the first refusal counts")
			return errConflict
		}
		return nil
	})
	r, waits := b.follow(t, c)
	require.Equal(t, "job-1", r.JobID)
	require.Equal(t, []time.Duration{2 * time.Minute}, waits, "longer than the claim of a killed worker")

	b = setup(t)
	b.Config.ConflictDeadline = 5 * time.Minute
	r, _ = b.follow(t, b.call(func(context.Context) error { return errConflict }))
	require.Equal(t, events.KindConflict, failure(t, r).Error.Kind)
	require.EqualValues(t, 3, b.sends.Load())
}

func since(t *testing.T, b *bench) time.Time {
	if r := b.record(t, b.call(accept)); r.Refused != nil {
		return r.Refused.Since
	}
	return time.Time{}
}

func TestARefusedBatchIsDivided(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(func(context.Context) error { return errConflict })
	c.c.DesktopIDs = []string{"d-1", "d-2"}
	c.prepare = batch(c)
	var repeated []bool
	c.divide = func(r bool) (*queue.Outcome, error) {
		if repeated = append(repeated, r); len(repeated) < 2 {
			return nil, nil
		}
		return once.Split(c, [][]string{{"d-2"}, {"d-1"}}), nil
	}
	b.follow(t, c)
	require.Equal(t, []bool{false, true}, repeated)
	outcomes, err := b.do(t, c)
	require.NoError(t, err)
	require.Len(t, outcomes, 3, "the split and the commands of its parts")
	require.Equal(t, events.TypeCommandSplit, outcomes[0].Type)
	require.Equal(t, queue.Outcome{
		To: events.FnRebuild, Type: events.TypeRebuild, ID: events.PartID(c.c.Identity(), 0), Time: c.c.Envelope.Time, Data: []string{"d-2"},
	}, outcomes[1])
	require.EqualValues(t, 2, b.sends.Load())
}

// A job that the desktops had before the call is not that of the call, whatever the service answers.
func TestAnAnswerWithAJobOfBeforeIsNoAcceptance(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(accept)
	c.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
		return ledger.Detail{DesktopIDs: []string{"d-1"}, Known: []string{"job-0", "job-1"}}, nil, nil
	}
	r, _ := b.follow(t, c)
	require.Equal(t, events.KindUnknownOutcome, failure(t, r).Error.Kind)
	require.EqualValues(t, 1, b.sends.Load())
}

// The service that accepted the signature has a clock near its date: a Date far from it is that of another machine.
func TestADateFarFromTheSignatureIsNoTimeOfAcceptance(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-20 * time.Minute, -10 * time.Minute, 0, 10 * time.Minute, 1000 * time.Hour} {
		b := setup(t)
		c := b.call(accept)
		c.send = func(_ context.Context, signedAt time.Time) (workspace.Accepted, error) {
			return workspace.Accepted{JobID: "job-1", Date: signedAt.Add(off)}, nil
		}
		_, err := b.do(t, c)
		require.NoError(t, err)
		r := b.record(t, c)
		want := r.SignedAt
		if off.Abs() < 15*time.Minute {
			want = want.Add(off)
		}
		require.Equal(t, want, r.Accepted)
		require.Equal(t, want.Add(time.Hour), r.Detail.Deadline)
	}
}
