package once_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/rollout"
	"recompose/shared/rollout/fence"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/workspace"
)

// records are records of rollouts, of which some cannot be read. It counts the reads.
type records struct {
	*memstore.Store
	unreadable string
	trips      int
}

func (r *records) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	r.trips++
	if key == r.unreadable {
		return nil, 0, errStore
	}
	return r.Store.Get(ctx, key)
}

func (r *records) GetAll(ctx context.Context, keys ...string) []store.Value {
	r.trips++
	values := r.Store.GetAll(ctx, keys...)
	for i, key := range keys {
		if key == r.unreadable {
			values[i] = store.Value{Err: errStore}
		}
	}
	return values
}

const (
	head7     = `{"name":"win11","phase":"running","plan":2,"open":{"7":{"attempt":3,"state":"sent"}}}`
	attribute = "win11/2/7/3"
)

func TestTheRolloutsAreReadDirectlyBeforeACall(t *testing.T) {
	t.Parallel()
	live, claims := rollout.LiveKey, rollout.ClaimKey(fence.ClaimPart("d-1"))
	head := rollout.HeadKey("win11")
	holds := map[string]string{live: `{"names":["win11"]}`, claims: `{"desktops":{"d-1":"win11","d-9":"other"}}`, head: head7}
	with := func(key, value string) map[string]string {
		changed := map[string]string{}
		maps.Copy(changed, holds)
		changed[key] = value
		return changed
	}
	batch := func(of string) func(*once.Command) {
		return func(c *once.Command) { c.Envelope.Rollout, c.Batch = of, true }
	}
	plain := func(*once.Command) {}
	for name, test := range map[string]struct {
		records map[string]string
		command func(*once.Command)
		lost    string // a key that cannot be read
		kind    string // of the failure with which it ends
		text    string
		waits   bool
		trips   int
	}{
		"no rollout":                       {nil, plain, "", "", "", false, 2},
		"without the list of rollouts":     {with(live, ""), plain, "", events.KindConflict, "rollout win11 holds d-1: take them out with", false, 3},
		"without the list, and it is over": {map[string]string{claims: holds[claims], head: `{"phase":"completed"}`}, plain, "", "", "", false, 3},
		"none lives":                       {with(live, `{"names":[]}`), plain, "", "", "", false, 1},
		"one holds another desktop":        {with(claims, `{"desktops":{"d-9":"win11"}}`), plain, "", "", "", false, 2},
		"one holds it":                     {holds, plain, "", events.KindConflict, "rollout win11 holds d-1: take them out with", false, 3},
		"one holds it, paused":             {with(head, `{"phase":"paused"}`), plain, "", events.KindConflict, "rollout win11 holds d-1", false, 3},
		"a claim of one that is over":      {with(head, `{"phase":"completed"}`), plain, "", "", "", false, 3},
		"a claim of one without a head":    {with(claims, `{"desktops":{"d-1":"gone"}}`), plain, "", events.KindConflict, "rollout gone holds d-1", false, 3},
		"overridden":                       {holds, func(c *once.Command) { c.Override = true }, "", "", "", false, 0},
		"a capture of the holder":          {holds, func(c *once.Command) { c.Envelope.Rollout = "win11/1/0/0" }, "", "", "", false, 2},
		"a capture of another rollout":     {holds, func(c *once.Command) { c.Envelope.Rollout = "win10/1/0/0" }, "", events.KindConflict, "rollout win11 holds d-1", false, 3},
		"the list of rollouts is lost":     {holds, plain, live, "", "", true, 1},
		"the list of rollouts is no JSON":  {with(live, "{"), plain, "", "", "", true, 1},
		"the claims are lost":              {holds, plain, claims, "", "", true, 2},
		"the head is lost":                 {holds, plain, head, "", "", true, 3},

		"a batch":                      {holds, batch(attribute), "", "", "", false, 1},
		"a batch of an earlier plan":   {holds, batch("win11/1/7/3"), "", events.KindExpired, "rollout: the command is of plan 1 of rollout win11", false, 1},
		"a batch of a paused rollout":  {with(head, `{"name":"win11","phase":"paused"}`), batch(attribute), "", events.KindExpired, "rollout: rollout win11 is paused", false, 1},
		"a batch of no rollout":        {nil, batch(attribute), "", events.KindExpired, "there is no rollout win11", false, 1},
		"a batch with a strange value": {holds, batch("win11"), "", events.KindExpired, "must be name/plan/batch/attempt", false, 0},
		"a batch, its head is lost":    {holds, batch(attribute), head, "", "", true, 1},
		"a batch, its head is no JSON": {with(head, "{"), batch(attribute), "", "", "", true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			kept := &records{Store: memstore.New(), unreadable: test.lost}
			for key, value := range test.records {
				if value == "" {
					continue
				}
				_, err := kept.Put(t.Context(), key, []byte(value), 0)
				require.NoError(t, err)
			}
			b.Rollouts = kept
			f := b.call(accept)
			test.command(&f.c)
			_, err := b.do(t, f)
			require.Equal(t, test.trips, kept.trips)
			switch {
			case test.waits:
				wait := new(queue.RetryError)
				require.ErrorAs(t, err, &wait)
				require.ErrorContains(t, err, "the records of rollouts")
				require.Zero(t, b.sends.Load())
				require.Equal(t, once.Free, once.StateOf(b.record(t, f)), "it is tried once more")
			case test.kind != "":
				require.NoError(t, err)
				failed := failure(t, b.record(t, f))
				require.Equal(t, test.kind, failed.Error.Kind)
				require.Contains(t, failed.Error.ErrorMsg, test.text)
				require.Equal(t, events.EffectNone, failed.Effect)
				require.Zero(t, b.sends.Load())
			default:
				require.NoError(t, err)
				require.EqualValues(t, 1, b.sends.Load())
			}
		})
	}
}

// It is not known whether the service takes an id in another letter case for the same desktop.
func TestAClaimHoldsInEveryLetterCase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Rollouts = memstore.New()
	for key, value := range map[string]string{
		rollout.LiveKey: `{"names":["win11"]}`, rollout.HeadKey("win11"): head7,
		rollout.ClaimKey(fence.ClaimPart("d-1")): `{"desktops":{"d-1":"win11"}}`,
	} {
		_, err := b.Rollouts.Put(t.Context(), key, []byte(value), 0)
		require.NoError(t, err)
	}
	f := b.call(accept)
	f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
		return ledger.Detail{DesktopIDs: []string{"D-1"}}, nil, nil
	}
	_, err := b.do(t, f)
	require.NoError(t, err)
	require.Contains(t, failure(t, b.record(t, f)).Error.ErrorMsg, "rollout win11 holds D-1")
	require.Zero(t, b.sends.Load())
}

func refuse(err error) func(context.Context, time.Time) (workspace.Accepted, error) {
	return func(context.Context, time.Time) (workspace.Accepted, error) { return workspace.Accepted{}, err }
}

// An end by the rollout comes before a wait for a thaw; an end by the lists comes first.
func TestWhatEndsACommandComesBeforeWhatDelaysIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	values := memstore.New()
	operators := &safety.Operators{Store: values}
	b.Safety, b.Rollouts = safety.New(safety.Options{Operators: operators}), memstore.New()
	f := b.call(accept)
	f.c.Envelope.Rollout, f.c.Batch = attribute, true
	f.prepare = func(ctx context.Context) (ledger.Detail, *queue.Outcome, error) {
		return ledger.Detail{DesktopIDs: []string{"d-1"}}, nil, operators.SetFreeze(ctx, safety.Freeze{Reason: "storm"})
	}
	_, err := b.do(t, f)
	require.NoError(t, err)
	require.Equal(t, events.KindExpired, failure(t, b.record(t, f)).Error.Kind)

	_, err = operators.SetList(t.Context(), safety.DenyList, []string{"d-1"}, "ada")
	require.NoError(t, err)
	require.NoError(t, operators.Thaw(t.Context()))
	second := b.call(accept).named("c2")
	second.c.Envelope.Rollout, second.c.Batch = attribute, true
	_, err = b.do(t, second)
	require.NoError(t, err)
	require.Equal(t, events.KindNotAllowed, failure(t, b.record(t, second)).Error.Kind)
	require.Zero(t, b.sends.Load())
}

// A command whose expirytime passes while it waits ends without a call, whatever it waits for.
func TestACommandThatExpiresWhileItWaits(t *testing.T) {
	t.Parallel()
	const after = 10 * time.Minute
	for name, waits := range map[string]func(t *testing.T, b *bench, f *fake){
		"for a thaw": func(t *testing.T, b *bench, _ *fake) {
			operators := &safety.Operators{Store: memstore.New()}
			require.NoError(t, operators.SetFreeze(t.Context(), safety.Freeze{Reason: "storm"}))
			b.Safety = safety.New(safety.Options{Operators: operators})
		},
		"for a busy desktop": func(_ *testing.T, _ *bench, f *fake) {
			f.send = refuse(errConflict)
		},
		"for a busy batch": func(_ *testing.T, _ *bench, f *fake) {
			f.send = refuse(errConflict)
			f.c.DesktopIDs = []string{"d-1", "d-2"}
			f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
				return ledger.Detail{DesktopIDs: f.c.DesktopIDs}, nil, nil
			}
			f.divide = func(bool) (*queue.Outcome, error) {
				return nil, queue.RetryAfter(2*time.Minute, errors.New("all desktops are busy"))
			}
		},
		"for its turn": func(_ *testing.T, _ *bench, f *fake) {
			f.send = refuse(errBusy)
		},
		"for its rollout's record": func(_ *testing.T, b *bench, _ *fake) {
			b.Rollouts = &records{Store: memstore.New(), unreadable: rollout.LiveKey}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			f := b.call(accept)
			f.c.Envelope.Expiry = b.clock.Now().Add(after)
			waits(t, b, f)
			begun := b.clock.Now()
			record, _ := b.follow(t, f)
			failed := failure(t, record)
			require.Equal(t, events.KindExpired, failed.Error.Kind)
			require.Equal(t, events.EffectNone, failed.Effect)
			require.Less(t, b.clock.Now().Sub(begun), after+3*time.Minute)
		})
	}
}

// With when_busy fail a conflict ends the command after the look that proves that it is no effect of an earlier delivery.
func TestABusyDesktopEndsACommandThatDoesNotWait(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(b *bench, f *fake)
		effect string // "": the job of the call was found
	}{
		"busy": {func(*bench, *fake) {}, events.EffectNone},
		"with a changed disk": {func(_ *bench, f *fake) {
			f.unchanged = func() (bool, string, error) { return false, "it has another disk", nil }
		}, events.EffectUnknown},
		"by an earlier copy of the call": {func(b *bench, f *fake) {
			f.find = func(time.Time) (once.Found, error) { return b.job("job-1"), nil }
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			f := b.call(accept)
			f.send = refuse(errConflict)
			f.c.FailBusy = true
			test.change(b, f)
			record, waits := b.follow(t, f)
			require.EqualValues(t, 1, b.sends.Load(), "it does not ask once more")
			require.Len(t, waits, 1, "the look")
			if test.effect == "" {
				require.Equal(t, once.Accepted, once.StateOf(record))
				return
			}
			failed := failure(t, record)
			require.Equal(t, events.KindConflict, failed.Error.Kind)
			require.Equal(t, test.effect, failed.Effect)
		})
	}
}

// The records of rollouts take seconds to read, and an operator freezes writes meanwhile: the call is not made.
func TestAFreezeDuringASlowReadOfTheRolloutsIsSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operators := &safety.Operators{Store: memstore.New()}
	read := make(chan struct{}, 10) // after each read of the freeze
	b.Safety = safety.New(safety.Options{Operators: &safety.Operators{Store: readStore{operators.Store, read}}})
	b.Rollouts = slowStore{memstore.New(), sync.OnceFunc(func() {
		<-read // early
		<-read // directly before the call
		b.clock.Add(5 * time.Second)
		if err := operators.SetFreeze(context.Background(), safety.Freeze{Reason: "storm", By: "ops"}); err != nil {
			panic(err)
		}
	})}
	_, err := b.do(t, b.call(accept))
	require.ErrorContains(t, err, "frozen")
	require.Zero(t, b.sends.Load())
}

// readStore reports each read that has ended.
type readStore struct {
	store.Store
	read chan<- struct{}
}

func (s readStore) GetAll(ctx context.Context, keys ...string) []store.Value {
	values := s.Store.GetAll(ctx, keys...)
	s.read <- struct{}{}
	return values
}
