package natsledger

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/embednats"
	"recompose/shared/ledger"
	"recompose/shared/store"
	"recompose/shared/testkit/natstest"
)

// opened is a ledger with its own server.
func opened(t *testing.T) *Store {
	t.Helper()
	nc := natstest.Start(t, embednats.Options{}).Conn
	s, err := New(t.Context(), nc, Options{})
	require.NoError(t, err)
	return s
}

// Puts continue during a comparison: what is stored after the bucket was read is not a loss.
func TestAComparisonDuringPutsFindsNoLoss(t *testing.T) {
	t.Parallel()
	s := opened(t)
	var puts sync.WaitGroup
	for worker := range 4 {
		puts.Go(func() {
			for n := range 200 {
				if _, err := s.Put(t.Context(), fmt.Sprint(worker, "-", n), ledger.Record{Digest: "d"}, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { puts.Wait(); close(done) }()
	for compared := 0; ; compared++ {
		reason, err := s.compare(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, reason)
		select {
		case <-done:
			require.Positive(t, compared)
			return
		default:
		}
	}
}

// A server that is no longer the leader and has an older state of the bucket proves no loss: the loss that was stored
// because of its answer is removed, and the next comparison succeeds.
func TestTheAnswerOfAFormerLeaderIsNotALoss(t *testing.T) {
	t.Parallel()
	s := opened(t)
	for _, key := range []string{"a", "b", "c"} {
		_, err := s.Put(t.Context(), key, ledger.Record{Digest: "d"}, 0)
		require.NoError(t, err)
	}
	state, err := s.look(t.Context())
	require.NoError(t, err)
	must := state.has
	older := state
	older.has.seq--
	_, err = s.keep(t.Context(), loss{Reason: "older", In: s.Epoch()}, older, must)
	require.ErrorContains(t, err, "a server answered with an older state of the bucket")
	_, _, err = s.values.Get(t.Context(), lossKey)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.Fit(t.Context(), ""))

	require.NoError(t, s.values.Delete(t.Context(), lossKey, 0))
	state, err = s.look(t.Context())
	require.NoError(t, err)
	must = bounds{state.has.seq + 5, state.has.records} // the expected content exceeds that of every server
	reason, err := s.keep(t.Context(), loss{Reason: "cut", In: s.Epoch()}, state, must)
	require.NoError(t, err)
	require.Equal(t, "cut", reason)
	require.ErrorIs(t, s.Fit(t.Context(), ""), ledger.ErrLost)
}
