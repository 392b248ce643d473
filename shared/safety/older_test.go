package safety_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

// putOlder puts a list under the keys of earlier versions on AWS, on two pages.
func putOlder(t *testing.T, s store.Store, name safety.ListName, ids ...string) safety.List {
	t.Helper()
	slices.Sort(ids)
	generation := "OLDER" + strings.ToUpper(string(name))
	l := safety.List{Generation: generation, Pages: 2, Count: len(ids), By: "ada@host", At: now}
	sum := sha256.New()
	for n, some := range [][]string{ids[:len(ids)/2], ids[len(ids)/2:]} {
		text, err := json.Marshal(append([]string{}, some...))
		require.NoError(t, err)
		_, _ = sum.Write(text)
		_, err = s.Put(t.Context(), fmt.Sprintf("%s/%s/%d", name, l.Generation, n), text, 0)
		require.NoError(t, err)
	}
	l.Digest = hex.EncodeToString(sum.Sum(nil))
	text, err := json.Marshal(l)
	require.NoError(t, err)
	_, err = s.Put(t.Context(), string(name), text, 0)
	require.NoError(t, err)
	return l
}

// onOlder runs a test on the kinds of stores that AWS has or could have.
func onOlder(t *testing.T, test func(t *testing.T, s store.Store, foreign func(key string))) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s, foreign := k.open(t)
			test(t, s, foreign)
		})
	}
}

func TestListsOfEarlierVersionsAreInForceUntilOneIsSet(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	w := &watched{Store: s}
	o := &safety.Operators{Store: w, Older: true}
	requireRefused(t, o, []string{"a", "b"})
	allow, deny := putOlder(t, s, safety.AllowList, "a", "b", "d"), putOlder(t, s, safety.DenyList, "d", "e")
	ids := []string{"a", "b", "c", "D", "d"}
	requireRefused(t, o, ids, "c", "D", "d")
	before := len(w.since(0))
	requireRefused(t, o, ids, "c", "D", "d")
	require.Equal(t, []string{"get freeze", "get allow", "get deny"}, w.since(before), "pages are read once")
	l, listed, err := o.ListIDs(t.Context(), safety.AllowList)
	require.NoError(t, err)
	require.Equal(t, &allow, l)
	require.Equal(t, []string{"a", "b", "d"}, listed)
	text, err := safety.New(safety.Options{Operators: o}).Describe(t.Context())
	require.NoError(t, err)
	require.Equal(t, "only those of the deployment's allow list (3), none of its deny list (2) may be rebuilt", text)
	requireRefused(t, &safety.Operators{Store: s}, ids) // without Older they are not read

	freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: now}
	require.NoError(t, o.SetFreeze(t.Context(), freeze))
	require.NoError(t, o.SetService(t.Context(), own))
	requireFrozen(t, o, &freeze)
	require.NoError(t, o.Thaw(t.Context()))
	err = safety.New(safety.Options{Operators: o, Service: own}).Check(t.Context(), ids)
	refused := new(safety.NotAllowed)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []string{"c", "D", "d"}, refused.Desktops, "a freeze and a service change no list")
	require.Equal(t, []string{"allow", "allow/*/0", "allow/*/1", "deny", "deny/*/0", "deny/*/1", "freeze"}, keys(f))

	c := set(t, o, safety.AllowList, "a", "c", "d")
	require.Equal(t, &allow, c.Before)
	moved := []string{"allow", "deny", "freeze", "lists.allow.*.0", "lists.deny.*.0", "lists.deny.*.1"}
	require.Equal(t, moved, keys(f), "both are under the keys of this version")
	require.NoError(t, o.SetService(t.Context(), other))
	for _, older := range []bool{true, false} {
		fresh := &safety.Operators{Store: s, Older: older}
		err = safety.New(safety.Options{Operators: fresh, Service: other}).Check(t.Context(), ids)
		require.ErrorAs(t, err, &refused)
		require.Equal(t, []string{"b", "D", "d"}, refused.Desktops)
		l, listed, err = fresh.ListIDs(t.Context(), safety.DenyList)
		require.NoError(t, err)
		require.Equal(t, &deny, l, "it was moved unchanged")
		require.Equal(t, []string{"d", "e"}, listed)
	}
}

func TestListsOfEarlierVersionsCanBeCleared(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	o := &safety.Operators{Store: s, Older: true}
	allow, deny := putOlder(t, s, safety.AllowList, "a"), putOlder(t, s, safety.DenyList, "d")
	c := clearList(t, o, safety.AllowList)
	require.Equal(t, &allow, c.Before)
	requireRefused(t, o, []string{"a", "b", "d"}, "d")
	require.Equal(t, []string{"allow", "deny", "freeze", "lists.deny.*.0", "lists.deny.*.1"}, keys(f))
	c = clearList(t, o, safety.DenyList)
	require.Equal(t, &deny, c.Before)
	requireRefused(t, o, []string{"a", "d"})
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
	require.NoError(t, o.Thaw(t.Context()))
	requireRefused(t, &safety.Operators{Store: s, Older: true}, []string{"a", "d"}) // no list comes back
	require.Equal(t, safety.Change{}, clearList(t, o, safety.DenyList))
}

func TestAFreezeOfAnEarlierVersionOutlivesAChangeOfLists(t *testing.T) {
	t.Parallel()
	onOlder(t, func(t *testing.T, s store.Store, _ func(string)) {
		o := &safety.Operators{Store: s, Older: true}
		putOlder(t, s, safety.DenyList, "d")
		freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: now}
		text, err := json.Marshal(freeze)
		require.NoError(t, err)
		_, err = s.Put(t.Context(), safety.OperatorsKey, text, 0)
		require.NoError(t, err)
		set(t, o, safety.AllowList, "a", "d")
		requireFrozen(t, o, &freeze)
		require.NoError(t, o.Thaw(t.Context()))
		requireRefused(t, o, []string{"a", "b", "d"}, "b", "d")
	})
}

// TestAListThatIsMovedMeanwhileIsNeverNone moves the lists before each read of a process that reads them under the
// keys of earlier versions.
func TestAListThatIsMovedMeanwhileIsNeverNone(t *testing.T) {
	t.Parallel()
	for i, moved := range []safety.ListName{safety.AllowList, safety.DenyList, safety.AllowList, safety.DenyList} {
		for n := 1; ; n++ {
			s := memstore.New()
			putOlder(t, s, safety.AllowList, "a", "b", "d")
			putOlder(t, s, safety.DenyList, "d")
			var w *watched
			w = &watched{Store: s, last: i >= 2, before: func(string) error {
				if len(w.since(0)) == n { // the same ids: only their keys change
					ids := map[safety.ListName][]string{safety.AllowList: {"a", "b", "d"}, safety.DenyList: {"d"}}[moved]
					set(t, &safety.Operators{Store: s, Older: true}, moved, ids...)
				}
				return nil
			}}
			refused, err := check(t, &safety.Operators{Store: w, Older: true}, "a", "c", "d")
			require.NoError(t, err, "moved before read %d", n)
			require.Equal(t, []string{"c", "d"}, refused, "moved before read %d: %v", n, w.since(0))
			if len(w.since(0)) < n {
				require.Greater(t, n, 6)
				break
			}
		}
		for _, name := range []safety.ListName{safety.AllowList, safety.DenyList} {
			for n := 1; ; n++ {
				s := memstore.New()
				putOlder(t, s, safety.AllowList, "a")
				putOlder(t, s, safety.DenyList, "a")
				var w *watched
				w = &watched{Store: s, before: func(string) error {
					if len(w.since(0)) == n {
						set(t, &safety.Operators{Store: s, Older: true}, moved, "a")
					}
					return nil
				}}
				_, ids, err := (&safety.Operators{Store: w, Older: true}).ListIDs(t.Context(), name)
				require.NoError(t, err, "moved before read %d", n)
				require.Equal(t, []string{"a"}, ids, "moved before read %d", n)
				if len(w.since(0)) < n {
					break
				}
			}
		}
	}
}

// TestAnItemThatIsDamagedMeanwhileIsNotCleared damages the item after it was read, when there was no list to clear.
func TestAnItemThatIsDamagedMeanwhileIsNotCleared(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	w := &watched{Store: s}
	w.before = func(call string) error {
		if call == "get deny" {
			w.before = nil
			overwrite(t, s, safety.OperatorsKey, "{")
		}
		return nil
	}
	o := &safety.Operators{Store: w, Older: true}
	require.Equal(t, safety.Change{}, clearList(t, o, safety.DenyList))
	requireUnreadable(t, o)
	c := clearList(t, o, safety.DenyList)
	require.ErrorIs(t, c.Damaged, store.ErrDamaged)
	requireUnreadable(t, o, "the allow list of desktops: ")
	clearList(t, o, safety.AllowList)
	requireRefused(t, o, []string{"a"})
}

// TestAMoveOfListsThatIsCut interrupts each call of the first change of a list.
func TestAMoveOfListsThatIsCut(t *testing.T) {
	t.Parallel()
	was := map[safety.ListName][]string{safety.AllowList: {"a", "b", "d"}, safety.DenyList: {"d", "e"}}
	for name, c := range map[string]struct {
		name safety.ListName
		to   []string // nil: clear the list
	}{
		"allow set": {safety.AllowList, []string{"a", "c"}}, "deny set": {safety.DenyList, []string{"a"}},
		"allow cleared": {safety.AllowList, nil}, "deny cleared": {safety.DenyList, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			change := func(o *safety.Operators) (err error) {
				if c.to == nil {
					_, err = o.ClearList(t.Context(), c.name)
				} else {
					_, err = o.SetList(t.Context(), c.name, c.to, "ada@host")
				}
				return err
			}
			eachCut(t, func(t *testing.T, at cut) bool {
				s := memstore.New()
				fresh := func() *safety.Operators { return &safety.Operators{Store: s, Older: true} }
				for name, ids := range was {
					putOlder(t, s, name, slices.Clone(ids)...)
				}
				freeze := safety.Freeze{Reason: "storm", At: now}
				require.NoError(t, fresh().SetFreeze(t.Context(), freeze))
				want := maps.Clone(was)
				want[c.name] = c.to
				hold := func() map[safety.ListName][]string {
					t.Helper()
					all := map[safety.ListName][]string{}
					for name := range was {
						_, ids, err := fresh().ListIDs(t.Context(), name)
						require.NoError(t, err, "%v", at)
						all[name] = ids
					}
					return all
				}
				w, reached := cutAt(s, at)
				err := change(&safety.Operators{Store: w, Older: true})
				switch now := hold(); {
				case err == nil:
					require.Equal(t, want, now, "%v", at)
				case errors.Is(err, safety.ErrListUnknown):
					require.Contains(t, []map[safety.ListName][]string{was, want}, now, "%v", at)
				default:
					require.ErrorIs(t, err, errCut, "%v", at)
					require.Equal(t, was, now, "%v", at)
				}
				requireFrozen(t, fresh(), &freeze)
				require.NoError(t, change(fresh()), "%v: the change may be repeated", at)
				require.Equal(t, want, hold(), "%v", at)
				require.NoError(t, fresh().Thaw(t.Context()))
				require.Equal(t, want, hold(), "%v", at)
				refused, err := check(t, fresh(), "a", "b", "c", "d", "e")
				require.NoError(t, err)
				allow, deny := safety.Allow(want[safety.AllowList]), safety.Deny(want[safety.DenyList])
				if want[safety.AllowList] == nil {
					allow = nil
				}
				require.Equal(t, safety.Refuse([]string{"a", "b", "c", "d", "e"}, allow, deny), refused, "%v", at)
				return reached()
			})
		})
	}
}

// TestTheNextChangeRemovesThePagesOfAnInterruptedMove interrupts everything after the put of the item.
func TestTheNextChangeRemovesThePagesOfAnInterruptedMove(t *testing.T) {
	t.Parallel()
	f, s := openDynamo(t)
	putOlder(t, s, safety.AllowList, "a")
	putOlder(t, s, safety.DenyList, "d")
	stored := false
	w := &watched{Store: s, before: func(call string) error {
		if stored {
			return errCut
		}
		stored = call == "put freeze"
		return nil
	}}
	o := &safety.Operators{Store: w, Older: true}
	c, err := o.SetList(t.Context(), safety.AllowList, []string{"a", "b"}, "ada@host")
	require.NoError(t, err)
	require.Equal(t, 2, c.Left, "the pages of the old list")
	o = &safety.Operators{Store: s, Older: true}
	requireRefused(t, o, []string{"a", "b", "c", "d"}, "c", "d")
	set(t, o, safety.AllowList, "a")
	require.Equal(t, []string{"allow", "deny", "freeze", "lists.allow.*.0", "lists.deny.*.0", "lists.deny.*.1"}, keys(f))
}

func olderHeader(text string) func(*testing.T, store.Store, func(string), string) {
	return func(t *testing.T, s store.Store, _ func(string), key string) { overwrite(t, s, key, text) }
}

// TestADamagedListOfAnEarlierVersion stays damaged until it is set or cleared, and does not prevent changes of the
// other list.
func TestADamagedListOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, s store.Store, foreign func(string), key string){
		"the header is empty":          olderHeader(`{}`),
		"the header is something else": olderHeader(`[]`),
		"the header is null":           olderHeader(`null`),
		"the header is foreign":        func(_ *testing.T, _ store.Store, foreign func(string), key string) { foreign(key) },
		"the header counts otherwise": func(t *testing.T, s store.Store, _ func(string), key string) {
			edit(t, s, key, 7, "count")
		},
		"a page is something else": func(t *testing.T, s store.Store, _ func(string), key string) {
			overwrite(t, s, key+"/OLDER"+strings.ToUpper(key)+"/1", `["z"]`)
		},
		"a page is foreign": func(_ *testing.T, _ store.Store, foreign func(string), key string) {
			foreign(key + "/OLDER" + strings.ToUpper(key) + "/1")
		},
		"a page is missing": func(t *testing.T, s store.Store, _ func(string), key string) {
			page := key + "/OLDER" + strings.ToUpper(key) + "/1"
			_, rev, err := s.Get(t.Context(), page)
			require.NoError(t, err)
			require.NoError(t, s.Delete(t.Context(), page, rev))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onOlder(t, func(t *testing.T, s store.Store, foreign func(string)) {
				o := &safety.Operators{Store: s, Older: true}
				putOlder(t, s, safety.AllowList, "a", "b")
				putOlder(t, s, safety.DenyList, "d", "e")
				harm(t, s, foreign, "deny")
				requireUnreadable(t, o, "the deny list of desktops: ")
				_, _, err := o.ListIDs(t.Context(), safety.DenyList)
				require.ErrorIs(t, err, store.ErrDamaged)
				require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
				require.NoError(t, o.Thaw(t.Context()))
				requireUnreadable(t, o, "the deny list of desktops: ")
				set(t, o, safety.AllowList, "a", "b", "c")
				requireUnreadable(t, o, "the deny list of desktops: ") // it stays damaged when it is moved
				c := set(t, o, safety.DenyList, "b")
				require.Equal(t, 1, c.Now.Count)
				requireRefused(t, o, []string{"a", "b", "d"}, "b", "d")
			})
			t.Run("both", func(t *testing.T) {
				t.Parallel()
				onOlder(t, func(t *testing.T, s store.Store, foreign func(string)) {
					o := &safety.Operators{Store: s, Older: true}
					putOlder(t, s, safety.AllowList, "a", "b")
					putOlder(t, s, safety.DenyList, "d", "e")
					harm(t, s, foreign, "deny")
					harm(t, s, foreign, "allow")
					requireUnreadable(t, o)
					set(t, o, safety.AllowList, "a", "b")
					requireUnreadable(t, o, "the deny list of desktops: ")
					clearList(t, o, safety.DenyList)
					requireRefused(t, o, []string{"a", "d"}, "d")
				})
			})
		})
	}
}
