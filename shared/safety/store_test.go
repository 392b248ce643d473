package safety_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/shared/embednats"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/dynamostore"
	"recompose/shared/store/memstore"
	"recompose/shared/store/natsstore"
	"recompose/shared/testkit/dynamotest"
	"recompose/shared/testkit/natstest"
)

var now = time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)

func clock() time.Time { return now }

// watched is a store that records its calls, and can be made to fail.
type watched struct {
	store.Store
	before func(call string) error // runs before each call; an error: the call is not made
	after  func(call string) error // runs after each call; an error: its answer is lost

	last bool // of several values, the last is read first

	mu    sync.Mutex // guards the fields below
	calls []string   // "get freeze"
	trips int        // round trips of reads
}

func (w *watched) Get(ctx context.Context, key string) (data []byte, rev store.Revision, err error) {
	w.mu.Lock()
	w.trips++
	w.mu.Unlock()
	return w.get(ctx, key)
}

// GetAll reads the values one by one, so that a test can act between two of them.
func (w *watched) GetAll(ctx context.Context, keys ...string) []store.Value {
	w.mu.Lock()
	w.trips++
	w.mu.Unlock()
	values := make([]store.Value, len(keys))
	for i := range keys {
		if w.last {
			i = len(keys) - 1 - i
		}
		v := &values[i]
		v.Data, v.Revision, v.Err = w.get(ctx, keys[i])
	}
	return values
}

func (w *watched) get(ctx context.Context, key string) (data []byte, rev store.Revision, err error) {
	err = w.call("get "+key, func() (err error) { data, rev, err = w.Store.Get(ctx, key); return err })
	return data, rev, err
}

func (w *watched) Put(ctx context.Context, key string, data []byte, old store.Revision) (rev store.Revision, err error) {
	err = w.call("put "+key, func() (err error) { rev, err = w.Store.Put(ctx, key, data, old); return err })
	return rev, err
}

func (w *watched) Delete(ctx context.Context, key string, old store.Revision) error {
	return w.call("delete "+key, func() error { return w.Store.Delete(ctx, key, old) })
}

func (w *watched) call(name string, do func() error) error {
	w.mu.Lock()
	w.calls = append(w.calls, name)
	w.mu.Unlock()
	if w.before != nil {
		if err := w.before(name); err != nil {
			return err
		}
	}
	err := do()
	if w.after != nil {
		if lost := w.after(name); lost != nil {
			return lost
		}
	}
	return err
}

// since returns the calls after the first n.
func (w *watched) since(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls[n:])
}

// errCut is the error of an interrupted call.
var errCut = errors.New("no answer")

// cut is the point at which calls to a store are interrupted.
type cut struct {
	n    int  // the call, from 1
	done bool // the call is executed, and its answer lost
	dead bool // no call after it is made: the process ends here
}

func (c cut) String() string { return fmt.Sprintf("call %d, done %v, dead %v", c.n, c.done, c.dead) }

// cutAt returns a store with an interrupted call, and a function that reports whether that call was made.
func cutAt(s store.Store, c cut) (w *watched, reached func() bool) {
	w = &watched{Store: s}
	made := func() int { return len(w.since(0)) }
	w.before = func(string) error {
		if n := made(); n == c.n && !c.done || n > c.n && c.dead {
			return errCut
		}
		return nil
	}
	w.after = func(string) error {
		if made() == c.n {
			return errCut
		}
		return nil
	}
	return w, func() bool { return made() >= c.n }
}

// eachCut runs a test once for each call that it makes, interrupted before or after its execution, with and without
// the end of the process. The test reports whether it has made the call.
func eachCut(t *testing.T, test func(t *testing.T, c cut) bool) {
	t.Helper()
	const most = 60
	for _, c := range []cut{{}, {done: true}, {dead: true}, {done: true, dead: true}} {
		for c.n = 1; test(t, c); c.n++ {
			require.Less(t, c.n, most, "the test makes too many calls")
		}
		require.Greater(t, c.n, 2, "the test makes too few calls")
	}
}

// kind is a kind of store.
type kind struct {
	name string
	open func(t *testing.T) (s store.Store, foreign func(key string))
}

// kinds returns the kinds of stores. The function foreign puts foreign bytes in the place of a value.
var kinds = []kind{
	{"in memory", func(t *testing.T) (store.Store, func(string)) {
		s := memstore.New()
		return s, func(key string) { overwrite(t, s, key, "\x00") }
	}},
	{"on DynamoDB", func(t *testing.T) (store.Store, func(string)) {
		f, s := openDynamo(t)
		return s, func(key string) { f.Items[key] = dynamotest.Item{"pk": {"S": key}} }
	}},
	{"on NATS", func(t *testing.T) (store.Store, func(string)) {
		nc, s := openNATS(t)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		return s, func(key string) {
			_, err := js.Publish(t.Context(), s.Subject(key), []byte(`{"type":"io.nats.jetstream.api.v1.stream_info_response"}`))
			require.NoError(t, err)
		}
	}},
}

// onEach runs a test on a store of each kind.
func onEach(t *testing.T, test func(t *testing.T, s store.Store, foreign func(key string))) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s, foreign := k.open(t)
			test(t, s, foreign)
		})
	}
}

func openDynamo(t *testing.T) (*dynamotest.Fake, *dynamostore.Store) {
	t.Helper()
	f := dynamotest.Start(t)
	s, err := dynamostore.New(dynamoOptions(f))
	require.NoError(t, err)
	return f, s
}

func dynamoOptions(f *dynamotest.Fake) dynamostore.Options {
	return dynamostore.Options{Config: f.Config(), Table: "ledger", Now: clock}
}

func openNATS(t *testing.T) (*nats.Conn, *natsstore.Store) {
	t.Helper()
	nc := natstest.Start(t, embednats.Options{}).Conn
	s, err := natsstore.Open(t.Context(), nc, natsstore.Options{Deployment: "test"})
	require.NoError(t, err)
	return nc, s
}

// overwrite replaces a value with other bytes.
func overwrite(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	_, rev, err := s.Get(t.Context(), key)
	if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged) {
		require.NoError(t, err)
	}
	_, err = s.Put(t.Context(), key, []byte(value), rev)
	require.NoError(t, err)
}

// edit changes a member of a stored JSON object, at a path.
func edit(t *testing.T, s store.Store, key string, to any, path ...string) {
	t.Helper()
	data, _, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	var all map[string]any
	require.NoError(t, json.Unmarshal(data, &all))
	at := all
	for _, member := range path[:len(path)-1] {
		at = at[member].(map[string]any)
	}
	at[path[len(path)-1]] = to
	data, err = json.Marshal(all)
	require.NoError(t, err)
	overwrite(t, s, key, string(data))
}

// keys returns the keys of a table, without the random part of a page's key.
func keys(f *dynamotest.Fake) []string {
	all := []string{}
	for k := range f.Items {
		for _, separator := range "./" {
			if parts := strings.Split(k, string(separator)); len(parts) >= 3 {
				parts[len(parts)-2] = "*"
				k = strings.Join(parts, string(separator))
			}
		}
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// check checks a write, and returns the desktops that must not be written to.
func check(t *testing.T, o *safety.Operators, ids ...string) ([]string, error) {
	t.Helper()
	err := safety.New(safety.Options{Operators: o}).Check(t.Context(), ids)
	if refused, ok := errors.AsType[*safety.NotAllowed](err); ok {
		require.NotEmpty(t, refused.Desktops)
		return refused.Desktops, nil
	}
	return nil, err
}

func requireRefused(t *testing.T, o *safety.Operators, ids []string, want ...string) {
	t.Helper()
	refused, err := check(t, o, ids...)
	require.NoError(t, err)
	require.Equal(t, want, refused)
}

// requireStop requires that writes wait.
func requireStop(t *testing.T, err error, reason string, parts ...string) {
	t.Helper()
	stop, ok := errors.AsType[*safety.Stop](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, reason, stop.Reason, "%v", err)
	for _, part := range parts {
		require.ErrorContains(t, err, part)
	}
}

func requireUnreadable(t *testing.T, o *safety.Operators, parts ...string) {
	t.Helper()
	_, err := check(t, o, "a")
	requireStop(t, err, safety.Unreadable, parts...)
}

func set(t *testing.T, o *safety.Operators, name safety.ListName, ids ...string) safety.Change {
	t.Helper()
	c, err := o.SetList(t.Context(), name, ids, "ada@host")
	require.NoError(t, err)
	require.Zero(t, c.Left)
	return c
}

func clearList(t *testing.T, o *safety.Operators, name safety.ListName) safety.Change {
	t.Helper()
	c, err := o.ClearList(t.Context(), name)
	require.NoError(t, err)
	require.Zero(t, c.Left)
	return c
}

func requireFrozen(t *testing.T, o *safety.Operators, want *safety.Freeze) {
	t.Helper()
	f, err := o.Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, f)
}

// desktops returns n ids that differ from each other and from those with another prefix.
func desktops(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%08x-0000-4000-8000-%012x", prefix, i*7919%(1<<30), i)
	}
	return ids
}
