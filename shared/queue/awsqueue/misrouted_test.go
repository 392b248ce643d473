package awsqueue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
)

// countedKey counts how often it is checked.
type countedKey struct{ checks int }

func (k *countedKey) Check(context.Context) error   { k.checks++; return nil }
func (k *countedKey) Refuse(context.Context, error) {}

// A new filter is in force only after some minutes, and until then each function receives messages for the others. A
// command that is answered twice would have two ends, one of them wrong.
func TestMessagesForAnotherFunctionAreDropped(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	var handled int
	key := &countedKey{}
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		handled++
		return describes(ctx, c)
	}, func(f *queue.Function, o *awsqueue.Options) {
		f.Reacts = []string{events.TypeJobCompleted}
		f.React = func(e events.Envelope) (events.Envelope, bool, error) {
			c, err := e.Implies(fn, e.Data)
			return c, true, err
		}
		o.Log, o.Key = slog.New(slog.NewJSONHandler(&log, nil)), key
	})
	send := func(typ, attribute string) {
		t.Helper()
		body := `{"specversion":"1.0","id":"c1","source":"test","type":"` + typ + `","data":{}}`
		attributes := map[string]string{"id": "c1", "correlationid": "chain"}
		if attribute != "" {
			attributes["type"] = attribute
		}
		require.Empty(t, b.take(t.Context(), message("m1", body, attributes)))
	}
	for _, typ := range []string{
		events.TypeRebuild, "recompose.command.rebuild.v2", "recompose.command.getdesktops.v1", events.TypeJobAccepted, events.TypeImagesChecked,
	} {
		log.Reset()
		send(typ, typ)
		require.Contains(t, log.String(), `"level":"WARN"`)
		require.Contains(t, log.String(), typ)
		require.Contains(t, log.String(), `"correlation_id":"chain"`)
	}
	require.Zero(t, handled)
	require.Zero(t, key.checks, "the key is not checked for them")
	require.Empty(t, b.Published(), "no answer")
	require.Empty(t, b.Messages(fn), "no message is left")
	require.Empty(t, b.Messages(fn+"-dead"))

	send(events.CommandType(fn), events.CommandType(fn))
	send(events.TypeJobCompleted, events.TypeJobCompleted)
	require.Equal(t, 2, handled, "its own are handled")
	for i, wrong := range [][2]string{
		{events.TypeRebuild, ""},                                               // sent to this queue by mistake, not by the topic
		{events.TypeRebuild, events.CommandType(fn)},                           // by the topic, and meant for this function
		{"recompose.command.getdesktop.v2", "recompose.command.getdesktop.v2"}, // of a version that is not known
	} {
		send(wrong[0], wrong[1])
		published := b.Published()
		require.Len(t, published, 2+i+1, "its sender gets an answer")
		require.Equal(t, events.TypeCommandFailed, published[len(published)-1].Attributes["type"])
	}
	require.Equal(t, 2, handled)
}

// refusingKey lets no message be handled.
type refusingKey struct{}

func (refusingKey) Check(context.Context) error   { return errors.New("refused") }
func (refusingKey) Refuse(context.Context, error) {}

// A held message loses the attribute by which it was routed, so a command of another type must be refused before.
func TestACommandOfAnotherTypeIsNotHeld(t *testing.T) {
	t.Parallel()
	const start, approve = "recompose.command.getdesktop.start.v1", "recompose.command.getdesktop.approve.v1"
	b := newBench(t, describes, func(f *queue.Function, o *awsqueue.Options) {
		f.Types, o.Key = []string{start, approve}, refusingKey{}
	})
	body := `{"specversion":"1.0","id":"c1","source":"test","type":"` + approve + `","data":{}}`
	require.Empty(t, b.take(t.Context(), message("m1", body, map[string]string{"type": start})))
	require.Len(t, b.Published(), 1)
	require.Contains(t, b.Published()[0].Body, "type: must be that of the subject or of the attribute type")
	require.Empty(t, b.take(t.Context(), message("m2", body, map[string]string{"type": approve})))
	require.Len(t, b.Published(), 1, "held")
}

// A rule wakes a function, with a message that needs no key and is not delayed.
func TestARuleWakesAFunction(t *testing.T) {
	t.Parallel()
	tick := events.InternalType(fn, "tick")
	for _, noCalls := range []bool{false, true} {
		b := newBench(t, describes, func(f *queue.Function, o *awsqueue.Options) {
			f.Internal, f.NoCalls, o.Key = []string{tick}, noCalls, refusingKey{}
			f.Wake = func(context.Context, time.Time) ([]queue.Outcome, error) {
				return []queue.Outcome{{Type: tick, To: fn, Data: 1}}, nil
			}
		})
		body := `{"specversion":"1.0","id":"e-1","source":"eventbridge/wake","type":"` + queue.WakeType(fn) + `","time":"2026-01-15T08:30:00Z"}`
		require.Empty(t, b.take(t.Context(), message("m1", body, nil)))
		require.Empty(t, b.Published())
		sent, form := b.only(fn)
		require.Contains(t, sent.Body, tick)
		require.Zero(t, sent.Delay)
		require.Empty(t, b.take(t.Context(), form))
		require.Equal(t, noCalls, len(b.Published()) == 1, "handled, or held")
	}
}

// Who may publish one type only may not send another by making the message look like one that a topic wraps, like a dead
// letter or like a delayed form: those have no attribute type of their own.
func TestWhatAMessageContainsDoesNotChangeItsRoute(t *testing.T) {
	t.Parallel()
	const start, approve = "recompose.command.getdesktop.start.v1", "recompose.command.getdesktop.approve.v1"
	tick := events.InternalType(fn, "tick")
	envelope := func(typ string) string {
		return `{"specversion":"1.0","id":"c1","source":"test","type":"` + typ + `","data":{}}`
	}
	wrapped, err := json.Marshal(map[string]any{
		"Type": "Notification", "MessageId": "n1", "TopicArn": "arn:aws:sns:eu-central-1:123456789012:t", "Message": envelope(approve),
		"MessageAttributes": map[string]any{"type": map[string]string{"Type": "String", "Value": approve}},
	})
	require.NoError(t, err)
	dead := func(original string) map[string]string {
		return map[string]string{"type": start, awsqueue.AttrDeadID: "d1", awsqueue.AttrOriginal: original}
	}
	due := time.Now().Add(5 * time.Minute).UTC().Format(time.RFC3339Nano)
	form := map[string]string{
		"type": start, queue.AttemptHeader: "1", "Recompose-Due": due, "Recompose-Form": events.Derive(envelope(approve), "form", fn, "1", "", due),
	}
	for name, m := range map[string]lambda.SQSMessage{
		"a delayed form":                       message("m1", envelope(approve), form),
		"wrapped":                              message("m1", string(wrapped), map[string]string{"type": start}),
		"a dead letter":                        message("m1", envelope(approve), dead(`{"type":["`+approve+`"]}`)),
		"a dead letter without a type":         message("m1", envelope(approve), dead(`{"type":[]}`)),
		"a dead letter of an internal message": message("m1", envelope(tick), dead(`{"type":[]}`)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
				assert.Equal(t, start, c.Envelope.Type)
				return nil, queue.Failed(events.KindInvalid, "data: is that of another type")
			}, func(f *queue.Function, _ *awsqueue.Options) {
				f.Types, f.Internal = []string{start, approve}, []string{tick}
			})
			require.Empty(t, b.take(t.Context(), m))
			require.Len(t, b.Published(), 1)
			require.Contains(t, b.Published()[0].Body, `"kind":"invalid"`)
			require.Empty(t, b.Messages(fn), "nothing is sent on without its type")
		})
	}
}
