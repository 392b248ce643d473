package awsqueue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"recompose/shared/queue"
)

// received is a message on its sixth receive, the first of which was some time ago.
func received(m lambda.SQSMessage, ago time.Duration) lambda.SQSMessage {
	m.Attributes["ApproximateReceiveCount"] = fmt.Sprint(queue.MaxDeliveries + 1)
	m.Attributes["ApproximateFirstReceiveTimestamp"] = fmt.Sprint(time.Now().Add(-ago).UnixMilli())
	return m
}

// heldForm is a message that the rate limit has held back once.
func heldForm(t *testing.T) lambda.SQSMessage {
	t.Helper()
	b := newBench(t, func(context.Context, queue.Command) ([]queue.Outcome, error) { return nil, queue.Hold(0, nil) }, nil)
	require.Empty(t, b.take(t.Context(), command("c1")))
	_, form := b.only(fn)
	return form
}

// SQS counts receives after which Lambda could not invoke the function, or the function did not start. A job that is well
// would end as lost by them.
func TestAMessageThatWasOnlyReceivedIsNotGivenUp(t *testing.T) {
	t.Parallel()
	const receives = queue.MaxDeliveries * 6 * time.Minute // each ended with the visibility timeout
	b := newBench(t, describes, nil)
	require.Empty(t, b.take(t.Context(), received(command("c1"), receives)))
	require.Empty(t, b.Published())
	sent, form := b.only(fn)
	require.Zero(t, sent.Delay)
	require.Empty(t, b.take(t.Context(), form))
	require.Len(t, b.Published(), 1)
	require.Empty(t, b.Messages(fn+"-dead"))

	b = newBench(t, describes, nil)
	require.Empty(t, b.take(t.Context(), received(form, receives)))
	require.Empty(t, b.Messages(fn), "a function that crashes each time does not go on forever")
	_, redriven := b.only(fn + "-dead")
	for what, m := range map[string]lambda.SQSMessage{"redriven": redriven, "held before": heldForm(t)} {
		b = newBench(t, describes, nil)
		require.Empty(t, b.take(t.Context(), received(m, receives)))
		require.Len(t, b.Messages(fn), 1, what)
		require.Empty(t, b.Messages(fn+"-dead"), what)
	}

	b = newBench(t, describes, nil)
	require.Empty(t, b.take(t.Context(), received(command("c1"), 10*time.Minute)))
	require.Len(t, b.Messages(fn+"-dead"), 1, "the function failed it, so it was received sooner")
}
