package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

const usedUp = "5 deliveries ended in a crash or an unexpected error"

func sixth(t *testing.T, e events.Envelope) queue.Delivery {
	t.Helper()
	d := delivery(t, e)
	d.Deliveries = queue.MaxDeliveries + 1
	return d
}

func TestDeliveriesThatAreStillTried(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, queue.MaxDeliveries} {
		r := setup(t)
		d := delivery(t, command())
		d.Deliveries = n
		got := r.process(t, d)
		require.Len(t, r.seen, 1)
		require.Nil(t, got.Dead)
	}
}

func TestGivingUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		writes bool
		giveUp func() ([]queue.Outcome, error)
		effect string
		reason string
		kind   string
		class  string // of the dead letter; "" where the command ends otherwise, and the end is the one published before
	}{
		"without a way of its own":   {effect: events.EffectNone, reason: usedUp, kind: events.KindAttemptsUsedUp, class: "attempts_used_up"},
		"of a write":                 {writes: true, effect: events.EffectUnknown, reason: usedUp, kind: events.KindAttemptsUsedUp, class: "attempts_used_up"},
		"no outcome":                 {writes: true, giveUp: func() ([]queue.Outcome, error) { return nil, nil }, effect: events.EffectUnknown, reason: usedUp, kind: events.KindAttemptsUsedUp, class: "attempts_used_up"},
		"a failure":                  {writes: true, giveUp: func() ([]queue.Outcome, error) { return nil, queue.Failed(events.KindUnknownOutcome, "look") }, effect: events.EffectNone, reason: "look", kind: events.KindUnknownOutcome},
		"a failure as an outcome":    {writes: true, giveUp: failedFromLedger, effect: events.EffectUnknown, reason: "look", kind: events.KindUnknownOutcome},
		"a failure, nil of its type": {giveUp: func() ([]queue.Outcome, error) { return nil, (*queue.FailedError)(nil) }, effect: events.EffectNone, reason: usedUp, kind: events.KindAttemptsUsedUp, class: "attempts_used_up"},
		"permanent":                  {giveUp: func() ([]queue.Outcome, error) { return nil, queue.Permanent(errService) }, effect: events.EffectNone, reason: "the service is away", kind: events.KindInternal, class: "permanent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.Writes = c.writes
			if c.giveUp != nil {
				r.GiveUp = func(_ context.Context, cmd queue.Command, reason string) ([]queue.Outcome, error) {
					require.Equal(t, command(), cmd.Envelope)
					require.Equal(t, usedUp, reason)
					return c.giveUp()
				}
			}
			got := r.process(t, sixth(t, command()))
			_, published := failure(t, got)
			require.Equal(t, queue.Result{Events: got.Events, Dead: got.Dead}, got)
			if c.class == "" {
				require.Nil(t, got.Dead)
				require.Empty(t, published.DeadLetter)
			} else {
				require.NotNil(t, got.Dead)
				require.Equal(t, got.Dead.ID, published.DeadLetter, "it names the dead letter that it comes with")
				require.Equal(t, c.class, got.Dead.Class)
				require.Equal(t, 6, got.Dead.Attempts)
			}
			require.Equal(t, c.effect, published.Effect)
			require.Equal(t, c.reason, published.Error.ErrorMsg)
			require.Equal(t, c.kind, published.Error.Kind)
			require.Equal(t, "rebuild-1", got.Events[0].Causation)
			require.Empty(t, r.seen)
		})
	}
}

// failedFromLedger returns command.failed as a ledger keeps it: as JSON.
func failedFromLedger() ([]queue.Outcome, error) {
	return []queue.Outcome{{Type: events.TypeCommandFailed, ID: "kept", Data: json.RawMessage(
		`{"command":{"type":"` + events.TypeRebuild + `","id":"rebuild-1"},"attempts":1,"effect":"unknown","error":{"kind":"unknown_outcome","error_msg":"look"}}`)}}, nil
}

// A command that turns out to have ended otherwise, or that continues, gets no dead letter: no event would name it.
func TestNotGivenUpAfterAll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		published []queue.Outcome
		err       error
		check     func(*testing.T, queue.Result)
	}{
		"the job was accepted": {accepted(), nil, func(t *testing.T, r queue.Result) {
			require.Equal(t, events.TypeJobAccepted, r.Events[0].Type)
			require.Equal(t, queue.Result{Events: r.Events}, r)
		}},
		"another worker handles it": {nil, queue.RetryAfter(time.Minute, nil), func(t *testing.T, r queue.Result) {
			require.Equal(t, queue.Result{Delay: r.Delay}, r)
			require.Equal(t, time.Minute, r.Delay.After)
		}},
		"the worker must stop": {nil, queue.Stop(errService), func(t *testing.T, r queue.Result) {
			require.Equal(t, queue.Result{Delay: r.Delay, Stop: errService}, r)
		}},
		"the ledger is away": {nil, errService, func(t *testing.T, r queue.Result) {
			require.Equal(t, queue.Result{Retry: errService}, r)
		}},
		"an outcome cannot be encoded": {[]queue.Outcome{{Type: "x", Data: func() {}}}, nil, func(t *testing.T, r queue.Result) {
			require.Equal(t, queue.Result{Retry: r.Retry}, r)
			require.Error(t, r.Retry)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.GiveUp = func(context.Context, queue.Command, string) ([]queue.Outcome, error) { return c.published, c.err }
			c.check(t, r.process(t, sixth(t, command())))
		})
	}
}

// A command ends even if giving up crashes, before SQS would move the message away without an end.
func TestGivingUpFails(t *testing.T) {
	t.Parallel()
	for name, giveUp := range map[string]func(context.Context, queue.Command, string) ([]queue.Outcome, error){
		"error": func(context.Context, queue.Command, string) ([]queue.Outcome, error) { return nil, errors.New("boom") },
		"panic": func(context.Context, queue.Command, string) ([]queue.Outcome, error) { panic("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.GiveUp = giveUp
			d := delivery(t, command())
			for d.Deliveries = 6; d.Deliveries < 10; d.Deliveries++ {
				got := r.process(t, d)
				require.ErrorContains(t, got.Retry, "boom")
				require.Equal(t, queue.Result{Retry: got.Retry}, got)
			}
			got := r.process(t, d)
			_, published := failure(t, got)
			require.Equal(t, events.KindAttemptsUsedUp, published.Error.Kind)
			require.Contains(t, published.Error.ErrorMsg, "and giving up failed: ")
			require.Contains(t, published.Error.ErrorMsg, "boom")
			require.Equal(t, events.EffectUnknown, published.Effect)
			require.Equal(t, got.Dead.ID, published.DeadLetter)
		})
	}
}
