package safety_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

// meanwhile runs do before the first call of this name.
func (b *bench) meanwhile(call string, do func()) {
	b.before = func(name string) error {
		if name == call {
			b.before = nil
			do()
		}
		return nil
	}
}

func TestTwoProcessesThatChangeAListAtOnce(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	b := newBench(t, s)
	ids := []string{"a", "other", "ours", "same", "anew"}
	set(t, b.a, safety.DenyList, "a")
	b.meanwhile("put freeze", func() { set(t, b.a, safety.DenyList, "other") })
	_, err := b.b.SetList(t.Context(), safety.DenyList, []string{"ours"}, "bob@host")
	require.ErrorIs(t, err, safety.ErrListChanged)
	b.refused(ids, "other")
	require.Equal(t, []string{"freeze", "lists.deny.*.0"}, keys(f), "the pages of the second list are removed")

	b.meanwhile("put freeze", func() { set(t, b.a, safety.DenyList, "same") })
	_, err = b.b.SetList(t.Context(), safety.DenyList, []string{"same"}, "bob@host")
	require.ErrorIs(t, err, safety.ErrListChanged, "even to the same ids: another person may have set it")

	b.meanwhile("delete freeze", func() { set(t, b.a, safety.DenyList, "other") })
	_, err = b.b.ClearList(t.Context(), safety.DenyList)
	require.ErrorIs(t, err, safety.ErrListChanged, "a list that was not read is not cleared")
	b.refused(ids, "other")

	b.meanwhile("put freeze", func() { // cleared and set once more: the same content, but another list
		clearList(t, b.a, safety.DenyList)
		set(t, b.a, safety.DenyList, "anew")
	})
	_, err = b.b.SetList(t.Context(), safety.DenyList, []string{"ours"}, "bob@host")
	require.ErrorIs(t, err, safety.ErrListChanged)
	b.refused(ids, "anew")

	b.meanwhile("put freeze", func() { clearList(t, b.a, safety.DenyList) })
	_, err = b.b.SetList(t.Context(), safety.DenyList, []string{"ours"}, "bob@host")
	require.ErrorIs(t, err, safety.ErrListChanged)
	b.refused(ids)
	require.Empty(t, keys(f))

	set(t, b.a, safety.DenyList, "a")
	b.meanwhile("delete freeze", func() { clearList(t, b.a, safety.DenyList) })
	_, err = b.b.ClearList(t.Context(), safety.DenyList)
	require.NoError(t, err, "a clear may be repeated")
	require.Empty(t, keys(f))
}

// TestAChangeWhilePagesAreStored changes a list while another process stores the pages of its own list: the second
// process has not read the list that is stored first.
func TestAChangeWhilePagesAreStored(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		b := newBench(t, s)
		set(t, b.a, safety.DenyList, "a")
		for _, change := range []func(){
			func() { set(t, b.a, safety.DenyList, "other") }, func() { clearList(t, b.a, safety.DenyList) },
			func() { set(t, b.a, safety.DenyList, "other") }, // where there was none
		} {
			armed := true
			b.before = func(call string) error {
				if armed && strings.HasPrefix(call, "put lists.deny.") {
					armed = false
					change()
				}
				return nil
			}
			_, err := b.b.SetList(t.Context(), safety.DenyList, []string{"ours"}, "bob@host")
			require.ErrorIs(t, err, safety.ErrListChanged)
			b.before = nil
			requireRefused(t, b.a, []string{"ours"})
		}
		requireRefused(t, b.b, []string{"other"}, "other")
	})
}

// TestOtherChangesAreNoConflict makes each change of another kind between the read of the item and its put.
func TestOtherChangesAreNoConflict(t *testing.T) {
	t.Parallel()
	freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: now}
	type change func(t *testing.T, o *safety.Operators)
	list := func(name safety.ListName) change {
		return func(t *testing.T, o *safety.Operators) { set(t, o, name, "new") }
	}
	changes := map[string]change{
		"freeze":  func(t *testing.T, o *safety.Operators) { require.NoError(t, o.SetFreeze(t.Context(), freeze)) },
		"service": func(t *testing.T, o *safety.Operators) { require.NoError(t, o.SetService(t.Context(), own)) },
		"allow":   list(safety.AllowList), "deny": list(safety.DenyList),
		"thaw":  func(t *testing.T, o *safety.Operators) { require.NoError(t, o.Thaw(t.Context())) },
		"clear": func(t *testing.T, o *safety.Operators) { clearList(t, o, safety.DenyList) },
	}
	holds := func(t *testing.T, o *safety.Operators, name string) {
		switch name {
		case "freeze":
			requireFrozen(t, o, &freeze)
		case "thaw":
			requireFrozen(t, o, nil)
		case "service":
			data, _, err := o.Store.Get(t.Context(), safety.OperatorsKey)
			require.NoError(t, err)
			require.Contains(t, string(data), `"service":{"kind":"real","host":"w.example.org","project":"p1"}`)
		case "clear":
			l, _, err := o.ListIDs(t.Context(), safety.DenyList)
			require.NoError(t, err)
			require.Nil(t, l)
		default:
			_, ids, err := o.ListIDs(t.Context(), safety.ListName(name))
			require.NoError(t, err)
			require.Equal(t, []string{"new"}, ids)
		}
	}
	undo := map[string]string{"freeze": "thaw", "deny": "clear"}
	for first, do := range changes {
		for second, meanwhile := range changes {
			if first == second || undo[first] == second || undo[second] == first {
				continue
			}
			t.Run(second+" within "+first, func(t *testing.T) {
				t.Parallel()
				onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
					b := newBench(t, s)
					set(t, b.a, safety.AllowList, "old", "d")
					set(t, b.a, safety.DenyList, "d")
					require.NoError(t, b.a.SetFreeze(t.Context(), safety.Freeze{Reason: "before", At: now}))
					b.meanwhile("put freeze", func() { meanwhile(t, b.a) })
					do(t, b.b)
					require.Nil(t, b.before, "the change was not made")
					holds(t, b.a, second)
					holds(t, b.a, first)
				})
			})
		}
	}
}

func TestManyThatSetOneList(t *testing.T) {
	t.Parallel()
	f, dynamo := openDynamo(t)
	_, nats := openNATS(t)
	for name, s := range map[string]store.Store{"in memory": memstore.New(), "on DynamoDB": dynamo, "on NATS": nats} {
		const many = 8
		var all sync.WaitGroup
		results := make([]error, many)
		for i := range many {
			all.Go(func() {
				o := &safety.Operators{Store: s}
				_, results[i] = o.SetList(t.Context(), safety.DenyList, []string{fmt.Sprint("d", i)}, "ada@host")
			})
		}
		all.Wait()
		_, ids, err := (&safety.Operators{Store: s}).ListIDs(t.Context(), safety.DenyList)
		require.NoError(t, err, name)
		require.Len(t, ids, 1, name)
		won := 0
		for i, err := range results {
			if err == nil {
				won++
				continue
			}
			require.ErrorIs(t, err, safety.ErrListChanged, name)
			require.NotEqual(t, ids[0], fmt.Sprint("d", i), "%s: the list is in force, and was reported as not stored", name)
		}
		require.Positive(t, won, name)
	}
	require.Equal(t, []string{"freeze", "lists.deny.*.0"}, keys(f), "no page of the other lists is left")
}

func TestALostAnswerToAChangeOfAList(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	b := newBench(t, s)
	for range 2 {
		b.before = func(call string) error { // the SDK retries the call
			if strings.HasPrefix(call, "put ") {
				f.Lose = 1
			}
			return nil
		}
		set(t, b.a, safety.DenyList, "a")
		b.refused([]string{"a"}, "a")
	}
	b.before = func(call string) error {
		if strings.HasPrefix(call, "delete ") {
			f.Lose = 1
		}
		return nil
	}
	clearList(t, b.a, safety.DenyList)
	require.Empty(t, keys(f))
}

func TestAFailedChangeReportsTheListInForce(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	b := newBench(t, s)
	set(t, b.a, safety.DenyList, "a")
	for _, header := range []bool{false, true} { // the put of the first page fails, or that of the header
		b.before = func(call string) error {
			if strings.HasPrefix(call, "put ") && (call == "put freeze") == header {
				return errCut
			}
			return nil
		}
		_, err := b.a.SetList(t.Context(), safety.DenyList, []string{"b"}, "ada@host")
		require.ErrorIs(t, err, errCut)
		require.Equal(t, header, errors.Is(err, safety.ErrListUnknown), err)
		b.before = nil
		b.refused([]string{"a", "b"}, "a")
	}
	set(t, b.a, safety.DenyList, "c")
	b.refused([]string{"a", "b", "c"}, "c") // the change may be repeated
	require.Equal(t, []string{"freeze", "lists.deny.*.0", "lists.deny.*.0"}, keys(f),
		"the pages of a list that may have been stored stay")
}

// TestAContextThatEndsLeavesNoPages ends the context of a change before its last page.
func TestAContextThatEndsLeavesNoPages(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{Store: s, before: func(call string) error {
		if strings.HasPrefix(call, "put ") && strings.HasSuffix(call, ".1") {
			cancel()
		}
		return nil
	}}
	_, err := (&safety.Operators{Store: w}).SetList(ctx, safety.DenyList, desktops("", 10_000), "ada@host")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "page 2 of 2")
	require.Empty(t, keys(f))
}

// TestAChangeOfAListThatIsCut interrupts each call of a change of one list.
func TestAChangeOfAListThatIsCut(t *testing.T) {
	t.Parallel()
	ids := desktops("", 3)
	long := desktops(strings.Repeat("x", 60), 4_000) // two pages
	for name, c := range map[string]struct {
		before, to []string // nil: none
	}{
		"set":     {nil, long},
		"replace": {long, ids},
		"extend":  {ids, long},
		"clear":   {long, nil},
		"empty":   {ids, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachCut(t, func(t *testing.T, at cut) bool { return cutChange(t, memstore.New(), at, c.before, c.to) })
		})
	}
}

// cutChange makes an interrupted change of the deny list, and requires that the list is either the old or the new one.
func cutChange(t *testing.T, s store.Store, at cut, before, to []string) bool {
	t.Helper()
	freeze := safety.Freeze{Reason: "storm", At: now}
	fresh := func() *safety.Operators { return &safety.Operators{Store: s} }
	require.NoError(t, fresh().SetFreeze(t.Context(), freeze))
	set(t, fresh(), safety.AllowList, "a")
	if before != nil {
		set(t, fresh(), safety.DenyList, before...)
	}
	change := func(o *safety.Operators) (c safety.Change, err error) {
		if to == nil {
			return o.ClearList(t.Context(), safety.DenyList)
		}
		return o.SetList(t.Context(), safety.DenyList, to, "ada@host")
	}
	w, reached := cutAt(s, at)
	c, err := change(&safety.Operators{Store: w})
	holds := func() []string {
		t.Helper()
		l, ids, err := fresh().ListIDs(t.Context(), safety.DenyList)
		require.NoError(t, err, "%v", at)
		if l == nil {
			return nil
		}
		return append([]string{}, ids...)
	}
	now := holds()
	switch {
	case err == nil:
		require.Equal(t, to, now, "%v", at)
	case errors.Is(err, safety.ErrListUnknown):
		require.Contains(t, [][]string{before, to}, now, "%v", at)
	default:
		require.ErrorIs(t, err, errCut)
		require.Equal(t, before, now, "%v: %v", at, err)
	}
	if err == nil && at.dead && reached() {
		require.Positive(t, c.Left, "%v: remaining pages are reported", at)
	}
	requireFrozen(t, fresh(), &freeze)
	_, allowed, err := fresh().ListIDs(t.Context(), safety.AllowList)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, allowed)

	_, err = change(fresh())
	require.NoError(t, err, "%v: the change may be repeated", at)
	require.Equal(t, to, holds(), "%v", at)
	require.NoError(t, fresh().Thaw(t.Context()))
	return reached()
}

// lostPut stores a value, and loses the answer. Another process replaces the value before the put is repeated, so the
// repeated put conflicts.
type lostPut struct {
	store.Store
	then func()
}

func (l *lostPut) Put(ctx context.Context, key string, value []byte, old store.Revision) (store.Revision, error) {
	rev, err := l.Store.Put(ctx, key, value, old)
	if then := l.then; key == safety.OperatorsKey && err == nil && then != nil {
		l.then = nil
		then()
		return 0, store.ErrConflict
	}
	return rev, err
}

func TestAListWhoseAnswerWasLostIsInForce(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	other := &safety.Operators{Store: s}
	set(t, other, safety.AllowList, "a")
	o := &safety.Operators{Store: &lostPut{s, func() {
		require.NoError(t, other.SetFreeze(t.Context(), safety.Freeze{Reason: "a test", By: "bob@host", At: now}))
	}}}
	c, err := o.SetList(t.Context(), safety.AllowList, []string{"b"}, "ada@host")
	require.NoError(t, err)
	require.Equal(t, 1, c.Before.Count)
	require.Zero(t, c.Left)
	refused, err := safety.New(safety.Options{Operators: other}).Refused(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, refused)
}
