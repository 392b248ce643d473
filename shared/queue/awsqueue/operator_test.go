package awsqueue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/testkit/awstest"
)

func envelope(id string) events.Envelope {
	return events.Envelope{ID: id, Source: "recompose/send", Type: events.TypeGetDesktop, Time: time.Now().UTC(), Correlation: "chain", Data: []byte(`{"desktop_id":"d"}`)}
}

func TestACommandGoesToTheTopicOrToAQueue(t *testing.T) {
	t.Parallel()
	b := newBench(t, describes, nil)
	require.NoError(t, awsqueue.NewSender(b.Config(), awstest.TopicARN, "").Send(t.Context(), envelope("a")))
	require.NoError(t, awsqueue.NewSender(b.Config(), "", b.QueueURL(fn)).Send(t.Context(), envelope("b")))
	require.Len(t, b.Published(), 1)
	require.Equal(t, map[string]string{"type": events.TypeGetDesktop, "id": "a", "correlationid": "chain"}, b.Published()[0].Attributes)
	ms := b.Messages(fn)
	require.Len(t, ms, 2)
	for i, m := range ms {
		e, err := events.Decode(events.Headers{}, []byte(m.Body), events.Bare{})
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}[i], e.ID)
	}
}

func TestARefusedCommandWasNotSent(t *testing.T) {
	t.Parallel()
	s := awstest.New()
	t.Cleanup(s.Close)
	send := func(e events.Envelope, topic, url string) error {
		return awsqueue.NewSender(s.Config(), topic, url).Send(t.Context(), e)
	}
	require.ErrorIs(t, send(envelope("a"), awstest.TopicARN+"x", ""), awsqueue.ErrNotSent, "no such topic")
	require.ErrorIs(t, send(envelope("a"), "", s.QueueURL("none")), awsqueue.ErrNotSent, "no such queue")
	large := envelope("a")
	large.Data = fmt.Appendf(nil, `{"desktop_id":%q}`, strings.Repeat("x", 250*1024))
	require.ErrorIs(t, send(large, awstest.TopicARN, ""), awsqueue.ErrNotSent)
	event := envelope("a")
	event.Type = events.TypeDesktopDescribed
	require.ErrorIs(t, send(event, awstest.TopicARN, ""), awsqueue.ErrNotSent, "an event is not a command")
	s.RefuseEntries(func(string) (string, bool) { return "InvalidParameter", true })
	require.ErrorIs(t, send(envelope("a"), awstest.TopicARN, ""), awsqueue.ErrNotSent)
	require.Empty(t, s.Published())

	nowhere := s.Config()
	nowhere.BaseEndpoint, nowhere.RetryMaxAttempts = nil, 1
	nowhere.HTTPClient = noHost{}
	err := awsqueue.NewSender(nowhere, awstest.TopicARN, "").Send(t.Context(), envelope("a"))
	require.ErrorIs(t, err, awsqueue.ErrNotSent, "a region that does not exist has no host")

	s.RefuseEntries(nil)
	s.Fail(func(string, int) int { return http.StatusServiceUnavailable })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = awsqueue.NewSender(s.Config(), awstest.TopicARN, "").Send(ctx, envelope("a"))
	require.Error(t, err)
	require.NotErrorIs(t, err, awsqueue.ErrNotSent, "it may have been stored")
}

// lostThenRefused loses the first answer, and refuses all calls after it.
type lostThenRefused struct{ calls *atomic.Int32 }

func (l lostThenRefused) Do(r *http.Request) (*http.Response, error) {
	if l.calls.Add(1) == 1 {
		if answer, err := http.DefaultClient.Do(r); err == nil {
			_ = answer.Body.Close()
		}
		return nil, io.ErrUnexpectedEOF
	}
	const expired = `<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code><Message>expired</Message></Error></ErrorResponse>`
	return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(expired))}, nil
}

func TestARefusalAfterALostAnswerIsNoProof(t *testing.T) {
	t.Parallel()
	s := awstest.New()
	t.Cleanup(s.Close)
	c := s.Config()
	c.HTTPClient = lostThenRefused{&atomic.Int32{}}
	err := awsqueue.NewSender(c, awstest.TopicARN, "").Send(t.Context(), envelope("a"))
	require.ErrorContains(t, err, "ExpiredToken")
	require.Len(t, s.Published(), 1)
	require.NotErrorIs(t, err, awsqueue.ErrNotSent)
}

// noHost finds no host.
type noHost struct{}

func (noHost) Do(r *http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}
}

func TestAFollowerReadsEveryMessageAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := awstest.New()
	t.Cleanup(s.Close)
	f, err := awsqueue.Follow(t.Context(), s.Config(), awstest.TopicARN, testLog())
	require.NoError(t, err)
	require.Len(t, s.Queues(), 1)
	require.True(t, strings.HasPrefix(s.Queues()[0], awsqueue.FollowerPrefix))
	sender := awsqueue.NewSender(s.Config(), awstest.TopicARN, "")
	for i := range 25 {
		require.NoError(t, sender.Send(t.Context(), envelope(fmt.Sprint(i))))
	}
	s.Publish("no envelope", map[string]string{"type": "x"})
	seen := map[string]bool{}
	require.NoError(t, f.Read(t.Context(), func(e events.Envelope) (bool, error) {
		seen[e.ID] = true
		return len(seen) < 25, nil
	}))
	require.Len(t, seen, 25)

	failure := errors.New("expected")
	require.NoError(t, sender.Send(t.Context(), envelope("more")))
	require.ErrorIs(t, f.Read(t.Context(), func(events.Envelope) (bool, error) { return false, failure }), failure)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Read(ctx, nil), context.Canceled)
	require.NoError(t, f.Close(t.Context()))
	require.NoError(t, f.Close(t.Context()))
	require.Empty(t, s.Queues())
	s.Publish("without a reader", map[string]string{"type": "x"})
}

func TestAFollowerWaitsOutOutages(t *testing.T) {
	t.Parallel()
	s := awstest.New()
	t.Cleanup(s.Close)
	f, err := awsqueue.Follow(t.Context(), s.Config(), awstest.TopicARN, testLog())
	require.NoError(t, err)
	s.Fail(func(action string, n int) int {
		if action == "ReceiveMessage" && n <= 4 { // more than the SDK tries by itself
			return http.StatusServiceUnavailable
		}
		return 0
	})
	require.NoError(t, awsqueue.NewSender(s.Config(), awstest.TopicARN, "").Send(t.Context(), envelope("a")))
	require.NoError(t, f.Read(t.Context(), func(e events.Envelope) (bool, error) { return e.ID != "a", nil }))
	require.NoError(t, f.Close(t.Context()))
}

// youngQueue answers some reads of a queue as SQS may in the first second of a queue.
type youngQueue struct{ left *atomic.Int32 }

func (y youngQueue) Do(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ReceiveMessage") || y.left.Add(-1) < 0 {
		return http.DefaultClient.Do(r)
	}
	return &http.Response{
		StatusCode: http.StatusBadRequest, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(`{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}`)),
	}, nil
}

func TestAFollowerWaitsForItsQueue(t *testing.T) {
	t.Parallel()
	s := awstest.New()
	t.Cleanup(s.Close)
	c, left := s.Config(), &atomic.Int32{}
	left.Store(2)
	c.HTTPClient = youngQueue{left}
	f, err := awsqueue.Follow(t.Context(), c, awstest.TopicARN, testLog())
	require.NoError(t, err)
	require.NoError(t, awsqueue.NewSender(s.Config(), awstest.TopicARN, "").Send(t.Context(), envelope("a")))
	require.NoError(t, f.Read(t.Context(), func(e events.Envelope) (bool, error) { return e.ID != "a", nil }))
	require.NoError(t, f.Close(t.Context()))
}

func TestAFollowerThatCannotSubscribeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := awstest.New()
	t.Cleanup(s.Close)
	_, err := awsqueue.Follow(t.Context(), s.Config(), awstest.TopicARN+"x", testLog())
	require.ErrorContains(t, err, "subscribe to the topic")
	require.Empty(t, s.Queues())
	_, err = awsqueue.Follow(t.Context(), s.Config(), "recompose", testLog())
	require.ErrorContains(t, err, `must be the ARN of a topic`)
}

// letters reads the dead letters of the bench's function.
func (b *bench) letters() *awsqueue.Letters {
	b.t.Helper()
	fns := []queue.Function{{Name: fn, Types: []string{events.CommandType(fn)}}}
	l, err := awsqueue.NewLetters(b.Config(), fns, map[string]awsqueue.Queues{fn: {URL: b.QueueURL(fn), DeadLetterURL: b.QueueURL(fn + "-dead")}})
	require.NoError(b.t, err)
	return l
}

func ill(context.Context, queue.Command) ([]queue.Outcome, error) {
	return nil, queue.Permanent(errors.New("ill"))
}

func TestDeadLettersAreListedRedrivenAndDropped(t *testing.T) {
	t.Parallel()
	b := newBench(t, ill, nil)
	old := command("c1")
	old.Attributes["SentTimestamp"] = fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli())
	require.Empty(t, b.take(t.Context(), old, message("m2", `{"desktop_id":"d"}`, map[string]string{"id": "c2", "colour": "red"}), message("m3", `{"specversion":"1.0","id":"","source":"s"}`, nil)))
	require.NoError(t, b.Send(fn+"-dead", `{"desktop_id":"e"}`, map[string]string{"id": "c4"})) // as SNS would
	l := b.letters()
	letters, err := l.DeadLetters(t.Context(), queue.LetterFilter{})
	require.NoError(t, err)
	require.Len(t, letters, 4)
	classes := map[string]string{}
	for _, letter := range letters {
		require.Equal(t, fn, letter.Function)
		require.Nil(t, letter.Body)
		require.NotEmpty(t, letter.ID)
		require.NotEmpty(t, letter.Reason)
		classes[letter.Command.ID] = letter.Class
	}
	require.Equal(t, "c1", letters[0].Command.ID, "the oldest first")
	require.Equal(t, map[string]string{"c1": queue.ClassPermanent, "c2": queue.ClassPermanent, "": queue.ClassUnreadable, "c4": queue.ClassUndelivered}, classes)

	other := b.letters()
	seen, err := other.DeadLetters(t.Context(), queue.LetterFilter{})
	require.NoError(t, err)
	require.Empty(t, seen, "another reader has received them")
	require.Equal(t, 4, other.Hidden())
	require.NoError(t, l.Close(t.Context()))
	seen, err = other.DeadLetters(t.Context(), queue.LetterFilter{Class: queue.ClassPermanent})
	require.NoError(t, err)
	require.Len(t, seen, 2)
	require.Zero(t, other.Hidden())
	require.NoError(t, other.Close(t.Context()))

	one, err := queue.LettersOf(t.Context(), l, letters[0].ID[:9])
	require.NoError(t, err)
	require.Len(t, one, 1)
	require.JSONEq(t, old.Body, string(one[0].Body))
	e, err := l.CheckRedrive(one[0])
	require.NoError(t, err)
	require.Equal(t, "c1", e.ID)
	_, err = queue.LettersOf(t.Context(), l, "nosuch")
	require.ErrorIs(t, err, queue.ErrNoLetter)
	_, err = queue.LettersOf(t.Context(), l, "")
	require.Error(t, err)

	for _, letter := range letters {
		if letter.Class == queue.ClassUnreadable {
			require.NoError(t, l.Drop(t.Context(), letter))
			require.NoError(t, l.Drop(t.Context(), letter), "it may be repeated")
			require.ErrorIs(t, l.Redrive(t.Context(), letter), queue.ErrNoLetter)
		} else {
			require.NoError(t, l.Redrive(t.Context(), letter))
		}
	}
	require.NoError(t, l.Close(t.Context()))
	require.Empty(t, b.Messages(fn+"-dead"))
	require.Len(t, b.Messages(fn), 3)
}

// A redriven message is the same command to its function, in every form, and keeps its age.
func TestARedrivenMessageIsTheSameCommand(t *testing.T) {
	t.Parallel()
	var received []events.Envelope
	b := newBench(t, func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		received = append(received, c.Envelope)
		return nil, queue.Permanent(errors.New("ill"))
	}, nil)
	stored := time.Now().Add(-7 * time.Hour).UTC().Truncate(time.Millisecond)
	for i, m := range []struct {
		body       string
		attributes map[string]string
	}{
		{body: command("c").Body},
		{body: `{"desktop_id":"d"}`, attributes: map[string]string{"id": "c", "colour": "red"}},
		{body: `{"desktop_id":"d"}`, attributes: map[string]string{"ce-specversion": "1.0", "ce-id": "c", "ce-source": "s", "ce-type": events.CommandType(fn)}},
		{body: fmt.Sprintf(`{"Type":"Notification","MessageId":"n","TopicArn":%q,"Message":"{\"desktop_id\":\"d\"}","Timestamp":%q,"MessageAttributes":{"id":{"Type":"String","Value":"c"}}}`,
			awstest.TopicARN, stored.Format(time.RFC3339Nano))},
	} {
		received = nil
		first := message("m", m.body, m.attributes)
		first.Attributes["SentTimestamp"] = fmt.Sprint(stored.UnixMilli())
		require.Empty(t, b.take(t.Context(), first))
		l := b.letters()
		letters, err := l.DeadLetters(t.Context(), queue.LetterFilter{})
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.NoError(t, l.Redrive(t.Context(), letters[0]))
		ms := b.Messages(fn)
		require.Len(t, ms, i+1)
		require.Empty(t, b.take(t.Context(), message("redriven", ms[i].Body, ms[i].Attributes)))
		require.Len(t, received, 2)
		require.Equal(t, received[0].Identity(), received[1].Identity())
		require.Equal(t, received[0].Time, received[1].Time)
		require.Equal(t, received[0].Data, received[1].Data)
		letters, err = l.DeadLetters(t.Context(), queue.LetterFilter{})
		require.NoError(t, err)
		require.Len(t, letters, 1, "given up a second time, it is a dead letter once more")
		require.NoError(t, l.Drop(t.Context(), letters[0]))
	}
}

// A message that the transport could not deliver has no attributes of a function: the redrive adds its age.
func TestAnUndeliveredMessageKeepsItsAge(t *testing.T) {
	t.Parallel()
	var received []time.Time
	b := newBench(t, func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		received = append(received, c.Envelope.Time)
		return describes(t.Context(), c)
	}, nil)
	require.NoError(t, b.Send(fn+"-dead", `{"desktop_id":"e"}`, map[string]string{"id": "c", queue.AttemptHeader: "3"}))
	l := b.letters()
	letters, err := l.DeadLetters(t.Context(), queue.LetterFilter{Since: time.Now()})
	require.NoError(t, err)
	require.Len(t, letters, 1, "it is not known when it was given up")
	require.NoError(t, l.Redrive(t.Context(), letters[0]))
	m := b.Messages(fn)[0]
	late := message("redriven", m.Body, m.Attributes)
	late.Attributes["SentTimestamp"] = fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
	require.Empty(t, b.take(t.Context(), late))
	require.Equal(t, []time.Time{letters[0].First}, received)
}

// A person reads the question before answering it: meanwhile the dead letters may become visible to other readers.
func TestADeadLetterIsReceivedAnewAfterItsTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, ill, nil)
	require.Empty(t, b.take(t.Context(), command("a"), command("b")))
	l := b.letters()
	letters, err := l.DeadLetters(t.Context(), queue.LetterFilter{})
	require.NoError(t, err)
	require.Len(t, letters, 2)
	require.NoError(t, l.Close(t.Context()))
	require.NoError(t, l.Redrive(t.Context(), letters[0]))
	other := b.letters()
	require.NoError(t, l.Close(t.Context()))
	require.NoError(t, other.Drop(t.Context(), letters[1]))
	require.ErrorIs(t, l.Redrive(t.Context(), letters[1]), queue.ErrNoLetter)
	require.Len(t, b.Messages(fn), 1)
}
