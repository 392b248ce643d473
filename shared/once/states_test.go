package once_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store/memstore"
	"recompose/shared/workspace"
)

// changes is a log handler that keeps which changes of records were made: "from/on/to".
type changes struct {
	slog.Handler
	mu   sync.Mutex
	seen map[string]bool
}

func newChanges() *changes { return &changes{Handler: slog.DiscardHandler, seen: map[string]bool{}} }

func (c *changes) Enabled(context.Context, slog.Level) bool { return true }

func (c *changes) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "a record changes" {
		return nil
	}
	at := map[string]string{}
	r.Attrs(func(a slog.Attr) bool { at[a.Key] = fmt.Sprint(a.Value); return true })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[at["from"]+"/"+at["on"]+"/"+at["to"]] = true
	return nil
}

func answer(err error) func(*bench, *fake) {
	return func(_ *bench, f *fake) {
		f.send = func(context.Context, time.Time) (workspace.Accepted, error) { return workspace.Accepted{}, err }
	}
}

func look(find func(b *bench) (once.Found, error)) func(*bench, *fake) {
	return func(b *bench, f *fake) { f.find = func(time.Time) (once.Found, error) { return find(b) } }
}

// at moves the clock, which is 10 minutes after the signing date of the record, first.
func at(age time.Duration, do func(*bench, *fake)) func(*bench, *fake) {
	return func(b *bench, f *fake) { b.clock.Add(age); do(b, f) }
}

var errUnauthorized = &workspace.Error{Operation: "call", Class: workspace.Unauthorized}

// stimuli are what can happen to a delivered command. The columns have the state after it and how many calls were made,
// by the state before: free, free with an earlier call, refused, intended by a dead worker, looked for, accepted, ended.
var stimuli = []struct {
	name string
	do   func(*bench, *fake)
	want [7]string
}{
	// Answers to the call.
	{"accepted", func(*bench, *fake) {}, [7]string{"accepted 1", "accepted 1", "accepted 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"answer lost", answer(errLost), [7]string{"looking 1", "looking 1", "looking 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"an error of no class", answer(errors.New("odd")), [7]string{"looking 1", "looking 1", "looking 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"refused", answer(errRefused), [7]string{"ended 1", "ended 1", "ended 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"conflict", answer(errConflict), [7]string{"refused 1", "refused 1", "refused 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"throttled", answer(errBusy), [7]string{"free 1", "free 1", "refused 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"key refused", answer(errUnauthorized), [7]string{"free 1", "free 1", "refused 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"a 200 with an error code", answer(&workspace.Error{Class: workspace.BadAnswer, Status: 200, Code: "WKS.1"}), [7]string{"refused 1", "refused 1", "refused 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"a 200 that cannot be read", answer(&workspace.Error{Class: workspace.BadAnswer, Status: 200}), [7]string{"looking 1", "looking 1", "looking 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"forbidden", answer(&workspace.Error{Class: workspace.Forbidden}), [7]string{"ended 1", "ended 1", "ended 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"refused too long", func(b *bench, f *fake) { b.Config.ConflictDeadline = time.Second }, [7]string{"accepted 1", "accepted 1", "ended 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"divided by its desktops", func(_ *bench, f *fake) {
		f.divide = func(bool) (*queue.Outcome, error) { return once.Split(f, [][]string{{"d-1"}, {"d-2"}}), nil }
	}, [7]string{"accepted 1", "accepted 1", "ended 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"an earlier delivery stored a part", func(b *bench, f *fake) {
		part := ledger.Record{Digest: "part", Earlier: b.clock.Now(), Detail: ledger.Detail{DesktopIDs: []string{"d-1"}}}
		if _, err := b.store.Put(context.Background(), events.Identity(events.Source(events.FnRebuild), events.PartID(f.c.Identity(), 0)), part, 0); err != nil {
			panic(err)
		}
	}, [7]string{"accepted 1", "ended 0", "ended 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"impossible to divide", func(_ *bench, f *fake) {
		f.divide = func(bool) (*queue.Outcome, error) { return nil, queue.Failed(events.KindNotFound, "all are gone") }
	}, [7]string{"accepted 1", "accepted 1", "ended 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},

	// What stops a call before it is made.
	{"nothing to call", func(_ *bench, f *fake) {
		f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
			return ledger.Detail{}, &queue.Outcome{Type: events.TypeJobCompleted}, nil
		}
	}, [7]string{"ended 0", "ended 0", "ended 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"preparation fails", func(_ *bench, f *fake) {
		f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
			return ledger.Detail{}, nil, queue.RetryAfter(time.Minute, errBusy)
		}
	}, [7]string{"free 0", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"held back after its preparation", func(b *bench, f *fake) {
		f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
			return ledger.Detail{DesktopIDs: []string{"d-1"}, ReadAt: b.clock.Now()}, nil, queue.RetryAfter(time.Minute, errBusy)
		}
	}, [7]string{"free 0", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"frozen", func(b *bench, _ *fake) { b.Safety = frozen() }, [7]string{"free 0", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"records are lost", func(b *bench, _ *fake) { b.store.fits = []error{errGone} }, [7]string{"free 0", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"the put of the claim shows that records are lost", func(b *bench, _ *fake) { b.store.fits = []error{nil, errGone} }, [7]string{"free 0", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"not allowed", func(b *bench, _ *fake) { b.Safety = denied() }, [7]string{"ended 0", "ended 0", "ended 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"expired", func(b *bench, f *fake) { f.c.Envelope.Expiry = b.clock.Now() }, [7]string{"ended 0", "ended 0", "ended 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"suspended", func(b *bench, _ *fake) { b.Safety = slow(func() { b.clock.Add(time.Minute) }) }, [7]string{"free 0", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},

	// Looks for a lost call.
	{"job found", look(func(b *bench) (once.Found, error) { return b.jobOf("job-7", "d-1", "d-2"), nil }), [7]string{"accepted 1", "accepted 0", "accepted 0", "accepted 0", "accepted 0", "accepted 0", "ended 0"}},
	{"part found", look(func(b *bench) (once.Found, error) { return b.jobOf("job-7", "d-1"), nil }), [7]string{"accepted 1", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"part found past the fence", at(7*time.Minute, look(func(b *bench) (once.Found, error) { return b.jobOf("job-7", "d-1"), nil })), [7]string{"accepted 1", "free 0", "refused 0", "ended 0", "ended 0", "accepted 0", "ended 0"}},
	{"absent before the fence", look(func(b *bench) (once.Found, error) { return b.absent(), nil }), [7]string{"accepted 1", "accepted 1", "accepted 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"absent past the fence", at(7*time.Minute, look(func(b *bench) (once.Found, error) { return b.absent(), nil })), [7]string{"accepted 1", "accepted 1", "accepted 1", "accepted 1", "accepted 1", "accepted 0", "ended 0"}},
	{"absent, sending again is turned off", at(7*time.Minute, func(b *bench, f *fake) {
		b.Config.Resend = config.ResendNever
		look(func(b *bench) (once.Found, error) { return b.absent(), nil })(b, f)
	}), [7]string{"accepted 1", "accepted 1", "accepted 1", "ended 0", "ended 0", "accepted 0", "ended 0"}},
	{"changed past the fence", at(7*time.Minute, func(b *bench, f *fake) {
		look(func(b *bench) (once.Found, error) { return b.absent(), nil })(b, f)
		f.unchanged = func() (bool, string, error) { return false, "changed", nil }
	}), [7]string{"accepted 1", "accepted 1", "accepted 1", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"cannot look", look(func(*bench) (once.Found, error) { return once.Found{}, errors.New("503") }), [7]string{"accepted 1", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},
	{"looked long enough", at(time.Hour, look(func(*bench) (once.Found, error) { return once.Found{Incomplete: "incomplete"}, nil })), [7]string{"accepted 1", "free 0", "refused 0", "looking 0", "ended 0", "accepted 0", "ended 0"}},
	{"looked often and long enough", at(time.Hour, func(b *bench, f *fake) {
		look(func(*bench) (once.Found, error) { return once.Found{Incomplete: "incomplete"}, nil })(b, f)
		for _, state := range []once.State{once.Free, once.Refused} {
			b.change(f, state, func(r *ledger.Record) { r.EarlierLooks = 3 })
		}
	}), [7]string{"accepted 1", "ended 0", "ended 0", "looking 0", "ended 0", "accepted 0", "ended 0"}},
	{"several jobs may be ours", look(func(b *bench) (once.Found, error) {
		found := b.jobOf("job-7", "d-1", "d-2")
		found.Jobs["job-8"] = []string{"d-1", "d-2"}
		return found, nil
	}), [7]string{"accepted 1", "free 0", "refused 0", "looking 0", "looking 0", "accepted 0", "ended 0"}},

	// Deliveries that are not for the engine's Do.
	{"given up", func(b *bench, _ *fake) { b.giveUp = true }, [7]string{"ended 0", "ended 0", "ended 0", "ended 0", "ended 0", "accepted 0", "ended 0"}},
	{"prepared as a part", func(b *bench, _ *fake) { b.prepared = true }, [7]string{"free 0", "free 0", "refused 0", "intent 0", "looking 0", "accepted 0", "ended 0"}},
	{"the job moved", func(b *bench, _ *fake) { b.moveJob = true }, [7]string{"free 0", "free 0", "refused 0", "intent 0", "looking 0", "accepted 0", "ended 0"}},
	{"the job ended", func(b *bench, _ *fake) { b.endJob = true }, [7]string{"ended 0", "ended 0", "ended 0", "ended 0", "ended 0", "ended 0", "ended 0"}},
	{"its job.accepted", func(b *bench, _ *fake) { b.watched = true }, [7]string{"accepted 0", "free 0", "refused 0", "intent 0", "looking 0", "accepted 0", "ended 0"}},
	{otherData, func(_ *bench, f *fake) { f.c.Data = "other data" }, [7]string{"accepted 1", "free 0", "refused 0", "intent 0", "looking 0", "accepted 0", "ended 0"}},
	{otherData, func(b *bench, f *fake) { f.c.Data, b.giveUp = "other data", true }, [7]string{"ended 0", "free 0", "refused 0", "intent 0", "looking 0", "accepted 0", "ended 0"}},
	{"another worker holds it", func(b *bench, f *fake) {
		b.change(f, once.Intent, func(r *ledger.Record) { r.Lease = b.clock.Now().Add(time.Second) })
	}, [7]string{"accepted 1", "accepted 1", "accepted 1", "intent 0", "looking 0", "accepted 0", "ended 0"}},
}

// otherData names the rows in which the command has other data than its record: where there is one, it ends as
// id_reused.
const otherData = "the id is that of other data"

var errGone = &ledger.LostError{Reason: "test"}

// frozen is the safety of a deployment with frozen writes.
func frozen() *safety.Safety {
	o := &safety.Operators{Store: memstore.New()}
	if err := o.SetFreeze(context.Background(), safety.Freeze{Reason: "storm", By: "ops"}); err != nil {
		panic(err)
	}
	return safety.New(safety.Options{Operators: o})
}

func TestEachStateWithEachStimulus(t *testing.T) {
	t.Parallel()
	seen := newChanges()
	states := []once.State{once.Free, calledBefore, once.Refused, once.Intent, once.Looking, once.Accepted, once.Ended}
	for _, s := range stimuli {
		for i, state := range states {
			b := setup(t)
			b.Config.Resend, b.Log = config.ResendProved, slog.New(seen)
			f := b.call(accept)
			f.c.DesktopIDs = []string{"d-1", "d-2"}
			f.prepare = batch(f)
			b.begin(t, f, state)
			s.do(b, f)
			err := b.deliver(t, f)
			got := fmt.Sprint(once.StateOf(b.recordOrNone(t, f)), " ", b.sends.Load())
			require.Equal(t, s.want[i], got, "%s, in state %s: %v", s.name, state, err)
			require.True(t, err == nil || queue.IsVerdict(err), "%s, in state %s: %v", s.name, state, err)
			failed, isFailed := queue.AsFailed(err)
			reused := isFailed && failed.Failure.Kind == events.KindIDReused
			require.Equal(t, s.name == otherData && state != once.Free, reused, "%s, in state %s: %v", s.name, state, err)
			if reused {
				require.Equal(t, recordOf(state), b.record(t, f), "the record is that of the first data")
				require.Equal(t, f.c.DesktopIDs, failed.DesktopIDs)
			}
		}
	}
	var want []string
	for from, on := range once.Transitions {
		for event, to := range on {
			want = append(want, fmt.Sprintf("%s/%s/%s", from, event, to))
		}
	}
	got := make([]string, 0, len(seen.seen))
	for change := range seen.seen {
		got = append(got, change)
	}
	slices.Sort(want)
	slices.Sort(got)
	require.Equal(t, want, got, "every row of the table happens, and nothing else does")
}

func TestAChangeThatIsNotInTheTableIsNotStored(t *testing.T) {
	t.Parallel()
	for _, from := range []once.State{once.Free, once.Refused, once.Intent, once.Looking, once.Accepted} {
		for _, to := range []once.State{once.Free, once.Refused, once.Intent, once.Looking, once.Accepted, once.Ended} {
			err := once.Allowed(recordOf(from), "no such event", recordOf(to))
			require.ErrorContains(t, err, "does not become "+string(to))
		}
		for on := range once.Transitions[from] {
			require.Error(t, once.Allowed(recordOf(once.Ended), on, recordOf(once.Transitions[from][on])), "an ended command changes no more")
		}
	}
}

// calledBefore is the free state of a command with an earlier call.
const calledBefore once.State = "free, with an earlier call"

// recordOf is a record in a state.
func recordOf(s once.State) ledger.Record {
	then := time.Date(2026, 1, 15, 8, 20, 0, 0, time.UTC)
	r := ledger.Record{Digest: events.Digest("data"), Fence: 1, Detail: ledger.Detail{DesktopIDs: []string{"d-1", "d-2"}}}
	switch s {
	case calledBefore:
		r.Earlier = then
	case once.Refused:
		r.Earlier = then
		r.Refused = &ledger.Refusal{Since: then, NotBefore: then, Times: 1, Last: ledger.Reason{
			Class: string(workspace.Conflict), Failure: events.Failure{Kind: events.KindConflict}, Divide: true,
		}}
	case once.Intent:
		r.SignedAt, r.Lease = then, then
	case once.Looking:
		r.SignedAt, r.Unclear = then, &ledger.Unclear{Looks: 5, Next: then, Reason: "reset"}
	case once.Accepted:
		r.JobID = "job-0"
	case once.Ended:
		r.End = &ledger.End{ID: "end", Type: events.TypeJobCompleted, Data: []byte("{}")}
	case once.Free:
		return ledger.Record{}
	}
	return r
}
