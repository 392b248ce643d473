package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/ledger/memledger"
)

// clock is a wall clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// flaky is a store whose next puts go wrong as told.
type flaky struct {
	ledger.Store
	put func(n int) (stored bool, err error) // nil: as it should be
	n   atomic.Int64
}

func (f *flaky) Put(ctx context.Context, key string, r ledger.Record, old ledger.Revision) (ledger.Revision, error) {
	n := int(f.n.Add(1))
	if f.put == nil {
		return f.Store.Put(ctx, key, r, old)
	}
	stored, err := f.put(n)
	if err == nil {
		return f.Store.Put(ctx, key, r, old)
	}
	if stored {
		if _, put := f.Store.Put(ctx, key, r, old); put != nil {
			return 0, put
		}
	}
	return 0, err
}

var (
	errRefused = errors.New("refused")
	errLost    = errors.New("connection reset")
	errBusy    = errors.New("throttled")
	errStore   = errors.New("store timed out")
)

type bench struct {
	store *flaky
	clock *clock
	sends atomic.Int64
	w     ledger.Writer
}

func setup(t *testing.T) *bench {
	t.Helper()
	c := &clock{now: time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)}
	s := &flaky{Store: memledger.New()}
	return &bench{store: s, clock: c, w: ledger.Writer{
		Store: s, Owner: "w1", Now: c.Now, ServiceNow: func() time.Time { return c.Now().Add(3 * time.Second) },
	}}
}

func end(text string) *ledger.End {
	data, _ := json.Marshal(text)
	return &ledger.End{ID: "end-" + text, Type: "t", Data: data}
}

// call is a command whose call ends as send says.
func (b *bench) call(send func(ctx context.Context) error) ledger.Call {
	return ledger.Call{
		Key: "key", Digest: "d1",
		Prepare: func(context.Context) (json.RawMessage, *ledger.End, error) {
			return json.RawMessage(`"prepared"`), nil, nil
		},
		Check: func(context.Context) (*ledger.End, error) { return nil, nil },
		Send: func(ctx context.Context, signedAt time.Time, detail json.RawMessage) (ledger.Sent, error) {
			b.sends.Add(1)
			if err := send(ctx); err != nil {
				return ledger.Sent{}, err
			}
			return ledger.Sent{JobID: "job-1", At: signedAt, Detail: json.RawMessage(`"sent"`)}, nil
		},
		Judge: func(err error) ledger.Judgement {
			switch {
			case errors.Is(err, errRefused):
				return ledger.Judgement{End: end("refused")}
			case errors.Is(err, errBusy):
				return ledger.Judgement{}
			default:
				return ledger.Judgement{MayHaveExecuted: true}
			}
		},
		Unknown: func(error) ledger.End { return *end("unknown") },
	}
}

func ok(context.Context) error { return nil }

func TestWriterCallsOnceAndSaysTheSameAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, err := b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	require.Equal(t, ledger.Accepted, first.State())
	require.Equal(t, "job-1", first.JobID)
	require.JSONEq(t, `"sent"`, string(first.Detail))
	require.Equal(t, b.clock.Now().Add(3*time.Second), first.SignedAt, "signed in the service's clock")

	b.clock.Add(24 * time.Hour)
	other := b.w
	other.Owner = "w2"
	again, err := other.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	require.Equal(t, first.JobID, again.JobID)
	require.Equal(t, first.Accepted, again.Accepted)
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWriterRecordsTheIntentBeforeTheCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.w.Do(t.Context(), b.call(func(ctx context.Context) error {
		r, _, err := b.store.Get(ctx, "key")
		require.NoError(t, err)
		require.Equal(t, ledger.Intent, r.State())
		require.EqualValues(t, 1, r.Fence)
		require.Equal(t, b.clock.Now().Add(ledger.SendWithin+ledger.LeaseAfter), r.Lease)
		require.JSONEq(t, `"prepared"`, string(r.Detail))
		deadline, bounded := ctx.Deadline()
		require.True(t, bounded)
		require.LessOrEqual(t, time.Until(deadline), ledger.SendWithin)
		return nil
	}))
	require.NoError(t, err)
}

func TestWriterRefusesOtherDataUnderTheSameID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	c := b.call(ok)
	c.Digest = "d2"
	_, err = b.w.Do(t.Context(), c)
	var reused *ledger.ReusedError
	require.ErrorAs(t, err, &reused)
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWriterEndsARefusedCommand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 {
		r, err := b.w.Do(t.Context(), b.call(func(context.Context) error { return errRefused }))
		require.NoError(t, err)
		require.Equal(t, "end-refused", r.End.ID)
	}
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWriterReleasesWhatWasNotDone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.w.Do(t.Context(), b.call(func(context.Context) error { return errBusy }))
	require.ErrorIs(t, err, errBusy)
	r, _, err := b.store.Get(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, ledger.Free, r.State())

	r, err = b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	require.EqualValues(t, 2, r.Fence)
	require.Equal(t, "job-1", r.JobID)
}

func TestWriterNeverRepeatsACallOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 3 {
		r, err := b.w.Do(t.Context(), b.call(func(context.Context) error { return errLost }))
		require.NoError(t, err)
		require.Equal(t, "end-unknown", r.End.ID)
		b.clock.Add(time.Hour)
	}
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWriterOfADeadWorkerIsWaitedForAndThenUnknown(t *testing.T) {
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
		_, _ = b.w.Do(dying, b.call(func(ctx context.Context) error { kill(); <-ctx.Done(); select {} }))
	}()
	<-dying.Done()
	b.store.put = nil

	var busy *ledger.WaitError
	_, err := b.w.Do(t.Context(), b.call(ok))
	require.ErrorAs(t, err, &busy)
	require.Equal(t, ledger.SendWithin+ledger.LeaseAfter, busy.For)

	b.clock.Add(busy.For)
	r, err := b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	require.Equal(t, "end-unknown", r.End.ID)
	require.EqualValues(t, 1, b.sends.Load(), "the first call alone")
}

func TestWriterThatStoodStillDoesNotSend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(ok)
	c.Check = func(context.Context) (*ledger.End, error) {
		b.clock.Add(ledger.SendWithin)
		return nil, nil
	}
	_, err := b.w.Do(t.Context(), c)
	require.ErrorIs(t, err, ledger.ErrLate)
	require.Zero(t, b.sends.Load())
	r, err := b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	require.Equal(t, ledger.Accepted, r.State())
}

func TestWriterStoppedByItsCheckRecordsTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(ok)
	c.Check = func(context.Context) (*ledger.End, error) { return end("not allowed"), nil }
	for range 2 {
		r, err := b.w.Do(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, "end-not allowed", r.End.ID)
	}
	require.Zero(t, b.sends.Load())
}

func TestWriterWithNothingToCallRecordsTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(ok)
	c.Prepare = func(context.Context) (json.RawMessage, *ledger.End, error) { return nil, end("nothing"), nil }
	r, err := b.w.Do(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, "end-nothing", r.End.ID)
	require.Zero(t, b.sends.Load())
}

func TestWriterLeavesNoTraceOfAFailedPreparation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(ok)
	c.Prepare = func(context.Context) (json.RawMessage, *ledger.End, error) { return nil, nil, errBusy }
	_, err := b.w.Do(t.Context(), c)
	require.ErrorIs(t, err, errBusy)
	_, _, err = b.store.Get(t.Context(), "key")
	require.ErrorIs(t, err, ledger.ErrNotFound)
}

// Every put may fail with or without having been stored. Whatever happens, the call is made once at the most, and what
// the ledger says in the end is what happened.
func TestWriterWithAFailingStore(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		for failing := 1; failing <= 2; failing++ {
			b := setup(t)
			b.store.put = func(n int) (bool, error) {
				if n == failing {
					return stored, errStore
				}
				return false, nil
			}
			r, err := b.w.Do(t.Context(), b.call(ok))
			if failing == 1 && !stored {
				require.ErrorIs(t, err, errStore, "no intent, no call")
				require.Zero(t, b.sends.Load())
				r, err = b.w.Do(t.Context(), b.call(ok))
			}
			require.NoError(t, err, "put %d fails, stored %v", failing, stored)
			require.Equal(t, "job-1", r.JobID)
			require.EqualValues(t, 1, b.sends.Load())
			kept, _, err := b.store.Get(t.Context(), "key")
			require.NoError(t, err)
			require.Equal(t, "job-1", kept.JobID)
		}
	}
}

func TestWriterRecordsTheOutcomeOfACallThoughTheWorkerStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, stop := context.WithCancel(t.Context())
	r, err := b.w.Do(ctx, b.call(func(context.Context) error { stop(); return nil }))
	require.NoError(t, err)
	require.Equal(t, "job-1", r.JobID)
}

func TestManyWorkersOneCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var accepted, busy atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			r, err := b.w.Do(t.Context(), b.call(ok))
			var wait *ledger.WaitError
			switch {
			case errors.As(err, &wait):
				busy.Add(1)
			case err == nil && r.JobID == "job-1":
				accepted.Add(1)
			default:
				t.Errorf("record %+v, error %v", r, err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, b.sends.Load())
	require.EqualValues(t, 32, accepted.Load()+busy.Load())
	require.Positive(t, accepted.Load())
}

func TestTheFirstEndStands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	var all sync.WaitGroup
	ends := make([]ledger.End, 16)
	for i := range ends {
		all.Go(func() {
			e, err := b.w.End(t.Context(), "key", *end(string(rune('a' + i))))
			if err != nil {
				t.Error(err)
			}
			ends[i] = e
		})
	}
	all.Wait()
	for _, e := range ends {
		require.Equal(t, ends[0].ID, e.ID)
	}
	r, err := b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	require.Equal(t, ends[0].ID, r.End.ID, "a second delivery says it too")
	require.Equal(t, "job-1", r.JobID)
}
