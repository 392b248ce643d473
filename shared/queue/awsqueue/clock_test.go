package awsqueue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
)

// TestDelaysGoByTheClockOfSQS has several sandboxes, one with a wrong clock: a delayed form that it makes or receives
// is neither early nor late by the difference of the clocks.
func TestDelaysGoByTheClockOfSQS(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-3 * time.Hour, 40 * time.Minute} {
		for _, by := range []string{"made", "taken"} {
			t.Run(fmt.Sprintf("%s by a sandbox that is off by %v", by, skew), func(t *testing.T) {
				t.Parallel()
				at, off := time.Now(), time.Duration(0) // the clock of SQS, and what the sandbox's is ahead of it
				b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
					if c.Attempt == 0 {
						return nil, queue.RetryAfter(20*time.Minute, errors.New("later"))
					}
					return describes(ctx, c)
				}, func(_ *queue.Function, o *awsqueue.Options) { o.Now = func() time.Time { return at.Add(off) } })
				received := func(m lambda.SQSMessage) lambda.SQSMessage {
					m.Attributes["ApproximateFirstReceiveTimestamp"] = fmt.Sprint(at.UnixMilli())
					return m
				}
				if by == "made" {
					off = skew
				}
				require.Empty(t, b.take(t.Context(), received(command("c1"))))
				off = skew - off
				var delays []time.Duration
				for len(b.Published()) == 0 {
					require.Less(t, len(delays), 5)
					sent, redelivered := b.only(fn)
					delays = append(delays, sent.Delay.Round(time.Minute))
					at = at.Add(sent.Delay)
					require.Empty(t, b.take(t.Context(), received(redelivered)))
				}
				require.Equal(t, []time.Duration{15 * time.Minute, 5 * time.Minute}, delays)
			})
		}
	}
}

// Lambda may receive a message long before it can invoke the function: the account has no concurrency left.
func TestAThrottledMessageShowsNoOtherClock(t *testing.T) {
	t.Parallel()
	at := time.Now()
	b := newBench(t, func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.RetryAfter(20*time.Minute, errors.New("later"))
	}, func(_ *queue.Function, o *awsqueue.Options) { o.Now = func() time.Time { return at } })
	m := command("c1")
	m.Attributes["ApproximateFirstReceiveTimestamp"] = fmt.Sprint(at.Add(-10 * time.Minute).UnixMilli())
	require.Empty(t, b.take(t.Context(), m))
	sent, _ := b.only(fn)
	due, err := time.Parse(time.RFC3339Nano, sent.Attributes["Recompose-Due"])
	require.NoError(t, err)
	require.WithinDuration(t, at.Add(20*time.Minute), due, time.Second)
}
