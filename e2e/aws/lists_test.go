//go:build e2e

package aws_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
)

func desktops(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-0000-4000-8000-%016x", prefix, i)
	}
	return ids
}

// refusedBy returns the desktops of a write that the lists do not allow.
func refusedBy(t *testing.T, url string, desktops ...string) ([]string, error) {
	t.Helper()
	return refused(t, operators(t, url), desktops...)
}

func refused(t *testing.T, o *safety.Operators, desktops ...string) ([]string, error) {
	t.Helper()
	err := safety.New(safety.Options{Operators: o}).Check(t.Context(), desktops)
	if refused, ok := errors.AsType[*safety.NotAllowed](err); ok {
		return refused.Desktops, nil
	}
	return nil, err
}

func operators(t *testing.T, url string) *safety.Operators {
	t.Helper()
	return &safety.Operators{Store: openLedger(t, url).Values(), Older: true}
}

// TestListsOnAnIndependentDynamoDB stores 50,000 desktops, and reads while they are replaced.
func TestListsOnAnIndependentDynamoDB(t *testing.T) {
	t.Parallel()
	p := startPlace(t)
	o := operators(t, p.srv.url)
	old, now := desktops("aaaaaaaa", 50_000), desktops("bbbbbbbb", 50_000)
	set := func(name safety.ListName, ids ...string) safety.Change {
		t.Helper()
		c, err := o.SetList(t.Context(), name, ids, "ada@host")
		require.NoError(t, err)
		require.Zero(t, c.Left)
		return c
	}
	set(safety.AllowList, old...)
	wanted := []string{old[0], now[0], old[49_999], now[49_999]}
	not, err := refused(t, o, wanted...)
	require.NoError(t, err)
	require.Equal(t, []string{now[0], now[49_999]}, not)

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
				not, err := refusedBy(t, p.srv.url, wanted...)
				if err != nil || len(not) != 2 || not[0][:4] != not[1][:4] {
					t.Errorf("%v, %v", not, err)
				}
			}
		})
	}
	for i := range 4 {
		set(safety.AllowList, [][]string{now, old}[i%2]...)
	}
	close(done)
	reading.Wait()

	c := set(safety.DenyList, "B")
	require.Equal(t, 1, c.Now.Count)
	freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: c.Now.At}
	require.NoError(t, o.SetFreeze(t.Context(), freeze))
	p.Restart(t)
	o = operators(t, p.srv.url)
	f, err := o.Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, &freeze, f)
	require.NoError(t, o.Thaw(t.Context()))
	not, err = refused(t, o, "b", old[7])
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, not)
	l, ids, err := o.ListIDs(t.Context(), safety.AllowList)
	require.NoError(t, err)
	require.Equal(t, 50_000, l.Count)
	require.Equal(t, strings.Join(old, "\n"), strings.Join(ids, "\n"))
	for _, name := range []safety.ListName{safety.AllowList, safety.DenyList} {
		_, err := o.ClearList(t.Context(), name)
		require.NoError(t, err)
		l, _, err := o.ListIDs(t.Context(), name)
		require.NoError(t, err)
		require.Nil(t, l)
	}
}

// TestListsOfEarlierVersionsAreMoved starts with the lists under the keys of earlier versions.
func TestListsOfEarlierVersionsAreMoved(t *testing.T) {
	t.Parallel()
	p := startPlace(t)
	s := openLedger(t, p.srv.url).Values()
	for name, id := range map[string]string{"allow": "a", "deny": "d"} {
		page := fmt.Sprintf("[%q]", id)
		sum := sha256.Sum256([]byte(page))
		header := fmt.Sprintf(`{"generation":"G","pages":1,"count":1,"digest":"%x","by":"ada@host"}`, sum)
		for key, value := range map[string]string{name: header, name + "/G/0": page} {
			_, err := s.Put(t.Context(), key, []byte(value), 0)
			require.NoError(t, err)
		}
	}
	o := operators(t, p.srv.url)
	not, err := refused(t, o, "a", "b", "d")
	require.NoError(t, err)
	require.Equal(t, []string{"b", "d"}, not)
	_, err = o.SetList(t.Context(), safety.AllowList, []string{"b", "d"}, "ada@host")
	require.NoError(t, err)
	not, err = refusedBy(t, p.srv.url, "a", "b", "d")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "d"}, not)
	db := database(p.srv.url)
	items, err := db.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(table)})
	require.NoError(t, err)
	require.Len(t, items.Items, 5, "the item, two pages and the two headers of earlier versions")
}
