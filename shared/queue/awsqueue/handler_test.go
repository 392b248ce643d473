package awsqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/testkit/awstest"
)

const fn = "getdesktop"

// bench runs one function behind its queue.
type bench struct {
	*awstest.Server
	t *testing.T
	h *awsqueue.Handler
}

type handle func(ctx context.Context, c queue.Command) ([]queue.Outcome, error)

func describes(context.Context, queue.Command) ([]queue.Outcome, error) {
	return []queue.Outcome{{Type: events.TypeDesktopDescribed, Data: map[string]bool{"done": true}}}, nil
}

func newBench(t *testing.T, do handle, change func(*queue.Function, *awsqueue.Options)) *bench {
	t.Helper()
	b := &bench{Server: awstest.New(), t: t}
	t.Cleanup(b.Close)
	f := queue.Function{Name: fn, Types: []string{events.CommandType(fn)}, Handle: do}
	setUp(b.Server, f, true, time.Minute)
	o := options(b.Server, fn, http.DefaultTransport)
	if change != nil {
		change(&f, &o)
	}
	var err error
	b.h, err = awsqueue.New(f, o)
	require.NoError(t, err)
	return b
}

func message(id, body string, attributes map[string]string) lambda.SQSMessage {
	m := lambda.SQSMessage{
		MessageId: id, ReceiptHandle: "handle " + id, Body: body, EventSourceARN: awstest.QueueARN(fn),
		Attributes:        map[string]string{"ApproximateReceiveCount": "1", "SentTimestamp": fmt.Sprint(time.Now().UnixMilli())},
		MessageAttributes: map[string]lambda.SQSMessageAttribute{},
	}
	for name, value := range attributes {
		m.MessageAttributes[name] = lambda.SQSMessageAttribute{DataType: "String", StringValue: aws.String(value)}
	}
	return m
}

func command(id string) lambda.SQSMessage {
	return message(id, fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"test","type":%q,"data":{}}`, id, events.CommandType(fn)), nil)
}

// take passes a batch to the function and returns the ids listed as failed.
func (b *bench) take(ctx context.Context, ms ...lambda.SQSMessage) []string {
	b.t.Helper()
	answer, err := b.h.Handle(ctx, lambda.SQSEvent{Records: ms})
	require.NoError(b.t, err)
	require.NotNil(b.t, answer.BatchItemFailures, "null is not a list")
	failed := []string{}
	for _, f := range answer.BatchItemFailures {
		failed = append(failed, f.ItemIdentifier)
	}
	return failed
}

// only returns the only message in a queue, as stored and as the function receives it.
func (b *bench) only(name string) (awstest.Message, lambda.SQSMessage) {
	b.t.Helper()
	ms := b.Messages(name)
	require.NotEmpty(b.t, ms)
	last := ms[len(ms)-1]
	return last, message(last.ID, last.Body, last.Attributes)
}

func TestALongDelayGoesInHops(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	start := time.Now()
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if c.Attempt == 0 {
			return nil, queue.RetryFailed(40*time.Minute, errors.New("later"))
		}
		require.Equal(t, 1, c.Attempt)
		require.Equal(t, 1, c.Failures)
		return describes(ctx, c)
	}, func(_ *queue.Function, o *awsqueue.Options) {
		o.Now = func() time.Time { return start.Add(time.Duration(now.Load())) }
	})
	require.Empty(t, b.take(t.Context(), command("c1")))
	var delays []time.Duration
	for len(b.Published()) == 0 {
		sent, redelivered := b.only(fn)
		delays = append(delays, sent.Delay)
		now.Add(int64(sent.Delay))
		require.Empty(t, b.take(t.Context(), redelivered))
	}
	require.Equal(t, []time.Duration{15 * time.Minute, 15 * time.Minute, 10 * time.Minute}, delays)
}

// A command to the function itself goes to its own queue: no sender can use its type, and the topic cannot delay it.
func TestACommandToTheFunctionItselfGoesInHopsToItsQueue(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	start, tick := time.Now(), events.InternalType(fn, "tick")
	var at []time.Duration
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if c.Envelope.Type == tick {
			at = append(at, time.Duration(now.Load()))
			return describes(ctx, c)
		}
		return []queue.Outcome{{Type: tick, To: fn, After: 20 * time.Minute, Data: 1}}, nil
	}, func(f *queue.Function, o *awsqueue.Options) {
		f.Internal = []string{tick}
		o.Now = func() time.Time { return start.Add(time.Duration(now.Load())) }
	})
	require.Empty(t, b.take(t.Context(), command("c1")))
	require.Empty(t, b.Published(), "not on the topic")
	for _, want := range []time.Duration{15 * time.Minute, 5 * time.Minute} {
		sent, redelivered := b.only(fn)
		require.Equal(t, want, sent.Delay)
		require.Empty(t, sent.Attributes["type"])
		now.Add(int64(want))
		require.Empty(t, b.take(t.Context(), redelivered))
	}
	require.Equal(t, []time.Duration{20 * time.Minute}, at)
	require.Len(t, b.Published(), 1)
}

func TestForgedAttemptNumbersAreIgnored(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if c.Attempt == 0 {
			return nil, queue.RetryAfter(0, nil)
		}
		return describes(ctx, c)
	}, nil)
	require.Empty(t, b.take(t.Context(), command("c1")))
	sent, form := b.only(fn)
	copied := command("c2") // the attributes of another message
	copied.MessageAttributes = form.MessageAttributes
	changed := form
	changed.MessageAttributes = maps.Clone(form.MessageAttributes)
	changed.MessageAttributes[queue.AttemptHeader] = lambda.SQSMessageAttribute{StringValue: aws.String("7")}
	require.Empty(t, b.take(t.Context(), copied, changed))
	require.Empty(t, b.Published())
	require.Equal(t, "1", sent.Attributes[queue.AttemptHeader])
	require.Empty(t, b.take(t.Context(), form))
	require.Len(t, b.Published(), 1)
}

func TestFailedMessagesAreRedeliveredAfterGrowingWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(context.Context, queue.Command) ([]queue.Outcome, error) { return nil, errors.New("unexpected") }, nil)
	recorder := &visibility{}
	o := options(b.Server, fn, http.DefaultTransport)
	o.Redeliver, o.SQS = nil, recorder
	h, err := awsqueue.New(queue.Function{Name: fn, Types: []string{events.CommandType(fn)}, Handle: func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, errors.New("unexpected")
	}}, o)
	require.NoError(t, err)
	b.h = h
	var batch []lambda.SQSMessage
	for i, receives := range []string{"1", "2", "5"} {
		m := command(fmt.Sprint(i))
		m.Attributes["ApproximateReceiveCount"] = receives
		batch = append(batch, m)
	}
	require.Equal(t, []string{"0", "1", "2"}, b.take(t.Context(), batch...))
	require.Equal(t, []int32{5, 15, 120}, recorder.waits)
}

// visibility records how long messages are hidden.
type visibility struct {
	awsqueue.SQS
	waits []int32
}

func (v *visibility) ChangeMessageVisibilityBatch(_ context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	for _, e := range in.Entries {
		v.waits = append(v.waits, e.VisibilityTimeout)
	}
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

func TestAMessageNotStartedInTimeIsReturnedAndNeverGivenUpForThat(t *testing.T) {
	t.Parallel()
	var called atomic.Int32
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		called.Add(1)
		<-ctx.Done() // until the deadline is near
		return nil, ctx.Err()
	}, func(_ *queue.Function, o *awsqueue.Options) { o.Concurrency = 1 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	often := command("often")
	often.Attributes["ApproximateReceiveCount"] = "3"
	begun := time.Now()
	require.Equal(t, []string{"first", "second"}, b.take(ctx, command("first"), command("second"), often))
	require.Less(t, time.Since(begun), time.Second)
	require.EqualValues(t, 1, called.Load())
	sent, _ := b.only(fn)
	require.Contains(t, sent.Body, "often", "it was sent as a new message")
	require.Zero(t, sent.Delay)
}

// stuck is a refused key.
type stuck struct {
	why     error
	refused atomic.Int32
}

func (s *stuck) Check(context.Context) error   { return s.why }
func (s *stuck) Refuse(context.Context, error) { s.refused.Add(1) }

func TestAKeyHoldsMessagesAndAnswersThoseThatNeedNoCall(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(context.Context, queue.Command) ([]queue.Outcome, error) { panic("not reached") },
		func(f *queue.Function, o *awsqueue.Options) { f.Writes, o.Key = true, &stuck{why: errors.New("401")} })
	enveloped := command("c1")
	enveloped.MessageId = "m1"
	require.Empty(t, b.take(t.Context(), enveloped, message("bare", `{}`, map[string]string{"id": "mine"}),
		message("m3", `{}`, nil), message("m4", `{"specversion":"1.0"}`, nil)))
	held := b.Messages(fn)
	require.Len(t, held, 2)
	for _, m := range held {
		require.Equal(t, 65*time.Second, m.Delay)
	}
	require.Len(t, b.Messages(fn+"-dead"), 1, "the unreadable message")
	require.Len(t, b.Published(), 1, "a bare write without an id is refused")
}

func TestAKeyMaySetTheTimeOfTheNextCheck(t *testing.T) {
	t.Parallel()
	key := &stuck{why: queue.RetryAfter(2*time.Second, errors.New("soon"))}
	now, got := time.Now(), queue.Command{}
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		got = c
		return describes(ctx, c)
	}, func(_ *queue.Function, o *awsqueue.Options) {
		o.Key, o.Now = key, func() time.Time { return now }
	})
	m := command("c1")
	for n := range 2 {
		require.Empty(t, b.take(t.Context(), m))
		sent, held := b.only(fn)
		require.Equal(t, 2*time.Second, sent.Delay)
		require.Equal(t, fmt.Sprint(n+1), sent.Attributes[queue.HeldHeader])
		sealed := events.Derive(sent.Body, "form", fn, fmt.Sprint(n+1), "", sent.Attributes["Recompose-Due"])
		require.Equal(t, sealed, sent.Attributes["Recompose-Form"], "functions that do not know holds read the form")
		now = now.Add(2 * time.Second)
		m = held
	}
	key.why = nil
	require.Empty(t, b.take(t.Context(), m))
	require.Equal(t, [2]int{0, 2}, [2]int{got.Attempt, got.Held}, "a hold is no attempt")
}

func TestADeadLetterIsCompleteAndCanBeMovedBack(t *testing.T) {
	t.Parallel()
	var give atomic.Bool
	give.Store(true)
	var got atomic.Value
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if give.Load() {
			return nil, queue.Permanent(errors.New("never\x00 will do"))
		}
		got.Store(c)
		return describes(ctx, c)
	}, func(f *queue.Function, _ *awsqueue.Options) { f.Writes = true })
	m := message("m1", `{"desktop_id":"d1"}`, map[string]string{"id": "mine", "X-Mine": "kept", queue.AttemptHeader: "4"})
	m.Attributes["ApproximateReceiveCount"] = "2"
	require.Empty(t, b.take(t.Context(), m))
	dead, moved := b.only(fn + "-dead")
	require.LessOrEqual(t, len(dead.Attributes), 10)
	require.Equal(t, m.Body, dead.Body)
	for name, want := range map[string]string{
		awsqueue.AttrFunction: fn, awsqueue.AttrClass: queue.ClassPermanent, awsqueue.AttrAttempts: "2", awsqueue.AttrReason: "never  will do",
	} {
		require.Equal(t, want, dead.Attributes[name])
	}
	var named awsqueue.Command
	require.NoError(t, json.Unmarshal([]byte(dead.Attributes[awsqueue.AttrCommand]), &named))
	require.Equal(t, awsqueue.Command{Type: events.CommandType(fn), ID: "mine", Source: "sqs/" + fn, Correlation: "mine"}, named)
	for _, at := range []string{awsqueue.AttrFirst, awsqueue.AttrLast} {
		_, err := time.Parse(time.RFC3339Nano, dead.Attributes[at])
		require.NoError(t, err)
	}

	give.Store(false)
	require.Empty(t, b.take(t.Context(), moved))
	redelivered := got.Load().(queue.Command)
	require.Equal(t, "mine", redelivered.Envelope.ID, "the same command: the ledger holds")
	require.Equal(t, "sqs/"+fn, redelivered.Envelope.Source)
	require.Zero(t, redelivered.Attempt)
}

// A bare command has no time of its own: moved back from the dead letters it must keep its age, or a late write would
// be handled as a new one.
func TestAMessageThatIsMovedBackKeepsItsAge(t *testing.T) {
	t.Parallel()
	var received []time.Time
	b := newBench(t, func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		received = append(received, c.Envelope.Time)
		return nil, queue.Permanent(errors.New("ill"))
	}, nil)
	old := message("m1", `{"desktop_id":"d"}`, map[string]string{"id": "c1"})
	stored := time.Now().Add(-7 * time.Hour).UTC().Truncate(time.Millisecond)
	old.Attributes["SentTimestamp"] = fmt.Sprint(stored.UnixMilli())
	require.Empty(t, b.take(t.Context(), old))
	letter := b.Messages(fn + "-dead")[0]
	require.Empty(t, b.take(t.Context(), message("m2", letter.Body, letter.Attributes)))
	require.Equal(t, []time.Time{stored, stored}, received)

	letter.Attributes[awsqueue.AttrFirst] = time.Now().Add(time.Hour).Format(time.RFC3339Nano)
	require.Empty(t, b.take(t.Context(), message("m3", letter.Body, letter.Attributes)))
	require.WithinDuration(t, time.Now(), received[2], time.Minute, "nothing is younger than its message")
}

func TestATopicWithoutRawDelivery(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		got.Store(c)
		return describes(ctx, c)
	}, nil)
	b.Subscribe(fn, false, events.CommandType(fn))
	for _, c := range []struct{ body, want string }{
		{`{"desktop_id":"d1"}`, "mine"},
		{fmt.Sprintf(`{"specversion":"1.0","id":"enveloped","source":"test","type":%q,"data":{}}`, events.CommandType(fn)), "enveloped"},
	} {
		b.Publish(c.body, map[string]string{"type": events.CommandType(fn), "id": "mine"})
		_, m := b.only(fn)
		require.Contains(t, m.Body, "TopicArn")
		require.Empty(t, b.take(t.Context(), m))
		require.Equal(t, c.want, got.Load().(queue.Command).Envelope.ID)
	}
	b.Publish(`{"desktop_id":"d2"}`, map[string]string{"type": events.CommandType(fn)})
	_, m := b.only(fn)
	ids := map[string]bool{}
	for _, delivery := range []string{"one", "two"} { // the topic may deliver a message twice, under two ids of the queue
		m.MessageId = delivery
		require.Empty(t, b.take(t.Context(), m))
		ids[got.Load().(queue.Command).Envelope.ID] = true
	}
	require.Len(t, ids, 1)
}

func TestOutagesCostNoMessage(t *testing.T) {
	t.Parallel()
	b := newBench(t, describes, nil)
	b.Fail(func(action string, n int) int {
		if action == "PublishBatch" && n <= 2 {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	require.Empty(t, b.take(t.Context(), command("c1")), "a short one is waited out")
	b.Fail(func(action string, _ int) int {
		if action == "PublishBatch" {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	require.Equal(t, []string{"c2"}, b.take(t.Context(), command("c2")))
	require.Len(t, b.Published(), 1)
}

func TestNewNamesEveryMissingOption(t *testing.T) {
	t.Parallel()
	_, err := awsqueue.New(queue.Function{Name: fn}, awsqueue.Options{})
	for _, missing := range []string{"queue", "dead-letter queue", "topic", "clients"} {
		require.ErrorContains(t, err, missing)
	}
}

func TestMessagesOfABatchAreHandledConcurrently(t *testing.T) {
	t.Parallel()
	open, begun := make(chan struct{}), make(chan string, 10)
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		begun <- c.Envelope.ID
		<-open
		return describes(ctx, c)
	}, func(_ *queue.Function, o *awsqueue.Options) { o.Concurrency = 3 })
	var batch []lambda.SQSMessage
	for i := range 5 {
		batch = append(batch, command(fmt.Sprint(i)))
	}
	done := make(chan []string, 1)
	go func() { done <- b.take(context.Background(), batch...) }()
	first := []string{<-begun, <-begun, <-begun}
	slices.Sort(first)
	require.Equal(t, []string{"0", "1", "2"}, first)
	select {
	case id := <-begun:
		require.Fail(t, "more than three at a time", id)
	default:
	}
	close(open)
	require.Empty(t, <-done)
	require.Len(t, b.Published(), 5)
}
