// Package ledgertest has the tests that every ledger.Store passes.
package ledgertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/store"
)

// Stores is a place where records are kept, fresh for each test.
type Stores interface {
	// Open opens a store on that place. All of them share the records.
	Open(t *testing.T) ledger.Store
}

// Restarter is a place that can be stopped and restarted. Stores opened before are unusable afterwards.
type Restarter interface {
	Restart(t *testing.T)
}

// Run runs the suite. It calls start for a fresh place in each test; start registers its own cleanup.
func Run(t *testing.T, start func(t *testing.T) Stores) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Stores)
	}{
		{"a stored record is read back", roundTrip},
		{"a fresh place is empty", nothing},
		{"a record is created once", createOnce},
		{"a record is replaced only if it is unchanged since it was read", compareAndSet},
		{"of many claims one wins", oneWins},
		{"of many concurrent changes of one record none is lost", counting},
		{"records are independent", apart},
		{"a record of 400 KB is kept", big},
		{"a context that has ended ends the call", ended},
		{"records outlive a restart", restart},
		{"a writer calls once", writerOnce},
		{"other values do not change records", values},
		{"a value that is not a record is damaged, never absent", noRecord},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, start(t))
		})
	}
}

var key = events.Identity("ledgertest", "1")

func record() ledger.Record {
	at := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	return ledger.Record{
		Digest: "d", Fence: 3, Owner: "w1", Lease: at, SignedAt: at, Undated: true, JobID: "j1", Accepted: at, Detail: ledger.Detail{DesktopIDs: []string{"é"}},
		End: &ledger.End{ID: "e1", Source: "s", Type: "t", Causation: "c", Time: at, Data: json.RawMessage(`{"b":true}`)},
	}
}

func roundTrip(t *testing.T, ss Stores) {
	s := ss.Open(t)
	for _, k := range []string{key, "job/" + key} {
		rev, err := s.Put(t.Context(), k, record(), 0)
		require.NoError(t, err)
		require.NotZero(t, rev)
		got, at, err := ss.Open(t).Get(t.Context(), k)
		require.NoError(t, err)
		require.Equal(t, record(), got)
		require.Equal(t, rev, at)
	}
}

func nothing(t *testing.T, ss Stores) {
	_, rev, err := ss.Open(t).Get(t.Context(), key)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Zero(t, rev)
}

func createOnce(t *testing.T, ss Stores) {
	a, b := ss.Open(t), ss.Open(t)
	first, err := a.Put(t.Context(), key, ledger.Record{Owner: "a"}, 0)
	require.NoError(t, err)
	for _, s := range []ledger.Store{a, b} {
		_, err = s.Put(t.Context(), key, ledger.Record{Owner: "b"}, 0)
		require.ErrorIs(t, err, store.ErrConflict)
	}
	got, rev, err := b.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, "a", got.Owner)
	require.Equal(t, first, rev)
}

func compareAndSet(t *testing.T, ss Stores) {
	s := ss.Open(t)
	first, err := s.Put(t.Context(), key, ledger.Record{Fence: 1}, 0)
	require.NoError(t, err)
	second, err := s.Put(t.Context(), key, ledger.Record{Fence: 2}, first)
	require.NoError(t, err)
	require.Greater(t, second, first)
	_, err = s.Put(t.Context(), key, ledger.Record{Fence: 3}, first)
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = s.Put(t.Context(), events.Identity("ledgertest", "none"), ledger.Record{}, second)
	require.ErrorIs(t, err, store.ErrConflict, "a missing record has no revision")
	got, rev, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, uint64(2), got.Fence)
	require.Equal(t, second, rev)
}

func oneWins(t *testing.T, ss Stores) {
	const claims = 64
	stores := []ledger.Store{ss.Open(t), ss.Open(t), ss.Open(t), ss.Open(t)}
	old := store.Revision(0)
	for round := range 4 { // the first round creates the record, the others change it
		begin := make(chan struct{})
		won := make([]error, claims)
		revs := make([]store.Revision, claims)
		var all sync.WaitGroup
		for i := range claims {
			all.Go(func() {
				<-begin
				revs[i], won[i] = stores[i%len(stores)].Put(t.Context(), key, ledger.Record{Owner: fmt.Sprint(round, " ", i)}, old)
			})
		}
		close(begin)
		all.Wait()
		winner := -1
		for i, err := range won {
			if err == nil {
				require.Equal(t, -1, winner, "two claims won")
				winner = i
			} else {
				require.ErrorIs(t, err, store.ErrConflict)
			}
		}
		require.NotEqual(t, -1, winner, "no claim won")
		got, rev, err := stores[0].Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(round, " ", winner), got.Owner)
		require.Equal(t, revs[winner], rev)
		old = rev
	}
}

func counting(t *testing.T, ss Stores) {
	const workers, each = 8, 10
	var all sync.WaitGroup
	faults := make(chan error, workers)
	for range workers {
		s := ss.Open(t)
		all.Go(func() {
			for range each {
				if err := increase(t.Context(), s); err != nil {
					faults <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(faults)
	for err := range faults {
		require.NoError(t, err)
	}
	got, _, err := ss.Open(t).Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, uint64(workers*each), got.Fence)
}

func increase(ctx context.Context, s ledger.Store) error {
	for {
		r, rev, err := s.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		r.Fence++
		if _, err = s.Put(ctx, key, r, rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func apart(t *testing.T, ss Stores) {
	s := ss.Open(t)
	revs := map[string]store.Revision{}
	for i := range 10 {
		k := events.Identity("ledgertest", fmt.Sprint(i))
		rev, err := s.Put(t.Context(), k, ledger.Record{Owner: k}, 0)
		require.NoError(t, err)
		revs[k] = rev
	}
	for k, rev := range revs {
		got, at, err := s.Get(t.Context(), k)
		require.NoError(t, err)
		require.Equal(t, k, got.Owner)
		require.Equal(t, rev, at)
		_, err = s.Put(t.Context(), k, got, rev)
		require.NoError(t, err, "changes of other records are not a conflict")
	}
}

func big(t *testing.T, ss Stores) {
	s := ss.Open(t)
	r := record()
	r.Detail.RequestID = strings.Repeat("x", 400_000)
	rev, err := s.Put(t.Context(), key, r, 0)
	require.NoError(t, err)
	got, at, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, rev, at)
	require.Equal(t, r, got)
}

func ended(t *testing.T, ss Stores) {
	s := ss.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Get(ctx, key)
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Put(ctx, key, record(), 0)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, store.ErrConflict)
}

func restart(t *testing.T, ss Stores) {
	r, ok := ss.(Restarter)
	if !ok {
		return // this store keeps nothing beyond the process, as documented
	}
	rev, err := ss.Open(t).Put(t.Context(), key, record(), 0)
	require.NoError(t, err)
	r.Restart(t)
	s := ss.Open(t)
	got, at, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, record(), got)
	require.Equal(t, rev, at)
	_, err = s.Put(t.Context(), key, record(), 0)
	require.ErrorIs(t, err, store.ErrConflict)
}
