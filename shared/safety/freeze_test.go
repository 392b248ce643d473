package safety_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/embednats"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/store/natsstore"
)

func TestFreezeAndThaw(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		a, b := &safety.Operators{Store: s}, &safety.Operators{Store: s}
		inForce := func(want *safety.Freeze) {
			t.Helper()
			for _, o := range []*safety.Operators{a, b} {
				requireFrozen(t, o, want)
				_, err := check(t, o, "a")
				if want == nil {
					require.NoError(t, err)
				} else {
					requireStop(t, err, safety.Frozen, want.Reason, want.By)
				}
			}
		}
		inForce(nil)
		require.NoError(t, a.Thaw(t.Context()), "a thaw may be repeated")
		first := safety.Freeze{Reason: "an image is wrong: \x1b \"日本\"", By: "ada@host", At: now.Add(5)}
		require.NoError(t, a.SetFreeze(t.Context(), first))
		inForce(&first)
		second := safety.Freeze{Reason: "and another one", By: "bob@host", At: now.Add(time.Minute)}
		require.NoError(t, b.SetFreeze(t.Context(), second))
		require.NoError(t, b.SetFreeze(t.Context(), second))
		inForce(&second)
		require.NoError(t, a.Thaw(t.Context()))
		require.NoError(t, b.Thaw(t.Context()))
		inForce(nil)
		_, _, err := s.Get(t.Context(), safety.OperatorsKey)
		require.ErrorIs(t, err, store.ErrNotFound, "nothing is set, and nothing is stored")
		require.NoError(t, a.SetFreeze(t.Context(), first), "a second freeze")
		inForce(&first)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = a.Frozen(ctx)
		require.ErrorIs(t, err, context.Canceled, "an unreadable freeze is an error, not an absent one")
		requireStop(t, safety.New(safety.Options{Operators: a}).Check(ctx, []string{"a"}), safety.Unreadable)
		require.ErrorIs(t, a.SetFreeze(ctx, second), context.Canceled)
		require.ErrorIs(t, a.Thaw(ctx), context.Canceled)
		inForce(&first)
	})
}

func TestTheSettingsOutliveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: now}
	session := func(do func(o *safety.Operators)) {
		srv, err := embednats.Start(embednats.Options{StoreDir: dir})
		require.NoError(t, err)
		defer func() { require.NoError(t, srv.Close()) }()
		nc, err := srv.Connect()
		require.NoError(t, err)
		defer nc.Close()
		s, err := natsstore.Open(t.Context(), nc, natsstore.Options{})
		require.NoError(t, err)
		do(&safety.Operators{Store: s})
	}
	session(func(o *safety.Operators) {
		require.NoError(t, o.SetFreeze(t.Context(), freeze))
		set(t, o, safety.AllowList, "a", "d")
		set(t, o, safety.DenyList, "d")
	})
	session(func(o *safety.Operators) {
		requireFrozen(t, o, &freeze)
		require.NoError(t, o.Thaw(t.Context()))
	})
	session(func(o *safety.Operators) { requireRefused(t, o, []string{"a", "b", "d"}, "b", "d") })
}

func TestAFreezeWithoutATimeIsInForce(t *testing.T) {
	t.Parallel()
	o := &safety.Operators{Store: memstore.New()}
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{}))
	requireFrozen(t, o, &safety.Freeze{})
	_, err := check(t, o)
	requireStop(t, err, safety.Frozen)
}

func TestDeploymentsAreFrozenSeparately(t *testing.T) {
	t.Parallel()
	nc, s := openNATS(t)
	production, err := natsstore.Open(t.Context(), nc, natsstore.Options{})
	require.NoError(t, err)
	require.NoError(t, (&safety.Operators{Store: s}).SetFreeze(t.Context(), safety.Freeze{Reason: "r"}))
	requireFrozen(t, &safety.Operators{Store: production}, nil)
}

func TestWithoutTheBucketWritesWait(t *testing.T) {
	t.Parallel()
	nc, s := openNATS(t)
	o := &safety.Operators{Store: s}
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), s.Bucket())
	require.NoError(t, err)
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "r"}))
	require.NoError(t, kv.Purge(t.Context(), safety.OperatorsKey), "by hand")
	requireFrozen(t, o, nil)

	require.NoError(t, js.DeleteKeyValue(t.Context(), s.Bucket()))
	_, err = o.Frozen(t.Context())
	require.Error(t, err)
	requireUnreadable(t, o, "whether writes are frozen")
	_, err = safety.New(safety.Options{Operators: o}).Describe(t.Context())
	require.Error(t, err)
}

func TestAStoreThatCannotBeReadStopsWrites(t *testing.T) {
	t.Parallel()
	for _, older := range []bool{false, true} {
		w := &watched{Store: memstore.New(), before: func(call string) error {
			if strings.HasPrefix(call, "get ") {
				return errCut
			}
			return nil
		}}
		o := &safety.Operators{Store: w, Older: older}
		_, err := o.Frozen(t.Context())
		require.ErrorIs(t, err, errCut)
		requireUnreadable(t, o, errCut.Error(), "whether writes are frozen")
		_, _, err = o.ListIDs(t.Context(), safety.AllowList)
		require.ErrorIs(t, err, errCut)
		_, err = safety.New(safety.Options{Operators: o}).Describe(t.Context())
		require.ErrorIs(t, err, errCut)
		require.ErrorIs(t, o.Thaw(t.Context()), errCut)
		require.ErrorIs(t, o.SetService(t.Context(), other), errCut)
		_, err = o.SetList(t.Context(), safety.DenyList, nil, "ada@host")
		require.ErrorIs(t, err, errCut)
		_, err = o.ClearList(t.Context(), safety.DenyList)
		require.ErrorIs(t, err, errCut)

		first := safety.Freeze{Reason: "storm", At: now}
		require.NoError(t, o.SetFreeze(t.Context(), first), "a freeze needs no read")
		err = o.SetFreeze(t.Context(), safety.Freeze{Reason: "calm", At: now})
		require.ErrorIs(t, err, errCut, "a freeze does not replace an item that cannot be read")
		require.ErrorContains(t, err, "the stored freeze or lists cannot be read")
		w.before = nil
		requireFrozen(t, o, &first)
	}
}

var (
	own   = events.Service{Kind: events.ServiceReal, Host: "w.example.org", Project: "p1"}
	other = events.Service{Kind: events.ServiceReal, Host: "w.example.org", Project: "p2"}
)

func TestAWorkerOfAnotherServiceBeginsNoWrite(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		o := &safety.Operators{Store: s}
		worker := safety.New(safety.Options{Operators: o, Service: own})
		require.NoError(t, worker.Check(t.Context(), []string{"a"}), "none is set")
		require.NoError(t, o.SetService(t.Context(), other))
		err := worker.Check(t.Context(), []string{"a"})
		requireStop(t, err, safety.OtherService, own.Name(), other.Name(), "--accept-service")
		require.NoError(t, safety.New(safety.Options{Operators: o, Service: other}).Check(t.Context(), []string{"a"}))

		freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: now}
		require.NoError(t, o.SetFreeze(t.Context(), freeze))
		requireStop(t, worker.Check(t.Context(), nil), safety.Frozen)
		set(t, o, safety.DenyList, "d")
		require.NoError(t, o.Thaw(t.Context()))
		clearList(t, o, safety.DenyList)
		requireStop(t, worker.Check(t.Context(), nil), safety.OtherService)
		require.NoError(t, o.SetFreeze(t.Context(), freeze))
		require.NoError(t, o.SetService(t.Context(), own))
		requireFrozen(t, o, &freeze)
		require.NoError(t, o.Thaw(t.Context()))
		require.NoError(t, worker.Check(t.Context(), []string{"a", "d"}))
		emulator := events.Service{Kind: events.ServiceEmulator, Project: own.Project}
		err = safety.New(safety.Options{Operators: o, Service: emulator}).Check(t.Context(), nil)
		requireStop(t, err, safety.OtherService)
	})
}

// TestChangesOfAllKindsAtOnce makes concurrent freezes, thaws, and changes of the lists and the service: no change
// undoes a change of another kind.
func TestChangesOfAllKindsAtOnce(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		const times = 8
		var all sync.WaitGroup
		faults := make(chan error, 4)
		person := func(do func(o *safety.Operators) error) {
			o := &safety.Operators{Store: s}
			all.Go(func() {
				for range times {
					if err := do(o); err != nil {
						faults <- err
						return
					}
				}
			})
		}
		person(func(o *safety.Operators) error {
			return errors.Join(o.Thaw(t.Context()), o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
		})
		for _, name := range []safety.ListName{safety.AllowList, safety.DenyList} {
			person(func(o *safety.Operators) error {
				_, cleared := o.ClearList(t.Context(), name)
				_, err := o.SetList(t.Context(), name, []string{string(name)}, "ada@host")
				return errors.Join(cleared, err)
			})
		}
		person(func(o *safety.Operators) error { return o.SetService(t.Context(), own) })
		all.Wait()
		close(faults)
		for err := range faults {
			require.NoError(t, err)
		}
		o := &safety.Operators{Store: s}
		requireFrozen(t, o, &safety.Freeze{Reason: "storm", At: now})
		require.NoError(t, o.Thaw(t.Context()))
		err := safety.New(safety.Options{Operators: o, Service: own}).Check(t.Context(), []string{"allow", "deny", "x"})
		refused := new(safety.NotAllowed)
		require.ErrorAs(t, err, &refused)
		require.Equal(t, []string{"deny", "x"}, refused.Desktops)
		requireStop(t, safety.New(safety.Options{Operators: o, Service: other}).Check(t.Context(), nil), safety.OtherService)
	})
}

// TestAFreezeThatIsCut interrupts each call of a freeze, a thaw and a change of the service.
func TestAFreezeThatIsCut(t *testing.T) {
	t.Parallel()
	freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: now}
	for name, c := range map[string]struct {
		frozen bool // before
		do     func(ctx context.Context, o *safety.Operators) error
	}{
		"freeze":  {false, func(ctx context.Context, o *safety.Operators) error { return o.SetFreeze(ctx, freeze) }},
		"thaw":    {true, func(ctx context.Context, o *safety.Operators) error { return o.Thaw(ctx) }},
		"service": {true, func(ctx context.Context, o *safety.Operators) error { return o.SetService(ctx, own) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachCut(t, func(t *testing.T, at cut) bool {
				s := memstore.New()
				o := &safety.Operators{Store: s}
				set(t, o, safety.DenyList, "d")
				if c.frozen {
					require.NoError(t, o.SetFreeze(t.Context(), freeze))
				}
				w, reached := cutAt(s, at)
				err := c.do(t.Context(), &safety.Operators{Store: w})
				if err == nil {
					require.NoError(t, c.do(t.Context(), o))
				} else {
					require.ErrorIs(t, err, errCut, "%v", at)
				}
				_, ids, err := o.ListIDs(t.Context(), safety.DenyList)
				require.NoError(t, err, "%v", at)
				require.Equal(t, []string{"d"}, ids, "%v", at)
				require.NoError(t, c.do(t.Context(), o), "the change may be repeated")
				want := &freeze
				if name == "thaw" {
					want = nil
				}
				requireFrozen(t, o, want)
				return reached()
			})
		})
	}
}
