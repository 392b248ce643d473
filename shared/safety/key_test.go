package safety_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/workspace"
)

func TestARefusalStopsAllProcessesUntilAProbeSucceeds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.process(), r.process()
	require.NoError(t, one.Check(t.Context()))
	require.NoError(t, two.Check(t.Context()))
	require.Equal(t, 1, r.calls, "one process proves the key")

	r.answer = errRefused
	one.Refuse(t.Context(), errRefused)
	require.Error(t, one.Check(t.Context()))
	err := two.Check(t.Context())
	require.ErrorContains(t, err, "401")
	refusal := new(safety.Refusal)
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, safety.Refusal{Reason: errRefused.Error(), By: "w1", At: r.now}, *refusal)
	require.Equal(t, 1, r.calls, "no call before a minute has passed")

	r.now = r.now.Add(safety.ProbeEvery)
	require.ErrorIs(t, two.Check(t.Context()), errRefused)
	require.Error(t, one.Check(t.Context()))
	require.Equal(t, 2, r.calls, "one process probes, once")

	r.now, r.answer = r.now.Add(safety.ProbeEvery), nil
	require.NoError(t, one.Check(t.Context()))
	require.Equal(t, 3, r.calls)
	r.refused(false)
	require.NoError(t, two.Check(t.Context()), "it was refused by a probe, and probes for itself")
	require.Equal(t, 4, r.calls)
	require.NoError(t, two.Check(t.Context()))
	require.Equal(t, 4, r.calls)
}

func TestManyProcessesThatStartWithAWrongKeyAreRefusedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = errRefused
	var all []process
	for range 20 {
		all = append(all, r.process())
		require.Error(t, all[len(all)-1].Check(t.Context()))
	}
	require.Equal(t, 1, r.calls)
	r.refused(true)

	r.secret.text, r.answer = "new", nil
	r.now = r.now.Add(safety.ProbeEvery)
	for _, p := range all {
		require.NoError(t, p.Check(t.Context()))
		require.Equal(t, "new", p.has.current, "no process continues with the refused key")
	}
	require.Equal(t, 2, r.calls, "one process checks for all")
}

// A key that stays wrong is used at growing intervals: five refusals in a row would lock it. Another key in the secret
// is used at once.
func TestAKeyThatStaysWrongIsUsedAtGrowingIntervals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = errRefused
	all := []process{r.process(), r.process(), r.process()}
	begun := r.now
	check := func() (err error) {
		for _, p := range all {
			err = p.Check(t.Context())
		}
		return err
	}
	var at []int
	for r.now.Sub(begun) < 2*time.Hour {
		before := r.calls
		require.Error(t, check())
		require.LessOrEqual(t, r.calls, before+1, "one at a time")
		if r.calls > before {
			at = append(at, int(r.now.Sub(begun).Minutes()))
		}
		r.now = r.now.Add(20 * time.Second)
	}
	require.Equal(t, []int{0, 1, 2}, at[:3], "a refusal may have been a mistake")
	require.Greater(t, at[5], 20, "the sixth in a row would lock it")
	require.Less(t, len(at), 14)

	r.secret.text, r.answer = "new", nil
	r.now = r.now.Add(safety.ProbeEvery)
	before := r.calls
	require.NoError(t, check())
	r.refused(false)
	require.LessOrEqual(t, r.calls, before+len(all))
}

// A process that cannot read the secret does not know whether the key has changed: the old one is not used.
func TestARefusedKeyIsNotUsedWhileTheSecretCannotBeRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = errRefused
	one, two := r.process(), r.process()
	require.Error(t, one.Check(t.Context()))
	r.now = r.now.Add(safety.ProbeEvery)
	r.secret.err = errors.New("no answer")
	require.ErrorContains(t, two.Check(t.Context()), "no answer")
	require.ErrorContains(t, one.Check(t.Context()), "no answer")
	require.Equal(t, 1, r.calls)
	r.secret.err, r.answer = nil, nil
	require.NoError(t, two.Check(t.Context()))
	require.Equal(t, 2, r.calls)
}

// TestAProcessThatProbesMayHang has a process that begins its probe and does not end it.
func TestAProcessThatProbesMayHang(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, end := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}), make(chan error)
	o := r.options(&credential{secret: r.secret, current: "old"})
	o.Probe = func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}
	hangs := safety.NewKey(o)
	go func() { ended <- hangs.Check(ctx) }()
	<-begun
	p := r.process()
	underWay(t, p.Check(t.Context()))
	require.Zero(t, r.calls)
	r.now = r.now.Add(10 * time.Second)
	require.NoError(t, p.Check(t.Context()))
	require.Equal(t, 1, r.calls)
	end()
	require.ErrorIs(t, <-ended, context.Canceled)
	r.refused(false)
	require.NoError(t, p.Check(t.Context()))
}

// TestAProbeOfARefusedKeyMayHang does the same while the key is refused: the others do not wait for a whole minute.
func TestAProbeOfARefusedKeyMayHang(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = errRefused
	p := r.process()
	require.Error(t, p.Check(t.Context()))
	r.now = r.now.Add(safety.ProbeEvery)
	ctx, end := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}), make(chan error)
	o := r.options(&credential{secret: r.secret, current: "old"})
	o.Probe = func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}
	hangs := safety.NewKey(o)
	go func() { ended <- hangs.Check(ctx) }()
	<-begun
	other := r.process()
	err := other.Check(t.Context())
	underWay(t, err)
	refusal := new(safety.Refusal)
	require.ErrorAs(t, err, &refusal)
	r.now = r.now.Add(10 * time.Second)
	err = other.Check(t.Context())
	require.ErrorAs(t, err, &refusal)
	require.NotErrorAs(t, err, new(*queue.RetryError), "too late for a short retry")
	r.now, r.answer = r.now.Add(safety.ProbeEvery), nil
	require.NoError(t, other.Check(t.Context()))
	end()
	require.Error(t, <-ended)
	r.refused(false)
}

// TestTwoMessagesOfOneProcess checks a second message while the first one probes: the second uses the result of the
// first.
func TestTwoMessagesOfOneProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	begun, read := make(chan struct{}), make(chan struct{})
	o := r.options(&credential{secret: r.secret, current: "old"})
	o.Probe = func(context.Context) error {
		if r.calls++; r.calls == 1 {
			close(begun)
			<-read
		}
		return nil
	}
	k := safety.NewKey(o)
	results := make(chan error)
	go func() { results <- k.Check(t.Context()) }()
	<-begun
	var once sync.Once
	r.store.after = func(string) error {
		once.Do(func() { close(read) })
		return nil
	}
	go func() { results <- k.Check(t.Context()) }()
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	require.Equal(t, 1, r.calls)
}

func TestAServiceThatDoesNotAnswerHasRefusedNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = &workspace.Error{Class: workspace.Unavailable, Status: 503}
	p := r.process()
	require.ErrorIs(t, p.Check(t.Context()), r.answer)
	r.refused(false)
	r.now, r.answer = r.now.Add(10*time.Second), nil
	require.NoError(t, p.Check(t.Context()))
}

func TestAReplacedKeyIsUsedWithoutARefusal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.process()
	require.NoError(t, old.Check(t.Context()))
	r.secret.text = "new"
	started := r.process()
	started.has.current = "new"
	require.NoError(t, started.Check(t.Context()))
	require.Equal(t, 2, r.calls, "the new key was unproved")
	require.NoError(t, old.Check(t.Context()))
	require.Equal(t, "new", old.has.current)
	require.Equal(t, 2, r.calls)
}

func TestAProcessThatCannotReadTheNewKeyStopsNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.process()
	require.NoError(t, old.Check(t.Context()))
	another := r.process() // the key of other processes
	another.has.current, r.secret.text = "another", "another"
	require.NoError(t, another.Check(t.Context()))
	require.Equal(t, 2, r.calls)
	r.secret.err, r.answer = errors.New("no answer"), errRefused
	require.ErrorIs(t, old.Check(t.Context()), r.secret.err)
	require.Equal(t, 2, r.calls, "no call is made with an outdated key")
	r.refused(false)
	require.NoError(t, another.Check(t.Context()))
}

func TestNewCredentialsStopOneProcessOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.process(), r.process()
	require.NoError(t, two.Check(t.Context()))
	r.secret.text = "new"
	one.Refuse(t.Context(), errRefused)
	require.Equal(t, "new", one.has.current)
	r.refused(false)
	require.NoError(t, two.Check(t.Context()))
	require.ErrorIs(t, one.Check(t.Context()), errRefused, "the client holds calls back for a minute")
	r.now = r.now.Add(safety.ProbeEvery)
	require.NoError(t, one.Check(t.Context()))
	require.Equal(t, 2, r.calls)
}

func TestARefusalThatCannotBeSharedStopsOneProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.process(), r.process()
	require.NoError(t, one.Check(t.Context()))
	r.secret.err = errors.New("no answer")
	r.store.before = func(string) error { return errCut }
	one.Refuse(t.Context(), errRefused)
	r.store.before = nil
	require.ErrorIs(t, one.Check(t.Context()), errRefused)
	r.refused(false)
	require.NoError(t, two.Check(t.Context()), "the refusal is not stored")
}

func TestAReadThatRanOutOfTimeIsRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := 1 // the process was frozen in the meantime
	r.store.before = func(string) error {
		if bad--; bad >= 0 {
			return context.DeadlineExceeded
		}
		return nil
	}
	require.NoError(t, r.process().Check(t.Context()))
}

func TestAnUnreadableKeyItemStopsMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.process()
	require.NoError(t, p.Check(t.Context()))
	r.store.before = func(string) error { return errCut }
	require.ErrorIs(t, p.Check(t.Context()), errCut)
	require.ErrorIs(t, r.process().Check(t.Context()), errCut)
	requireStop(t, safety.New(safety.Options{Key: p.Key}).Check(t.Context(), nil), safety.Unreadable, errCut.Error())
	require.Equal(t, 1, r.calls)
	r.store.before = nil
	require.NoError(t, p.Check(t.Context()))
}

// TestACheckThatIsCut interrupts each call to the store, with a right key and with a wrong one.
func TestACheckThatIsCut(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"right": nil, "wrong": errRefused} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachCut(t, func(t *testing.T, at cut) bool {
				r := newRig(t)
				r.answer = answer
				whole := r.store
				w, reached := cutAt(r.store, at)
				r.store = w
				err := r.process().Check(t.Context())
				r.store = whole
				require.LessOrEqual(t, r.calls, 1, "%v", at)
				if answer != nil {
					require.Error(t, err, "%v", at)
				}
				other := r.process()
				for range 3 { // another process takes over the check
					err = other.Check(t.Context())
					r.now = r.now.Add(10 * time.Second)
				}
				if answer == nil {
					require.NoError(t, err, "%v", at)
				} else {
					require.Error(t, err, "%v", at)
					r.refused(true)
				}
				require.LessOrEqual(t, r.calls, 2, "%v", at)
				return reached()
			})
		})
	}
}

func TestADamagedKeyItemStopsAllUntilARefusal(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, foreign func(string)) {
		r := newRig(t)
		r.store = &watched{Store: s}
		p := r.process()
		foreign(safety.KeyKey)
		require.ErrorIs(t, p.Check(t.Context()), store.ErrDamaged)
		_, err := safety.ReadRefusal(t.Context(), s)
		require.ErrorIs(t, err, store.ErrDamaged)
		requireStop(t, safety.New(safety.Options{Key: p.Key}).Check(t.Context(), nil), safety.Unreadable)
		require.Zero(t, r.calls)
		p.Refuse(t.Context(), errRefused)
		r.refused(true)
		r.now = r.now.Add(safety.ProbeEvery)
		require.NoError(t, p.Check(t.Context()))
		require.Equal(t, 1, r.calls)
	})
}

// TestAWriteStopsAtTheFreezeAndAtARefusedKey checks for a freeze and a refusal that were stored after the message was
// received.
func TestAWriteStopsAtTheFreezeAndAtARefusedKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, o := r.process(), &safety.Operators{Store: r.store}
	write := safety.New(safety.Options{Operators: o, Key: p.Key})
	require.NoError(t, p.Check(t.Context()))
	require.NoError(t, write.Check(t.Context(), []string{"a"}))
	r.process().Refuse(t.Context(), errRefused)
	requireStop(t, write.Check(t.Context(), []string{"a"}), safety.KeyRefused, "refuses the credentials")
	freeze, err := write.Frozen(t.Context())
	require.NoError(t, err)
	require.Nil(t, freeze)
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
	requireStop(t, write.Check(t.Context(), []string{"a"}), safety.KeyRefused)
	r.now = r.now.Add(safety.ProbeEvery)
	require.NoError(t, p.Check(t.Context()))
	requireStop(t, write.Check(t.Context(), []string{"a"}), safety.Frozen, "storm")
	freeze, err = write.Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, "storm", freeze.Reason)
	calls := r.calls
	for range 5 {
		requireStop(t, write.Check(t.Context(), nil), safety.Frozen)
	}
	require.Equal(t, calls, r.calls, "a write reads only the store")
}
