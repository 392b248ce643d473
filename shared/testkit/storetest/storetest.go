// Package storetest has the tests that every store.Store passes.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/store"
)

// Place is where values are kept, fresh for each test.
type Place interface {
	// Open opens a store on that place. All of them share the values.
	Open(t *testing.T) store.Store
}

// Restarter is a place that can be stopped and restarted. Stores opened before are unusable afterwards.
type Restarter interface {
	Restart(t *testing.T)
}

// Foreign is a place into which a test can put bytes that the store did not write, in several ways.
type Foreign interface {
	Foreign(t *testing.T, key string) []func()
}

// Run runs the tests. It calls start for a fresh place in each; start registers its own cleanup.
func Run(t *testing.T, start func(t *testing.T) Place) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Place)
	}{
		{"a stored value is read back", roundTrip},
		{"a value is created once", once},
		{"a value is replaced only if it is unchanged since it was read", compareAndSet},
		{"a value is deleted only if it is unchanged since it was read", deletes},
		{"of many puts one wins", oneWins},
		{"of many concurrent changes of one value none is lost", counting},
		{"keys are independent", apart},
		{"a value of 300 KB is kept", big},
		{"a context that has ended ends the call", ended},
		{"values outlive a restart", restart},
		{"several values are read at once", several},
		{"foreign bytes are damaged, never absent", foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, start(t))
		})
	}
}

// keys are examples of every form that recompose uses.
var keys = []string{
	strings.Repeat("a2", 26), "job/" + strings.Repeat("b3", 26), "freeze", "control/service", "lists.allow.ABC.0", "deny/ABC/0",
}

const key = "control/test"

func requireValue(t *testing.T, s store.Store, key, want string, rev store.Revision) {
	t.Helper()
	got, at, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	require.JSONEq(t, want, string(got))
	require.Equal(t, rev, at)
}

func roundTrip(t *testing.T, p Place) {
	s := p.Open(t)
	for i, k := range keys {
		_, rev, err := s.Get(t.Context(), k)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.Zero(t, rev)
		value := fmt.Sprintf(`{"n":%d,"text":"é\u001b <&> 日本"}`, i)
		rev, err = s.Put(t.Context(), k, []byte(value), 0)
		require.NoError(t, err)
		require.NotZero(t, rev)
		got, at, err := p.Open(t).Get(t.Context(), k)
		require.NoError(t, err)
		require.Equal(t, value, string(got), "byte for byte")
		require.Equal(t, rev, at)
	}
}

func once(t *testing.T, p Place) {
	a, b := p.Open(t), p.Open(t)
	first, err := a.Put(t.Context(), key, []byte(`{"by":"a"}`), 0)
	require.NoError(t, err)
	for _, s := range []store.Store{a, b} {
		_, err = s.Put(t.Context(), key, []byte(`{"by":"b"}`), 0)
		require.ErrorIs(t, err, store.ErrConflict)
	}
	requireValue(t, b, key, `{"by":"a"}`, first)
}

func compareAndSet(t *testing.T, p Place) {
	s := p.Open(t)
	first, err := s.Put(t.Context(), key, []byte(`{"n":1}`), 0)
	require.NoError(t, err)
	second, err := p.Open(t).Put(t.Context(), key, []byte(`{"n":2}`), first)
	require.NoError(t, err)
	require.Greater(t, second, first)
	_, err = s.Put(t.Context(), key, []byte(`{"n":3}`), first)
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = s.Put(t.Context(), "control/other", []byte(`{}`), second)
	require.ErrorIs(t, err, store.ErrConflict, "a missing value has no revision")
	requireValue(t, s, key, `{"n":2}`, second)
}

func deletes(t *testing.T, p Place) {
	s := p.Open(t)
	require.NoError(t, s.Delete(t.Context(), key, 7), "a missing value")
	require.NoError(t, s.Delete(t.Context(), key, 0))
	first, err := s.Put(t.Context(), key, []byte(`{"n":1}`), 0)
	require.NoError(t, err)
	second, err := s.Put(t.Context(), key, []byte(`{"n":2}`), first)
	require.NoError(t, err)
	require.ErrorIs(t, s.Delete(t.Context(), key, first), store.ErrConflict)
	requireValue(t, s, key, `{"n":2}`, second)
	require.NoError(t, s.Delete(t.Context(), key, second))
	_, rev, err := p.Open(t).Get(t.Context(), key)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.Zero(t, rev)
	require.NoError(t, s.Delete(t.Context(), key, second), "a delete may be repeated")
	_, err = s.Put(t.Context(), key, []byte(`{"n":3}`), second)
	require.ErrorIs(t, err, store.ErrConflict, "a deleted value has no revision")
	third, err := s.Put(t.Context(), key, []byte(`{"n":3}`), 0)
	require.NoError(t, err)
	requireValue(t, s, key, `{"n":3}`, third)
	_, err = s.Put(t.Context(), key, []byte(`{"n":4}`), 0)
	require.ErrorIs(t, err, store.ErrConflict)
}

func oneWins(t *testing.T, p Place) {
	const puts = 32
	stores := []store.Store{p.Open(t), p.Open(t), p.Open(t), p.Open(t)}
	old := store.Revision(0)
	for round := range 4 { // the first round creates the value, the others change it
		begin := make(chan struct{})
		won := make([]error, puts)
		revs := make([]store.Revision, puts)
		var all sync.WaitGroup
		for i := range puts {
			all.Go(func() {
				<-begin
				revs[i], won[i] = stores[i%len(stores)].Put(t.Context(), key, fmt.Appendf(nil, `{"by":"%d %d"}`, round, i), old)
			})
		}
		close(begin)
		all.Wait()
		winner := -1
		for i, err := range won {
			if err == nil {
				require.Equal(t, -1, winner, "two puts won")
				winner = i
			} else {
				require.ErrorIs(t, err, store.ErrConflict)
			}
		}
		require.NotEqual(t, -1, winner, "no put won")
		requireValue(t, stores[0], key, fmt.Sprintf(`{"by":"%d %d"}`, round, winner), revs[winner])
		old = revs[winner]
	}
}

func counting(t *testing.T, p Place) {
	const workers, each = 8, 10
	var all sync.WaitGroup
	faults := make(chan error, workers)
	for range workers {
		s := p.Open(t)
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
	got, _, err := p.Open(t).Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf(`{"n":%d}`, workers*each), string(got))
}

func increase(ctx context.Context, s store.Store) error {
	for {
		value, rev, err := s.Get(ctx, key)
		n := 0
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		default:
			if _, err := fmt.Fscanf(bytes.NewReader(value), `{"n":%d}`, &n); err != nil {
				return err
			}
		}
		if _, err = s.Put(ctx, key, fmt.Appendf(nil, `{"n":%d}`, n+1), rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func apart(t *testing.T, p Place) {
	s := p.Open(t)
	revs := map[string]store.Revision{}
	for _, k := range keys {
		rev, err := s.Put(t.Context(), k, []byte(`{"key":"`+k+`"}`), 0)
		require.NoError(t, err)
		revs[k] = rev
	}
	require.NoError(t, s.Delete(t.Context(), keys[0], revs[keys[0]]))
	for _, k := range keys[1:] {
		requireValue(t, s, k, `{"key":"`+k+`"}`, revs[k])
		_, err := s.Put(t.Context(), k, []byte(`{}`), revs[k])
		require.NoError(t, err, "changes of other values are not a conflict")
	}
}

func several(t *testing.T, p Place) {
	s := p.Open(t)
	require.Empty(t, s.GetAll(t.Context()))
	damaged := -1
	if f, ok := p.(Foreign); ok {
		damaged = 2
		f.Foreign(t, keys[damaged])[0]()
	}
	for i, k := range keys {
		if i == 0 || i == damaged {
			continue
		}
		rev, err := s.Put(t.Context(), k, []byte(`{"key":"`+k+`"}`), 0)
		require.NoError(t, err)
		if i == 1 {
			require.NoError(t, s.Delete(t.Context(), k, rev))
		}
	}
	got := p.Open(t).GetAll(t.Context(), keys...)
	require.Len(t, got, len(keys))
	for i, v := range got {
		data, rev, err := s.Get(t.Context(), keys[i])
		require.Equal(t, data, v.Data, keys[i])
		require.Equal(t, rev, v.Revision, keys[i])
		switch {
		case i < 2:
			require.ErrorIs(t, v.Err, store.ErrNotFound)
		case i == damaged:
			require.ErrorIs(t, v.Err, store.ErrDamaged)
			require.ErrorIs(t, err, store.ErrDamaged)
		default:
			require.NoError(t, v.Err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, v := range s.GetAll(ctx, keys...) {
		require.ErrorIs(t, v.Err, context.Canceled)
		require.NotErrorIs(t, v.Err, store.ErrNotFound, "a failed read does not mean absent")
	}
}

func big(t *testing.T, p Place) {
	s := p.Open(t)
	value := `{"x":"` + strings.Repeat("x", store.MaxValue-8) + `"}`
	require.Len(t, value, store.MaxValue)
	rev, err := s.Put(t.Context(), key, []byte(value), 0)
	require.NoError(t, err)
	got, at, err := p.Open(t).Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, rev, at)
	require.Equal(t, value, string(got))
}

func ended(t *testing.T, p Place) {
	s := p.Open(t)
	rev, err := s.Put(t.Context(), key, []byte(`{"n":1}`), 0)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = s.Get(ctx, key)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, store.ErrNotFound, "a failed read does not mean absent")
	_, err = s.Put(ctx, key, []byte(`{"n":2}`), rev)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, store.ErrConflict)
	require.ErrorIs(t, s.Delete(ctx, key, rev), context.Canceled)
	requireValue(t, s, key, `{"n":1}`, rev)
}

func restart(t *testing.T, p Place) {
	r, ok := p.(Restarter)
	if !ok {
		return // this store keeps nothing beyond the process, as documented
	}
	rev, err := p.Open(t).Put(t.Context(), key, []byte(`{"n":1}`), 0)
	require.NoError(t, err)
	r.Restart(t)
	s := p.Open(t)
	requireValue(t, s, key, `{"n":1}`, rev)
	_, err = s.Put(t.Context(), key, []byte(`{"n":2}`), 0)
	require.ErrorIs(t, err, store.ErrConflict)
}

func foreign(t *testing.T, p Place) {
	f, ok := p.(Foreign)
	if !ok {
		return // no other process can write to it
	}
	s := p.Open(t)
	puts := f.Foreign(t, key)
	require.NotEmpty(t, puts)
	for i, put := range puts {
		put()
		_, rev, err := s.Get(t.Context(), key)
		require.ErrorIs(t, err, store.ErrDamaged, "way %d", i)
		require.NotErrorIs(t, err, store.ErrNotFound)
		require.NotZero(t, rev)
		_, err = s.Put(t.Context(), key, []byte(`{"n":1}`), 0)
		require.ErrorIs(t, err, store.ErrConflict, "way %d: the value is not absent", i)
		next, err := s.Put(t.Context(), key, []byte(`{"n":2}`), rev)
		require.NoError(t, err, "way %d: the value can be replaced", i)
		requireValue(t, s, key, `{"n":2}`, next)

		put()
		_, rev, err = s.Get(t.Context(), key)
		require.ErrorIs(t, err, store.ErrDamaged)
		require.NoError(t, s.Delete(t.Context(), key, rev), "way %d: the value can be deleted", i)
		_, _, err = s.Get(t.Context(), key)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
}
