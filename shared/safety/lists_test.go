package safety_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/safety"
	"recompose/shared/store"
)

// bench is two processes on one store.
type bench struct {
	*watched
	t    *testing.T
	a, b *safety.Operators
}

func newBench(t *testing.T, s store.Store) *bench {
	w := &watched{Store: s}
	return &bench{w, t, &safety.Operators{Store: w, Now: clock}, &safety.Operators{Store: w, Now: clock}}
}

// refused requires that both refuse these desktops.
func (b *bench) refused(ids []string, want ...string) {
	b.t.Helper()
	requireRefused(b.t, b.b, ids, want...)
	requireRefused(b.t, b.a, ids, want...)
}

func TestAListAppliesToTheNextWrite(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		b := newBench(t, s)
		b.refused([]string{"a", "b"})
		require.Equal(t, []string{"get freeze", "get freeze"}, b.since(0), "one read if nothing is set")

		c := set(t, b.a, safety.DenyList, "b", "c", "b")
		require.Nil(t, c.Before)
		require.NoError(t, c.Damaged)
		require.Equal(t, safety.List{
			Generation: c.Now.Generation, Pages: 1, Count: 2, Digest: c.Now.Digest, By: "ada@host", At: now,
		}, *c.Now)
		b.refused([]string{"a", "b"}, "b")
		set(t, b.a, safety.AllowList, "b", "a")
		b.refused([]string{"d", "B", "a", "b"}, "d", "B", "b") // denied in any letter case, allowed only as written
		second := set(t, b.a, safety.DenyList, "a")
		require.Equal(t, c.Now, second.Before)
		b.refused([]string{"a", "b"}, "a")
		for n := range c.Now.Pages {
			_, _, err := s.Get(t.Context(), page(safety.DenyList, c.Now, n))
			require.ErrorIs(t, err, store.ErrNotFound, "the replaced pages are removed")
		}

		set(t, b.a, safety.AllowList)
		b.refused([]string{"a", "b"}, "a", "b") // an empty allow list allows nothing
		set(t, b.a, safety.DenyList)
		cleared := clearList(t, b.b, safety.AllowList)
		require.Nil(t, cleared.Now)
		require.Equal(t, 0, cleared.Before.Count)
		b.refused([]string{"a", "b"}) // an empty deny list denies nothing
		clearList(t, b.b, safety.DenyList)
		_, _, err := s.Get(t.Context(), safety.OperatorsKey)
		require.ErrorIs(t, err, store.ErrNotFound, "nothing is set, and nothing is stored")
		require.Equal(t, safety.Change{}, clearList(t, b.a, safety.DenyList), "a clear may be repeated")
	})
}

func page(name safety.ListName, l *safety.List, n int) string {
	return "lists." + string(name) + "." + l.Generation + "." + string(rune('0'+n))
}

func TestACheckReadsOnlyTheItem(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		b := newBench(t, s)
		set(t, b.a, safety.AllowList, "a", "d")
		deny := set(t, b.a, safety.DenyList, "d")
		reads := func() []string {
			before := len(b.since(0))
			requireRefused(t, b.b, []string{"a", "d"}, "d")
			return b.since(before)
		}
		require.Len(t, reads(), 3, "the item and two pages")
		require.Equal(t, []string{"get freeze"}, reads(), "pages are read once")
		require.NoError(t, b.a.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
		require.NoError(t, b.a.SetService(t.Context(), events.Service{}))
		require.NoError(t, b.a.Thaw(t.Context()))
		require.Equal(t, []string{"get freeze"}, reads(), "a freeze and a service change no list")
		same := set(t, b.a, safety.DenyList, "d")
		require.Equal(t, deny.Now.Digest, same.Now.Digest)
		require.Equal(t, []string{"get freeze"}, reads(), "the same ids are the same list")
		set(t, b.a, safety.DenyList, "D", "d")
		require.Len(t, reads(), 2, "one list was replaced")
	})
}

func TestAListOf50000Desktops(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		b := newBench(t, s)
		ids := desktops("", 50_000)
		c := set(t, b.a, safety.AllowList, ids...)
		require.Equal(t, 50_000, c.Now.Count)
		require.Greater(t, c.Now.Pages, 5)
		b.refused([]string{ids[0], ids[49_999], "x", ids[25_000]}, "x")
		reads := len(b.since(0))
		b.refused([]string{ids[7]})
		require.Equal(t, []string{"get freeze", "get freeze"}, b.since(reads))
		l, all, err := b.b.ListIDs(t.Context(), safety.AllowList)
		require.NoError(t, err)
		require.Equal(t, c.Now, l)
		require.Equal(t, slices.Sorted(slices.Values(ids)), all)
		for n := range c.Now.Pages {
			data, _, err := s.Get(t.Context(), page(safety.AllowList, c.Now, n))
			require.NoError(t, err)
			require.LessOrEqual(t, len(data), store.MaxValue)
			require.True(t, len(data) > store.MaxValue-100 || n == c.Now.Pages-1, "all but the last are full")
		}
		set(t, b.a, safety.AllowList, ids[:3]...)
		b.refused([]string{ids[2], ids[3]}, ids[3])
	})
}

func TestWhatIsStoredOfListsDoesNotExpire(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	o := &safety.Operators{Store: s}
	set(t, o, safety.AllowList, desktops("", 20_000)...)
	set(t, o, safety.DenyList, "b")
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
	stored := []string{"freeze", "lists.allow.*.0", "lists.allow.*.1", "lists.allow.*.2", "lists.deny.*.0"}
	require.Equal(t, stored, keys(f))
	for key, item := range f.Items {
		require.Less(t, len(key)+len(item["data"]["S"]), 390<<10)
		require.NotContains(t, item, "expires", "a list has no expiry")
	}
	set(t, o, safety.AllowList, "a")
	require.Equal(t, []string{"freeze", "lists.allow.*.0", "lists.deny.*.0"}, keys(f), "the replaced pages are removed")
	clearList(t, o, safety.DenyList)
	clearList(t, o, safety.AllowList)
	require.Equal(t, []string{"freeze"}, keys(f))
	require.NoError(t, o.Thaw(t.Context()))
	require.Empty(t, f.Items)
}

func TestAListThatCannotBeReadCompletelyIsAnErrorAndNeverAbsent(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, s store.Store, foreign func(string), l *safety.List){
		"a page is missing": func(t *testing.T, s store.Store, _ func(string), l *safety.List) {
			_, rev, err := s.Get(t.Context(), page(safety.DenyList, l, 1))
			require.NoError(t, err)
			require.NoError(t, s.Delete(t.Context(), page(safety.DenyList, l, 1), rev))
		},
		"a page has fewer ids": func(t *testing.T, s store.Store, _ func(string), l *safety.List) {
			overwrite(t, s, page(safety.DenyList, l, 0), `["a"]`)
		},
		"a page is something else": func(t *testing.T, s store.Store, _ func(string), l *safety.List) {
			overwrite(t, s, page(safety.DenyList, l, 0), `{}`)
		},
		"a page is foreign": func(_ *testing.T, _ store.Store, foreign func(string), l *safety.List) {
			foreign(page(safety.DenyList, l, 0))
		},
		"pages have changed places": func(t *testing.T, s store.Store, _ func(string), l *safety.List) {
			first, _, err := s.Get(t.Context(), page(safety.DenyList, l, 0))
			require.NoError(t, err)
			second, _, err := s.Get(t.Context(), page(safety.DenyList, l, 1))
			require.NoError(t, err)
			overwrite(t, s, page(safety.DenyList, l, 0), string(second))
			overwrite(t, s, page(safety.DenyList, l, 1), string(first))
		},
		"the header is empty":            header(map[string]any{}),
		"the header has no generation":   header("", "generation"),
		"the header has another one":     header("ABC", "generation"),
		"the header has no digest":       header("", "digest"),
		"the header has another digest":  header(strings.Repeat("0", 64), "digest"),
		"the header names no pages":      header(0, "pages"),
		"the header names fewer pages":   header(1, "pages"),
		"the header names more pages":    header(3, "pages"),
		"the header names pages below 0": header(-1, "pages"),
		"the header counts otherwise":    header(9_999, "count"),
		"the list is lost":               header(true, "lost"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, s store.Store, foreign func(string)) {
				o := &safety.Operators{Store: s}
				set(t, o, safety.AllowList, "a", "b")
				c := set(t, o, safety.DenyList, desktops("", 10_000)...)
				require.Equal(t, 2, c.Now.Pages)
				harm(t, s, foreign, c.Now)
				requireUnreadable(t, o, "the deny list of desktops: ")
				_, _, err := o.ListIDs(t.Context(), safety.DenyList)
				require.ErrorIs(t, err, store.ErrDamaged)
				require.ErrorContains(t, err, "the deny list of desktops: ")
				_, err = safety.New(safety.Options{Operators: o}).Describe(t.Context())
				require.ErrorIs(t, err, store.ErrDamaged)
				_, ids, err := o.ListIDs(t.Context(), safety.AllowList)
				require.NoError(t, err)
				require.Equal(t, []string{"a", "b"}, ids, "the other list is not affected")

				freeze := safety.Freeze{Reason: "storm", At: now}
				require.NoError(t, o.SetFreeze(t.Context(), freeze))
				requireFrozen(t, o, &freeze)
				require.NoError(t, o.Thaw(t.Context()))
				requireUnreadable(t, o, "the deny list of desktops: ")
				set(t, o, safety.AllowList, "a", "b", "c")
				requireUnreadable(t, o, "the deny list of desktops: ") // a change of the other list does not repair it
				set(t, o, safety.DenyList, "b")
				requireRefused(t, o, []string{"a", "b", "d"}, "b", "d")

				_, err = o.SetList(t.Context(), safety.DenyList, desktops("", 10_000), "ada@host")
				require.NoError(t, err)
				l, _, err := o.ListIDs(t.Context(), safety.DenyList)
				require.NoError(t, err)
				harm(t, s, foreign, l)
				clearList(t, o, safety.DenyList)
				requireRefused(t, o, []string{"a", "b", "d"}, "d")
			})
		})
	}
}

// header changes the header of the deny list by hand.
func header(to any, member ...string) func(*testing.T, store.Store, func(string), *safety.List) {
	return func(t *testing.T, s store.Store, _ func(string), _ *safety.List) {
		edit(t, s, safety.OperatorsKey, to, append([]string{"lists", "deny"}, member...)...)
	}
}

func TestAListHasOnlyWellFormedIDs(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		b := newBench(t, s)
		set(t, b.a, safety.DenyList, "a")
		for _, id := range []string{"", `"b"`, "b c", "b\x00", "\ufeffb", "-b", strings.Repeat("b", 256)} {
			calls := len(b.since(0))
			_, err := b.a.SetList(t.Context(), safety.DenyList, []string{"a", id}, "ada@host")
			require.ErrorContains(t, err, "is not a desktop id")
			require.Empty(t, b.since(calls))
			b.refused([]string{"a", "b"}, "a") // the list is unchanged
		}

		c := set(t, b.a, safety.DenyList, "b1")
		sum := sha256.Sum256([]byte(`["\"b"]`)) // stored by another program
		overwrite(t, s, page(safety.DenyList, c.Now, 0), `["\"b"]`)
		edit(t, s, safety.OperatorsKey, hex.EncodeToString(sum[:]), "lists", "deny", "digest")
		requireUnreadable(t, b.b, "the deny list of desktops: ", `"\"b" is not a desktop id`)
		set(t, b.a, safety.DenyList, "b")
		b.refused([]string{"b", "c"}, "b") // setting the list repairs it
	})
}

// TestAReaderFindsTheOneListOrTheOther replaces one list by another and back. Each list allows all of its own
// desktops.
func TestAReaderFindsTheOneListOrTheOther(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		lists := [2][]string{}
		for i, id := range desktops("", 9_000) {
			lists[i%2] = append(lists[i%2], id+strings.Repeat("x", 60)) // two pages each
		}
		both := append(lists[0][:len(lists[0]):len(lists[0])], lists[1]...)
		writer := &safety.Operators{Store: s}
		require.Equal(t, 2, set(t, writer, safety.AllowList, lists[0]...).Now.Pages)
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
					o := &safety.Operators{Store: s} // with an empty cache
					refused, err := check(t, o, both...)
					if err != nil || len(refused) != len(lists[0]) && len(refused) != len(lists[1]) ||
						refused[0] != lists[0][0] && refused[0] != lists[1][0] {
						t.Errorf("%d refused, %v", len(refused), err)
						return
					}
					if l, ids, err := o.ListIDs(t.Context(), safety.AllowList); err != nil || l.Count != len(ids) {
						t.Errorf("%d ids, %v", len(ids), err)
						return
					}
				}
			})
		}
		for i := range 12 {
			set(t, writer, safety.AllowList, lists[(i+1)%2]...)
		}
		close(done)
		reading.Wait()
	})
}

// TestAPageThatWasReplacedMeanwhile replaces a list between the reads of its header and of its page.
func TestAPageThatWasReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		writer := &safety.Operators{Store: s}
		set(t, writer, safety.DenyList, "a")
		for name, change := range map[string]func(){
			"b": func() { set(t, writer, safety.DenyList, "b") },
			"":  func() { clearList(t, writer, safety.DenyList) },
		} {
			set(t, writer, safety.DenyList, "a")
			armed := true
			w := &watched{Store: s, before: func(call string) error {
				if armed && strings.HasPrefix(call, "get lists.deny.") {
					armed = false
					change()
				}
				return nil
			}}
			refused, err := check(t, &safety.Operators{Store: w}, "a", "b")
			require.NoError(t, err)
			require.Equal(t, strings.Fields(name), append([]string{}, refused...))
			require.False(t, armed)
			set(t, writer, safety.DenyList, "a")
			armed = true
			_, ids, err := (&safety.Operators{Store: w}).ListIDs(t.Context(), safety.DenyList)
			require.NoError(t, err)
			require.Equal(t, strings.Fields(name), append([]string{}, ids...))
		}
	})
}
