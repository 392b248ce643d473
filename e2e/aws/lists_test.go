//go:build e2e

package aws_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger/dynamoledger"
)

func desktops(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-0000-4000-8000-%016x", prefix, i)
	}
	return ids
}

// TestListsOnAnIndependentDynamoDB keeps 50,000 desktops, and reads while they are replaced.
func TestListsOnAnIndependentDynamoDB(t *testing.T) {
	t.Parallel()
	p := startPlace(t)
	s := openLedger(t, p.srv.url)
	old, now := desktops("aaaaaaaa", 50_000), desktops("bbbbbbbb", 50_000)
	set := func(name dynamoledger.ListName, ids ...string) dynamoledger.Change {
		t.Helper()
		c, err := s.SetList(t.Context(), name, ids, "ada@host")
		require.NoError(t, err)
		require.Zero(t, c.Left)
		return c
	}
	set(dynamoledger.Allow, old...)
	asked := []string{old[0], now[0], old[49_999], now[49_999]}
	refused, err := s.Refused(t.Context(), asked)
	require.NoError(t, err)
	require.Equal(t, []string{now[0], now[49_999]}, refused)

	done := make(chan struct{})
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				refused, err := openLedger(t, p.srv.url).Refused(t.Context(), asked)
				if err != nil || len(refused) != 2 || refused[0][:4] != refused[1][:4] {
					t.Errorf("%v, %v", refused, err)
				}
			}
		})
	}
	for i := range 4 {
		set(dynamoledger.Allow, [][]string{now, old}[i%2]...)
	}
	close(done)
	reading.Wait()

	c := set(dynamoledger.Deny, "B")
	require.Equal(t, 1, c.Now.Count)
	p.Restart(t)
	s = openLedger(t, p.srv.url)
	refused, err = s.Refused(t.Context(), []string{"b", old[7]})
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, refused)
	l, ids, err := s.ListIDs(t.Context(), dynamoledger.Allow)
	require.NoError(t, err)
	require.Equal(t, 50_000, l.Count)
	require.Equal(t, strings.Join(old, "\n"), strings.Join(ids, "\n"))
	for _, name := range []dynamoledger.ListName{dynamoledger.Allow, dynamoledger.Deny} {
		_, err := s.ClearList(t.Context(), name)
		require.NoError(t, err)
		l, err := s.List(t.Context(), name)
		require.NoError(t, err)
		require.Nil(t, l)
	}
}
