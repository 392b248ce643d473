package dynamoledger_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger/dynamoledger"
)

// bench is two stores of one table, as two sandboxes have them.
type bench struct {
	*fake
	t    *testing.T
	a, b *dynamoledger.Store
}

func newBench(t *testing.T) *bench {
	f := startFake(t)
	at := dynamoledger.Options{Now: func() time.Time { return now }}
	return &bench{f, t, f.open(t, at), f.open(t, at)}
}

func (b *bench) set(name dynamoledger.ListName, ids ...string) dynamoledger.Change {
	b.t.Helper()
	c, err := b.a.SetList(b.t.Context(), name, ids, "ada@host")
	require.NoError(b.t, err)
	return c
}

// refused is what both stores refuse.
func (b *bench) refused(ids ...string) []string {
	b.t.Helper()
	refused, err := b.b.Refused(b.t.Context(), ids)
	require.NoError(b.t, err)
	other, err := b.a.Refused(b.t.Context(), ids)
	require.NoError(b.t, err)
	require.Equal(b.t, refused, other)
	return refused
}

// keys are those of all items.
func (b *bench) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for k := range b.items {
		keys = append(keys, k)
	}
	return keys
}

func desktops(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%08x-0000-4000-8000-%012x", i*7919, i)
	}
	return ids
}

func TestAListHoldsForTheVeryNextWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	require.Empty(t, b.refused("a", "b"), "no lists")
	require.Equal(t, []string{"GetItem", "GetItem", "GetItem", "GetItem"}, b.calls, "two reads, where nothing is set")

	c := b.set(dynamoledger.Deny, "b", "c", "b")
	require.Nil(t, c.Before)
	require.Equal(t, dynamoledger.List{Generation: c.Now.Generation, Pages: 1, Count: 2, Digest: c.Now.Digest, By: "ada@host", At: now}, *c.Now)
	require.Equal(t, []string{"b"}, b.refused("a", "b"))
	b.set(dynamoledger.Allow, "b", "a")
	require.Equal(t, []string{"d", "B", "b"}, b.refused("d", "B", "a", "b"), "denied in every letter case, allowed in one")
	second := b.set(dynamoledger.Deny, "a")
	require.Equal(t, c.Now, second.Before)
	require.Equal(t, []string{"a"}, b.refused("a", "b"))
	require.Len(t, b.keys(), 4, "two headers, two pages: what was replaced is gone")

	b.set(dynamoledger.Allow)
	require.Equal(t, []string{"a", "b"}, b.refused("a", "b"), "an empty allow list allows nothing")
	b.set(dynamoledger.Deny)
	cleared, err := b.b.ClearList(t.Context(), dynamoledger.Allow)
	require.NoError(t, err)
	require.Nil(t, cleared.Now)
	require.Equal(t, 0, cleared.Before.Count)
	require.Empty(t, b.refused("a", "b"), "an empty deny list denies nothing")
	_, err = b.b.ClearList(t.Context(), dynamoledger.Deny)
	require.NoError(t, err)
	require.Empty(t, b.keys())
	cleared, err = b.a.ClearList(t.Context(), dynamoledger.Deny)
	require.NoError(t, err)
	require.Equal(t, dynamoledger.Change{}, cleared, "cleared twice is cleared")
}

func TestAListOf50000Desktops(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ids := desktops(50_000)
	c := b.set(dynamoledger.Allow, ids...)
	require.Equal(t, 50_000, c.Now.Count)
	require.Greater(t, c.Now.Pages, 5)
	for key, item := range b.items {
		require.Less(t, len(key)+len(item["data"]["S"]), 390<<10)
		require.NotContains(t, item, "expires", "a list holds until it is cleared")
	}
	require.Equal(t, []string{"x"}, b.refused(ids[0], ids[49_999], "x", ids[25_000]))
	reads := len(b.calls)
	require.Empty(t, b.refused(ids[7]))
	require.Equal(t, reads+4, len(b.calls), "pages that were read are not read again while their header stands")
	l, all, err := b.b.ListIDs(t.Context(), dynamoledger.Allow)
	require.NoError(t, err)
	require.Equal(t, c.Now, l)
	require.ElementsMatch(t, ids, all)
	b.set(dynamoledger.Allow, ids[:3]...)
	require.Len(t, b.keys(), 2)
	require.Equal(t, []string{ids[3]}, b.refused(ids[2], ids[3]))
}

func TestAListThatCannotBeReadWholeIsAnErrorAndNeverNone(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(b *bench, l *dynamoledger.List){
		"a page is missing": func(b *bench, l *dynamoledger.List) {
			delete(b.items, "deny/"+l.Generation+"/1")
		},
		"a page has fewer ids": func(b *bench, l *dynamoledger.List) {
			b.items["deny/"+l.Generation+"/0"]["data"]["S"] = `["a"]`
		},
		"a page is something else": func(b *bench, l *dynamoledger.List) {
			b.items["deny/"+l.Generation+"/0"]["data"]["S"] = `{}`
		},
		"the header is empty":          func(b *bench, _ *dynamoledger.List) { b.items["deny"]["data"]["S"] = `{}` },
		"the header names fewer pages": func(b *bench, _ *dynamoledger.List) { b.change(func(l *dynamoledger.List) { l.Pages-- }) },
		"the header counts otherwise":  func(b *bench, _ *dynamoledger.List) { b.change(func(l *dynamoledger.List) { l.Count++ }) },
		"the header is something else": func(b *bench, _ *dynamoledger.List) { b.items["deny"] = item{"pk": {"S": "deny"}} },
		"there is no answer":           func(b *bench, _ *dynamoledger.List) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			c := b.set(dynamoledger.Deny, desktops(10_000)...)
			harm(b, c.Now)
			_, err := b.b.Refused(t.Context(), []string{"a"})
			require.ErrorContains(t, err, "list of desktops: ")
			_, _, err = b.b.ListIDs(t.Context(), dynamoledger.Deny)
			require.Error(t, err)
			if name == "there is no answer" {
				return
			}
			require.ErrorContains(t, err, "damaged")
			b.set(dynamoledger.Deny, "b")
			require.Equal(t, []string{"b"}, b.refused("a", "b"), "setting it mends it")
		})
	}
}

func TestAListHasWellFormedIDsAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set(dynamoledger.Deny, "a")
	for _, id := range []string{"", `"b"`, "b c", "b\x00", "\ufeffb", "-b", strings.Repeat("b", 256)} {
		_, err := b.a.SetList(t.Context(), dynamoledger.Deny, []string{"a", id}, "ada@host")
		require.ErrorContains(t, err, "is no desktop id")
		require.Equal(t, []string{"a"}, b.refused("a", "b"), "it is as it was")
	}

	c := b.set(dynamoledger.Deny, "b1")
	sum := sha256.Sum256([]byte(`["\"b"]`)) // put there by something else
	b.items["deny/"+c.Now.Generation+"/0"]["data"]["S"] = `["\"b"]`
	b.change(func(l *dynamoledger.List) { l.Digest = hex.EncodeToString(sum[:]) })
	_, err := b.b.Refused(t.Context(), []string{"c"})
	require.ErrorContains(t, err, "read the deny list of desktops: ")
	require.ErrorContains(t, err, `"\"b" is no desktop id`)
	b.set(dynamoledger.Deny, "b")
	require.Equal(t, []string{"b"}, b.refused("b", "c"), "setting it mends it")
}

// change changes the header of the deny list by hand.
func (b *bench) change(do func(*dynamoledger.List)) {
	var l dynamoledger.List
	require.NoError(b.t, json.Unmarshal([]byte(b.items["deny"]["data"]["S"]), &l))
	do(&l)
	text, err := json.Marshal(l)
	require.NoError(b.t, err)
	b.items["deny"]["data"]["S"] = string(text)
}

// TestWhoReadsWhileAListIsReplacedFindsTheOneOrTheOther replaces a list of a's by one of b's and back. Each list allows
// all desktops of its own.
func TestWhoReadsWhileAListIsReplacedFindsTheOneOrTheOther(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	lists := [2][]string{}
	for i, id := range desktops(9_000) {
		lists[i%2] = append(lists[i%2], id+strings.Repeat("x", 60)) // two pages each
	}
	set := func(s *dynamoledger.Store, ids []string) {
		_, err := s.SetList(t.Context(), dynamoledger.Allow, ids, "ada@host")
		require.NoError(t, err)
	}
	writer := f.open(t, dynamoledger.Options{})
	set(writer, lists[0])
	var reading sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s := f.open(t, dynamoledger.Options{}) // it has read nothing yet
				refused, err := s.Refused(t.Context(), append(lists[0][:len(lists[0]):len(lists[0])], lists[1]...))
				if err != nil || (len(refused) != len(lists[0]) && len(refused) != len(lists[1])) || (refused[0] != lists[0][0] && refused[0] != lists[1][0]) {
					t.Errorf("%d refused, %v", len(refused), err)
				}
			}
		})
	}
	for i := range 12 {
		set(writer, lists[(i+1)%2])
	}
	close(done)
	reading.Wait()
}

func TestTwoWhoChangeAListAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set(dynamoledger.Deny, "a")
	var armed atomic.Bool
	var do func()
	b.before = func(_ string, c call) {
		if c.ConditionExpression != "" && armed.CompareAndSwap(true, false) {
			do()
		}
	}
	meanwhile := func(d func()) { do = d; armed.Store(true) }
	meanwhile(func() { b.set(dynamoledger.Deny, "theirs") })
	_, err := b.b.SetList(t.Context(), dynamoledger.Deny, []string{"ours"}, "bob@host")
	require.ErrorIs(t, err, dynamoledger.ErrListChanged)
	require.Equal(t, []string{"theirs"}, b.refused("ours", "theirs"))
	require.Len(t, b.keys(), 2, "the pages of who came second are gone")

	meanwhile(func() { b.set(dynamoledger.Deny, "again") })
	_, err = b.b.ClearList(t.Context(), dynamoledger.Deny)
	require.ErrorIs(t, err, dynamoledger.ErrListChanged, "what is not the list that was seen is not cleared")
	require.Equal(t, []string{"again"}, b.refused("again"))

	meanwhile(func() { // cleared and set anew: as young as the first, and not the same
		_, err := b.a.ClearList(t.Context(), dynamoledger.Deny)
		require.NoError(t, err)
		b.set(dynamoledger.Deny, "anew")
	})
	_, err = b.b.SetList(t.Context(), dynamoledger.Deny, []string{"ours"}, "bob@host")
	require.ErrorIs(t, err, dynamoledger.ErrListChanged)
	require.Equal(t, []string{"anew"}, b.refused("anew"))
}

func TestALostAnswerToAChangeOfAList(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sent := 0
	b.before = func(_ string, c call) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if c.ConditionExpression != "" { // the header: its first sending is lost, the second one not
			sent++
			b.lose = sent % 2
		}
	}
	for range 2 {
		b.set(dynamoledger.Deny, "a")
		require.Equal(t, []string{"a"}, b.refused("a"))
	}
	b.before = nil
	b.lose = 1
	_, err := b.a.ClearList(t.Context(), dynamoledger.Deny)
	require.NoError(t, err)
	require.Empty(t, b.keys())
}

func TestAChangeThatFailsSaysWhatHolds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.set(dynamoledger.Deny, "a")
	for _, header := range []bool{false, true} { // the first page cannot be stored, the header
		b.before = func(name string, c call) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if name == "PutItem" && (c.Item["pk"]["S"] == "deny") == header {
				b.fail = 1
			}
		}
		_, err := b.a.SetList(t.Context(), dynamoledger.Deny, []string{"b"}, "ada@host")
		require.ErrorContains(t, err, "InternalServerError")
		require.Equal(t, header, errors.Is(err, dynamoledger.ErrListUnknown), err)
		b.before = nil
		require.Equal(t, []string{"a"}, b.refused("a", "b"))
	}
	b.set(dynamoledger.Deny, "c")
	require.Equal(t, []string{"c"}, b.refused("a", "b", "c"), "it may be done again")
}
