package once_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/testkit/testclock"
	"recompose/shared/workspace"
)

// flaky is a store whose next puts fail as put decides.
type flaky struct {
	ledger.Store
	put  func(n int) (stored bool, err error) // nil: none fails
	n    atomic.Int64
	gets atomic.Int64
	fits []error // of each Fit, and then nil

	missing []string
}

func (f *flaky) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	f.gets.Add(1)
	return f.Store.Get(ctx, key)
}

func (f *flaky) Fit(context.Context, string) error {
	if len(f.fits) == 0 {
		return nil
	}
	err := f.fits[0]
	f.fits = f.fits[1:]
	return err
}

func (f *flaky) Missing(_ context.Context, key, epoch string) error {
	f.missing = append(f.missing, key+" "+epoch)
	return &ledger.LostError{Reason: "test"}
}

func (f *flaky) Put(ctx context.Context, key string, r ledger.Record, old store.Revision) (store.Revision, error) {
	n := int(f.n.Add(1))
	if f.put == nil {
		return f.Store.Put(ctx, key, r, old)
	}
	stored, err := f.put(n)
	if err == nil {
		return f.Store.Put(ctx, key, r, old)
	}
	if stored {
		if _, put := f.Store.Put(ctx, key, r, old); put != nil {
			return 0, put
		}
	}
	return 0, err
}

var (
	errRefused  = &workspace.Error{Operation: "call", Class: workspace.Refused, Msg: "refused"}
	errLost     = &workspace.Error{Operation: "call", Class: workspace.Lost, Msg: "connection reset"}
	errBusy     = &workspace.Error{Operation: "call", Class: workspace.Throttled, Msg: "throttled"}
	errConflict = &workspace.Error{Operation: "call", Class: workspace.Conflict, Msg: "busy"}
	errLimited  = &workspace.Error{Operation: "call", Class: workspace.NotSent, RetryAfter: 20 * time.Second, Err: workspace.ErrLimited}
	errStore    = errors.New("store timed out")
)

// bench is a ledger in memory, one clock for worker and service, and the options of a worker.
type bench struct {
	store *flaky
	clock *testclock.Clock
	sends atomic.Int64
	service
	Config *config.Config
	once.Options
	byToken                          bool // its calls are proved by a token
	giveUp, endJob, moveJob, watched bool // deliver the command so
	prepared                         bool // prepare a part of the command instead
}

func setup(t *testing.T) *bench {
	t.Helper()
	c := testclock.New()
	s := &flaky{Store: memledger.New()}
	b := &bench{store: s, clock: c, Config: config.Default(), Options: once.Options{Store: s, Owner: "w1", Now: c.Now}}
	b.service = func() time.Time { return c.Now().Add(3 * time.Second) }
	b.Config.Resend = config.ResendNever
	return b
}

func (b *bench) engine() *once.Engine {
	if b.byToken {
		return once.New(b.Config, token{b.service}, b.Options)
	}
	return once.New(b.Config, b.service, b.Options)
}

// service is its clock.
type service func() time.Time

func (service) ProjectID() string       { return "p1" }
func (s service) ServiceNow() time.Time { return s() }
func (service) SignaturesExpire() bool  { return true }

// AwaitTurn, CheckTurn and DropTurn do nothing: a fake has no limit.
func (service) AwaitTurn(context.Context) error { return nil }
func (service) CheckTurn() error                { return nil }
func (service) DropTurn()                       {}

// token is a service that is called with a token.
type token struct{ service }

func (token) SignaturesExpire() bool { return false }

// fake is an operation whose methods call its fields.
type fake struct {
	bench *bench
	c     once.Command

	prepare   func(ctx context.Context) (ledger.Detail, *queue.Outcome, error)
	kept      []ledger.Detail // by earlier preparations, as each was given it
	send      func(ctx context.Context, signedAt time.Time) (workspace.Accepted, error)
	find      func(signedAt time.Time) (once.Found, error)
	unchanged func() (bool, string, error)
	divide    func(repeated bool) (*queue.Outcome, error)
}

// call is a command of one desktop whose call ends as send does.
func (b *bench) call(send func(ctx context.Context) error) *fake {
	return &fake{
		bench: b,
		c: once.Command{
			Command:  queue.Command{Envelope: events.Envelope{ID: "c1", Source: "test", Type: events.TypeRebuild, Time: b.clock.Now()}},
			Function: events.FnRebuild, Data: "data", DesktopIDs: []string{"d-1"}, Watch: time.Hour,
		},
		prepare: func(context.Context) (ledger.Detail, *queue.Outcome, error) {
			return ledger.Detail{DesktopIDs: []string{"d-1"}}, nil, nil
		},
		send: func(ctx context.Context, signedAt time.Time) (workspace.Accepted, error) {
			if err := send(ctx); err != nil {
				return workspace.Accepted{}, err
			}
			return workspace.Accepted{JobID: "job-1", RequestID: "r-1", Date: signedAt}, nil
		},
		find:      func(time.Time) (once.Found, error) { return b.absent(), nil },
		unchanged: func() (bool, string, error) { return true, "", nil },
		divide:    func(bool) (*queue.Outcome, error) { return nil, nil },
	}
}

func (f *fake) About() once.Command { return f.c }
func (f *fake) Prepare(ctx context.Context, _, kept ledger.Detail) (ledger.Detail, *queue.Outcome, error) {
	f.kept = append(f.kept, kept)
	return f.prepare(ctx)
}
func (f *fake) Send(ctx context.Context, signedAt time.Time, _ ledger.Detail) (workspace.Accepted, error) {
	f.bench.sends.Add(1)
	return f.send(ctx, signedAt)
}
func (f *fake) Accepted(a *events.JobAccepted) { a.ImageID = "image-1" }
func (f *fake) FindJob(_ context.Context, _ ledger.Detail, from, _ time.Time) (once.Found, error) {
	return f.find(from)
}
func (f *fake) Unchanged(context.Context, ledger.Detail, once.Tasks) (bool, string, error) {
	return f.unchanged()
}
func (f *fake) Divide(_ context.Context, _ ledger.Detail, _ events.Failure, repeated bool) (*queue.Outcome, error) {
	return f.divide(repeated)
}
func (f *fake) Part(ids []string) any {
	if len(f.c.DesktopIDs) < 2 {
		return nil
	}
	return ids
}

func (f *fake) named(id string) *fake {
	f.c.Envelope.ID = id
	return f
}

func accept(context.Context) error { return nil }

// do delivers the command once to a worker with the options of the bench.
func (b *bench) do(t *testing.T, f *fake) ([]queue.Outcome, error) {
	t.Helper()
	return b.engine().Do(t.Context(), f)
}

// record is the stored record of a command.
func (b *bench) record(t *testing.T, f *fake) ledger.Record {
	t.Helper()
	r, _, err := b.store.Get(t.Context(), f.c.Identity())
	require.NoError(t, err)
	return r
}

// follow delivers the command each time its delay is over, and returns its record at the end and the waits.
func (b *bench) follow(t *testing.T, f *fake) (ledger.Record, []time.Duration) {
	t.Helper()
	var waits []time.Duration
	for range 50 {
		_, err := b.do(t, f)
		var wait *queue.RetryError
		if errors.As(err, &wait) {
			waits = append(waits, wait.After)
			b.clock.Add(wait.After)
			continue
		}
		require.NoError(t, err)
		return b.record(t, f), waits
	}
	require.Fail(t, "it never ends")
	return ledger.Record{}, nil
}

// failure is the command.failed with which the record ends.
func failure(t *testing.T, r ledger.Record) events.CommandFailed {
	t.Helper()
	require.NotNil(t, r.End)
	require.Equal(t, events.TypeCommandFailed, r.End.Type)
	var failed events.CommandFailed
	require.NoError(t, json.Unmarshal(r.End.Data, &failed))
	return failed
}

// begin puts the command into a state.
func (b *bench) begin(t *testing.T, f *fake, s once.State) {
	t.Helper()
	if s == once.Free {
		return
	}
	_, err := b.store.Put(t.Context(), f.c.Identity(), recordOf(s), 0)
	require.NoError(t, err)
}

// change changes the stored record of a command that is in this state.
func (b *bench) change(f *fake, in once.State, change func(*ledger.Record)) {
	ctx := context.Background()
	r, rev, err := b.store.Get(ctx, f.c.Identity())
	if err == nil && once.StateOf(r) == in {
		change(&r)
		_, err = b.store.Put(ctx, f.c.Identity(), r, rev)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		panic(err)
	}
}

// deliver delivers the command once, as the bench is set to.
func (b *bench) deliver(t *testing.T, f *fake) error {
	t.Helper()
	var err error
	switch e := b.engine(); {
	case b.giveUp:
		_, err = e.GiveUp(t.Context(), f, "5 deliveries ended in a crash")
	case b.prepared:
		err = e.PreparePart(t.Context(), f, 0, []string{"d-1"}, ledger.Detail{DesktopIDs: []string{"d-1"}, ReadAt: b.ServiceNow()})
	case b.watched:
		_, err = e.EndOf(t.Context(), events.JobAccepted{Command: f.c.Ref(), JobID: "job-0"}, "e1")
	case b.endJob:
		_, err = e.EndJob(t.Context(), f.c.Ref(), queue.Outcome{ID: "job-end", Type: events.TypeJobCompleted})
	case b.moveJob:
		_, err = e.JobProgress(t.Context(), f.c.Ref(), 50)
	default:
		_, err = e.Do(t.Context(), f)
	}
	return err
}

// recordOrNone is the stored record of a command, the zero record if there is none.
func (b *bench) recordOrNone(t *testing.T, f *fake) ledger.Record {
	t.Helper()
	r, _, err := b.store.Get(t.Context(), f.c.Identity())
	if !errors.Is(err, store.ErrNotFound) {
		require.NoError(t, err)
	}
	return r
}

// job is a look that finds this job with the first desktop.
func (b *bench) job(id string) once.Found { return b.jobOf(id, "d-1") }

// jobOf is a look that finds this job with these desktops.
func (b *bench) jobOf(id string, desktopIDs ...string) once.Found {
	return once.Found{Jobs: map[string][]string{id: desktopIDs}, Begun: map[string]time.Time{id: b.clock.Now()}}
}

// absent is a complete look that finds nothing.
func (b *bench) absent() once.Found { return once.Found{Date: b.ServiceNow()} }

// lost is a command whose first call has an unknown outcome.
func (b *bench) lost(find func() (once.Found, error)) *fake {
	f := b.call(func(context.Context) error {
		if b.sends.Load() == 1 {
			return errLost
		}
		return nil
	})
	f.find = func(time.Time) (once.Found, error) { return find() }
	return f
}

// batch prepares a call of all desktops of the command.
func batch(c *fake) func(context.Context) (ledger.Detail, *queue.Outcome, error) {
	return func(context.Context) (ledger.Detail, *queue.Outcome, error) {
		return ledger.Detail{DesktopIDs: c.c.DesktopIDs}, nil, nil
	}
}
