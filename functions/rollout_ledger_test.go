package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/rollout"
	"recompose/shared/rollout/fence"
	"recompose/shared/store"
)

// forgetful is a ledger that can lose its records.
type forgetful struct {
	ledger.Store
	lost bool
	fit  error // of Fit
}

func (f *forgetful) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	if f.lost {
		return ledger.Record{}, 0, fmt.Errorf("read %s: %w", key, store.ErrNotFound)
	}
	return f.Store.Get(ctx, key)
}

func (f *forgetful) Fit(ctx context.Context, epoch string) error {
	if f.lost {
		return &ledger.LostError{Reason: "it was emptied"}
	}
	if f.fit != nil {
		return f.fit
	}
	return f.Store.Fit(ctx, epoch)
}

func TestABatchWaitsWhileTheLedgerHasLostRecords(t *testing.T) {
	t.Parallel()
	l := &forgetful{}
	b := newBusWith(t, func(o *once.Options) { l.Store, o.Store = o.Store, l })
	b.startAll()
	b.run(events.TypeJobAccepted, 1)
	b.due = nil // no event comes
	l.lost = true
	b.Clock.Add(12 * time.Hour)
	tick := func(id string) queue.Result {
		result := b.Process(b.function(events.FnRollout), b.Command(rollout.TypeTick, id, rollout.TickData{Name: "r"}))
		require.NoError(t, result.Retry)
		require.Nil(t, result.Dead)
		return result
	}
	waits := tick("t1")
	require.NotNil(t, waits.Delay)
	require.Contains(t, waits.Delay.Reason, "it was emptied")
	require.Empty(t, waits.Next, "no new attempt begins")
	l.lost = false
	require.Nil(t, tick("t2").Delay)
}

// While it is not known whether the ledger is complete, a record that is not found may be lost: a step waits. A table that was
// never used, whose first use this function may not record, has lost none.
func TestNoRecordIsTakenForAbsentWhileTheLedgerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fit   error
		waits bool
	}{
		"lost":            {&ledger.LostError{Reason: "it was emptied"}, true},
		"no connection":   {errors.New("read epoch: connection refused"), true},
		"throttled":       {fmt.Errorf("read epoch: %w", context.DeadlineExceeded), true},
		"never used":      {fmt.Errorf("%w: AccessDeniedException", ledger.ErrNoEpoch), false},
		"it is as it was": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &forgetful{fit: test.fit}
			b := newBusWith(t, func(o *once.Options) { l.Store, o.Store = o.Store, l })
			b.startAll()
			result := b.Process(b.due[0].f, b.due[0].message())
			require.Equal(t, test.waits, result.Delay != nil)
			if test.waits {
				require.Contains(t, result.Delay.Reason, test.fit.Error())
				require.Empty(t, result.Events)
				require.Empty(t, result.Next)
			}
		})
	}
}

// The list of the rollouts that live is deleted, or replaced by an older one: the claims of one that runs hold, and it puts
// itself back. That a claim is void rests on a head: while the ledger may have lost it, the plan waits.
func TestClaimsHoldWithoutTheListOfRolloutsThatLive(t *testing.T) {
	t.Parallel()
	for _, record := range []string{"", `{"names":["earlier"]}`} {
		l := &forgetful{}
		var records store.Store
		b := newBusWith(t, func(o *once.Options) { l.Store, o.Store, records = o.Store, l, o.Rollouts })
		live := func() (names []string) {
			var list rollout.Live
			if data, _, err := records.Get(t.Context(), rollout.LiveKey); err == nil {
				require.NoError(t, json.Unmarshal(data, &list))
			}
			return list.Names
		}
		b.startAll()
		b.run(events.TypeRolloutStarted, 1)
		_, rev, err := records.Get(t.Context(), rollout.LiveKey)
		require.NoError(t, err)
		if record == "" {
			require.NoError(t, records.Delete(t.Context(), rollout.LiveKey, rev))
		} else {
			_, err = records.Put(t.Context(), rollout.LiveKey, []byte(record), rev)
			require.NoError(t, err)
		}
		b.due = nil // only the second rollout goes on
		b.startNamed("second")
		rejected := b.run(events.TypeRolloutRejected, 1)
		require.Equal(t, "second", rejected.Name)
		require.Contains(t, rejected.Reason, "rollout r holds 3 of the desktops")
		require.NotContains(t, live(), "r")
		result := b.Process(b.function(events.FnRollout), b.Command(rollout.TypeTick, "t", rollout.TickData{Name: "r"}))
		require.Nil(t, result.Delay)
		require.Contains(t, live(), "r")

		_, rev, err = records.Get(t.Context(), rollout.HeadKey("r"))
		require.NoError(t, err)
		require.NoError(t, records.Delete(t.Context(), rollout.HeadKey("r"), rev))
		_, rev, err = records.Get(t.Context(), rollout.LiveKey)
		require.NoError(t, err)
		require.NoError(t, records.Delete(t.Context(), rollout.LiveKey, rev))
		b.due = nil
		b.startNamed("third")
		waits := queue.Result{}
		for n := 0; waits.Delay == nil; n++ {
			require.Less(t, n, 50)
			next := b.due[0]
			b.due = b.due[1:]
			b.Clock.Add(max(next.at.Sub(b.Clock.Now()), 0))
			l.fit = nil
			if head, _, err := records.Get(t.Context(), rollout.HeadKey("third")); err == nil && len(head) > 0 {
				l.fit = errors.New("connection refused")
			}
			waits = b.Process(next.f, next.message())
			require.Nil(t, b.store(waits, events.TypeRolloutPlanned), "a plan over claims that may hold")
		}
		require.Contains(t, waits.Delay.Reason, rollout.HeadKey("r")+": the ledger: connection refused")
		l.fit = nil
		require.Equal(t, map[string]int{"pending": 3}, b.run(events.TypeRolloutPlanned, 1).Counts)
		claims, _, err := records.Get(t.Context(), rollout.ClaimKey(fence.ClaimPart(b.Desktops[0])))
		require.NoError(t, err)
		require.Contains(t, string(claims), "third")
	}
}
