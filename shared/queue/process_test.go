package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

var errService = errors.New("the service is away")

// The result of each verdict.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	refused := &queue.FailedError{
		Failure:    events.Failure{Kind: events.KindRefused, HTTPStatus: 400, ErrorCode: "WKS.0001", ErrorMsg: "no", RequestID: "r-1"},
		Effect:     events.EffectUnknown,
		DesktopIDs: []string{"d-1"},
	}
	type want struct {
		failed events.CommandFailed // Kind set: command.failed is published
		delay  time.Duration        // ≥0: delivered once more
		waits  string               // why
		class  string               // of a dead letter
		reason string
		retry  bool
		stop   error
	}
	delayed := func(d time.Duration, waits string) want { return want{delay: d, waits: waits} }
	never := time.Duration(-1)
	for name, c := range map[string]struct {
		verdict error
		want    want
	}{
		"nil":                       {nil, want{delay: never}},
		"failed":                    {queue.Failed(events.KindConflict, "taken by %s", "x"), want{delay: never, failed: failed(events.EffectNone, events.KindConflict, "taken by x")}},
		"failed, with all":          {refused, want{delay: never, failed: events.CommandFailed{Effect: events.EffectUnknown, DesktopIDs: []string{"d-1"}, Error: refused.Failure}}},
		"failed, wrapped":           {fmt.Errorf("rebuild: %w", refused), want{delay: never, failed: events.CommandFailed{Effect: events.EffectUnknown, DesktopIDs: []string{"d-1"}, Error: refused.Failure}}},
		"failed, nil of its type":   {(*queue.FailedError)(nil), want{delay: never}},
		"invalid":                   {queue.Invalid(errors.New("x: is 100% wrong")), want{delay: never, failed: failed(events.EffectNone, events.KindInvalid, "x: is 100% wrong")}},
		"retry":                     {queue.RetryAfter(time.Minute, errService), delayed(time.Minute, "the service is away")},
		"retry, no reason":          {queue.RetryAfter(time.Minute, nil), delayed(time.Minute, "")},
		"retry, negative":           {queue.RetryAfter(-time.Minute, errService), delayed(0, "the service is away")},
		"retry, wrapped":            {fmt.Errorf("rebuild: %w", queue.RetryAfter(time.Second, nil)), delayed(time.Second, "")},
		"retry because of failed":   {queue.RetryAfter(time.Minute, refused), delayed(time.Minute, "refused: no")},
		"retry because of another":  {queue.RetryAfter(time.Minute, queue.Permanent(errService)), delayed(time.Minute, "the service is away")},
		"stop":                      {queue.Stop(errService), want{delay: time.Minute, stop: errService}},
		"stop because of failed":    {queue.Stop(refused), want{delay: time.Minute, stop: refused}},
		"stop because of a retry":   {queue.Stop(queue.RetryAfter(time.Hour, errService)), want{delay: time.Minute, stop: errService}},
		"permanent":                 {queue.Permanent(errService), want{delay: never, class: "permanent", reason: "the service is away", failed: failed(events.EffectUnknown, events.KindInternal, "the service is away")}},
		"permanent, nil":            {queue.Permanent(nil), want{delay: never, class: "permanent", reason: "<nil>", failed: failed(events.EffectUnknown, events.KindInternal, "<nil>")}},
		"permanent, wrapped":        {fmt.Errorf("rebuild: %w", queue.Permanent(errService)), want{delay: never, class: "permanent", reason: "the service is away", failed: failed(events.EffectUnknown, events.KindInternal, "the service is away")}},
		"permanent because failed":  {queue.Permanent(refused), want{delay: never, class: "permanent", reason: "refused: no", failed: events.CommandFailed{Effect: events.EffectUnknown, DesktopIDs: []string{"d-1"}, Error: refused.Failure}}},
		"permanent because retry":   {queue.Permanent(queue.RetryAfter(time.Second, errService)), want{delay: never, class: "permanent", reason: "retry in 1s: the service is away", failed: failed(events.EffectUnknown, events.KindInternal, "retry in 1s: the service is away")}},
		"other":                     {errService, want{delay: never, retry: true}},
		"cancelled":                 {context.Canceled, want{delay: never, retry: true}},
		"joined, a verdict in them": {errors.Join(errService, queue.RetryAfter(time.Second, nil)), delayed(time.Second, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.handles(accepted(), c.verdict)
			got := r.process(t, delivery(t, command()))
			require.Equal(t, c.want.retry, got.Retry != nil)
			if got.Retry != nil {
				require.Equal(t, queue.Result{Retry: c.verdict}, got, "nothing else is set")
				return
			}
			// The outcomes of the function are published with every verdict.
			require.Equal(t, events.TypeJobAccepted, got.Events[0].Type)
			require.Empty(t, got.Next)
			if c.want.failed.Error.Kind == "" {
				require.Len(t, got.Events, 1)
			} else {
				_, published := failure(t, got)
				wanted := c.want.failed
				wanted.Command, wanted.Attempts = events.CommandRef{Type: events.TypeRebuild, ID: "rebuild-1", Source: "ci", Digest: rebuildDigest}, 1
				wanted.DesktopIDs = []string{"d-1"}
				if got.Dead != nil {
					wanted.DeadLetter = got.Dead.ID
				}
				require.Equal(t, wanted, published)
			}
			if c.want.delay < 0 {
				require.Nil(t, got.Delay)
			} else {
				held := 0
				if c.want.stop != nil {
					held = 1
				}
				require.Equal(t, &queue.Delay{
					Held: held, Function: events.FnRebuild, Envelope: command(), Identity: events.Derive(command().Identity(), "form", rebuildDigest), Attempt: 1, After: c.want.delay,
					Command: events.CommandRef{Type: events.TypeRebuild, ID: "rebuild-1", Source: "ci", Digest: rebuildDigest}, Reason: c.want.waits,
				}, got.Delay)
			}
			if c.want.stop == nil {
				require.NoError(t, got.Stop)
			} else {
				require.ErrorIs(t, got.Stop, c.want.stop)
			}
			if c.want.class == "" {
				require.Nil(t, got.Dead)
				return
			}
			require.Equal(t, c.want.class, got.Dead.Class)
			require.Equal(t, c.want.reason, got.Dead.Reason)
			require.Equal(t, events.FnRebuild, got.Dead.Function)
			require.Equal(t, 1, got.Dead.Attempts)
			require.Equal(t, command(), got.Dead.Envelope)
			require.Equal(t, delivery(t, command()), got.Dead.Delivery)
		})
	}
}

func failed(effect, kind, reason string) events.CommandFailed {
	return events.CommandFailed{Effect: effect, Error: events.Failure{Kind: kind, ErrorMsg: reason}}
}

func TestVerdictTexts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{queue.Failed(events.KindConflict, "no %d", 1), "conflict: no 1"},
		{queue.RetryAfter(time.Second, errService), "retry in 1s: the service is away"},
		{queue.Stop(errService), "the service is away"},
		{queue.Permanent(errService), "the service is away"},
		{queue.Stop(nil), "<nil>"},
		{queue.CheckProject("other", "own"), "not_allowed: project_id: must be the worker's own project or absent; got other"},
	} {
		require.EqualError(t, c.err, c.want)
		require.True(t, queue.IsVerdict(c.err))
		require.True(t, queue.IsVerdict(fmt.Errorf("x: %w", c.err)))
	}
	for _, err := range []error{nil, errService, &queue.PanicError{Value: 1}} {
		require.False(t, queue.IsVerdict(err))
	}
	require.ErrorIs(t, queue.RetryAfter(0, errService), errService)
	require.NoError(t, queue.CheckProject("", "own"))
	require.NoError(t, queue.CheckProject("own", "own"))
}

// A panic is an error of its message; the stack goes to the log and nowhere else.
func TestPanics(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{"text": "boom", "error": errService, "number": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) { panic(value) }
			got := r.process(t, delivery(t, command()))
			require.EqualError(t, got.Retry, fmt.Sprintf("panic: %v", value))
			require.Equal(t, queue.Result{Retry: got.Retry}, got)
			require.Contains(t, r.log.String(), "process_test.go")
		})
	}
	t.Run("in an outcome", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.handles([]queue.Outcome{{Type: "x", Data: panics{}}}, nil)
		require.EqualError(t, r.process(t, delivery(t, command())).Retry, "panic: at writing")
	})
	t.Run("no handler", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.Handle = nil
		require.ErrorContains(t, r.process(t, delivery(t, command())).Retry, "nil pointer")
	})
	t.Run("an outcome cannot be encoded", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.handles([]queue.Outcome{{Type: "x", Data: func() {}}}, nil)
		require.ErrorContains(t, r.process(t, delivery(t, command())).Retry, "write x: ")
	})
}

type panics struct{}

func (panics) MarshalJSON() ([]byte, error) { panic("at writing") }

// Outcomes have the command's chain, and ids that depend on the command alone.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	at := now.Add(-time.Hour)
	r.handles([]queue.Outcome{
		{Type: "a", About: []string{"x", "1"}, Data: map[string]int{"n": 1}},
		{Type: "b", ID: "own", Source: "other", Causation: "cause", Time: at, Data: json.RawMessage(`{"raw":true}`)},
		{Type: events.TypeRebuild, To: events.FnRebuild, ID: "part", Data: nil},
		{Type: "c", Data: 1},
		{Type: "d", Data: 1},
	}, nil)
	got := r.process(t, delivery(t, command()))
	require.NoError(t, got.Retry)
	base := events.Envelope{
		Source: "recompose/rebuild", Time: now, Correlation: "chain-1", Causation: "rebuild-1",
		TraceParent: command().TraceParent, Expiry: command().Expiry,
	}
	want := func(id, typ, data string) events.Envelope {
		e := base
		e.ID, e.Type, e.Data = id, typ, json.RawMessage(data)
		return e
	}
	b := want("own", "b", `{"raw":true}`)
	b.Source, b.Causation, b.Time = "other", "cause", at
	require.Equal(t, []events.Envelope{
		want(events.Derive(command().Identity(), "x", "1"), "a", `{"n":1}`), b,
		want(events.Derive(command().Identity(), "c"), "c", `1`), want(events.Derive(command().Identity(), "d"), "d", `1`),
	}, got.Events)
	require.Equal(t, []queue.Next{{Function: events.FnRebuild, Envelope: want("part", events.TypeRebuild, `null`)}}, got.Next)

	require.Equal(t, got, r.process(t, delivery(t, command())), "the same a second time")

	other := command()
	other.Source = "another"
	ids := map[string]bool{}
	for _, e := range append(got.Events, r.process(t, delivery(t, other)).Events...) {
		ids[e.ID] = true
	}
	require.Len(t, ids, 7, "the same id from another source is another command; the id that was set is the same")
}

// An outcome can have a correlation and an expiry of its own, and a command to the function itself a delay.
func TestOutcomesForTheFunctionItself(t *testing.T) {
	t.Parallel()
	r := setup(t)
	tick, later := events.InternalType(events.FnRebuild, "tick"), now.Add(3*time.Minute)
	r.handles([]queue.Outcome{{Type: tick, To: events.FnRebuild, After: time.Minute, Correlation: "other", Expiry: later, Data: 1}}, nil)
	got := r.process(t, delivery(t, command()))
	require.Len(t, got.Next, 1)
	require.Equal(t, time.Minute, got.Next[0].After)
	require.Equal(t, "other", got.Next[0].Envelope.Correlation)
	require.Equal(t, later, got.Next[0].Envelope.Expiry)
	require.Equal(t, command().TraceParent, got.Next[0].Envelope.TraceParent)

	for name, o := range map[string]queue.Outcome{
		"delayed, to another":  {Type: events.TypeGetDesktop, To: events.FnGetDesktop, After: time.Minute, Data: 1},
		"internal, to another": {Type: tick, To: events.FnGetDesktop, Data: 1},
		"a delayed event":      {Type: events.TypeJobAccepted, After: time.Minute, Data: 1},
		"an internal event":    {Type: tick, Data: 1},
	} {
		r.handles([]queue.Outcome{{Type: events.TypeJobAccepted, Data: 1}, o}, nil)
		got := r.process(t, delivery(t, command()))
		require.ErrorContains(t, got.Retry, "only a command to the function itself may be internal or delayed", name)
		require.Equal(t, queue.Result{Retry: got.Retry}, got, "nothing is published")
		require.Contains(t, r.log.String(), "unexpected error")
	}
}

// What the function gets.
func TestHandled(t *testing.T) {
	t.Parallel()
	r := setup(t)
	d := delivery(t, command())
	d.Headers[queue.AttemptHeader] = []string{"3"}
	got := r.process(t, d)
	require.Len(t, r.seen, 1)
	c := r.seen[0]
	require.Equal(t, command(), c.Envelope)
	require.Equal(t, 3, c.Attempt)
	require.False(t, c.IsReaction())
	require.Equal(t, events.Identity("ci", "rebuild-1"), c.Identity())
	require.Equal(t, events.CommandRef{Type: events.TypeRebuild, ID: "rebuild-1", Source: "ci", Digest: rebuildDigest}, c.Ref())
	require.Equal(t, []string{"d-1"}, c.DesktopIDs)
	require.Len(t, got.Events, 1)
}

func TestStopWithoutAReasonStops(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.handles(nil, queue.Stop(nil))
	got := r.process(t, delivery(t, command()))
	require.Error(t, got.Stop)
	require.NotNil(t, got.Delay)
}

func TestAttemptHeader(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{
		"": 0, "0": 0, "1": 1, "12": 12, "-1": 0, "-9223372036854775808": 0, "1000001": 1_000_000, "9223372036854775807": 1_000_000,
		"9223372036854775808": 0, "garbage": 0, "1.5": 0, " 1": 0, "0x10": 0, "1\n": 0, "٣": 0,
	} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.handles(nil, queue.RetryAfter(0, nil))
			d := delivery(t, command())
			d.Headers["recompose-ATTEMPT"] = []string{value}
			got := r.process(t, d)
			require.Equal(t, want, r.seen[0].Attempt)
			require.Equal(t, want+1, got.Delay.Attempt)
		})
	}
	t.Run("in command.failed", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.handles(nil, queue.Failed(events.KindThrottled, "still"))
		d := delivery(t, command())
		d.Headers[queue.AttemptHeader] = []string{"4"}
		_, published := failure(t, r.process(t, d))
		require.Equal(t, 5, published.Attempts)
	})
}

// A delayed form has the received envelope: it is the same command.
func TestDelayedFormIsTheSame(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.handles(nil, queue.RetryAfter(time.Minute, errService))
	for name, d := range map[string]queue.Delivery{
		"structured": delivery(t, command()),
		"bare":       {Body: []byte(rebuildData), Deliveries: 1, Bare: events.Bare{Type: events.TypeRebuild, Source: "nats:s", ID: "msg-1", Time: now}},
		"binary": {
			Headers: events.Headers{"CE-Specversion": {"1.0"}, "CE-Id": {"b-1"}, "CE-Source": {"s"}, "CE-Type": {events.TypeRebuild}},
			Body:    []byte(rebuildData), Deliveries: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			first := r.process(t, d).Delay
			later := delivery(t, first.Envelope)
			later.Bare.ID, later.Bare.Time = "another", now.Add(time.Hour)
			later.Headers[queue.AttemptHeader] = []string{"1"}
			second := r.process(t, later).Delay
			require.Equal(t, 2, second.Attempt)
			require.Equal(t, first.Identity, second.Identity)
			require.Equal(t, first.Envelope, second.Envelope)
			require.JSONEq(t, rebuildData, string(second.Envelope.Data))
		})
	}
}

func TestNoSecretsInLog(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.handles(accepted(), nil)
	e := command()
	e.Data = json.RawMessage(`{"message":"private words","desktop_ids":["d-1"]}`)
	r.process(t, delivery(t, e))
	require.Contains(t, r.log.String(), "command_id=rebuild-1")
	require.Contains(t, r.log.String(), "function=rebuild")
	require.False(t, strings.Contains(r.log.String(), "private words"), "no bodies in logs")
}

// TestACommandDatedInTheFutureIsAsOldAsItsMessage has a sender whose clock is ahead, or that sets a time in the
// future on purpose.
func TestACommandDatedInTheFutureIsAsOldAsItsMessage(t *testing.T) {
	t.Parallel()
	stored := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	for name, test := range map[string]struct{ dated, counts time.Time }{
		"future": {stored.Add(24 * time.Hour), stored},
		"past":   {stored.Add(-time.Hour), stored.Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []time.Time
			f := queue.Function{Name: events.FnGetDesktop, Types: []string{events.TypeGetDesktop}, Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
				got = append(got, c.Envelope.Time)
				return nil, queue.RetryAfter(time.Hour, nil)
			}}
			e := events.Envelope{ID: "c", Source: "s", Type: events.TypeGetDesktop, Time: test.dated, Data: json.RawMessage(`{"desktop_id":"d"}`)}
			at := stored
			for range 2 { // the message, and its delayed form an hour later
				body, err := json.Marshal(e)
				require.NoError(t, err)
				r := queue.Processor{}.Process(t.Context(), f, queue.Delivery{
					Headers: events.Headers{"Content-Type": {events.ContentType}}, Body: body, Deliveries: 1, Bare: events.Bare{Time: at},
				})
				require.NotNil(t, r.Delay)
				e, at = r.Delay.Envelope, at.Add(r.Delay.After)
			}
			require.Equal(t, []time.Time{test.counts, test.counts}, got)
		})
	}
}

// While a message is held it is not handled: what a function waits for by the number of its attempts would seem to be over.
func TestHoldsAreNoAttempts(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]error{"hold": queue.Hold(time.Second, errService), "stop": queue.Stop(errService)} {
		r := setup(t)
		r.handles(nil, verdict)
		d := delivery(t, command())
		d.Headers[queue.AttemptHeader], d.Headers[queue.HeldHeader] = []string{"7"}, []string{"4"}
		delay := r.process(t, d).Delay
		require.Equal(t, [2]int{3, 4}, [2]int{r.seen[0].Attempt, r.seen[0].Held}, name)
		require.Equal(t, [2]int{8, 5}, [2]int{delay.Attempt, delay.Held}, name)
		d.Headers[queue.HeldHeader] = []string{"9"}
		r.process(t, d)
		require.Equal(t, [2]int{0, 7}, [2]int{r.seen[1].Attempt, r.seen[1].Held}, "never more than all")
	}
}
