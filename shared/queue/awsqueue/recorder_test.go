package awsqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
)

func TestARecorderSendsNothingAndRecordsEverything(t *testing.T) {
	t.Parallel()
	f := queue.Function{Name: fn, Types: []string{events.CommandType(fn)}, Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		switch c.Envelope.ID {
		case "waits":
			return nil, queue.RetryAfter(30*time.Second, errors.New("busy"))
		case "fails":
			return nil, errors.New("unexpected")
		case "dead":
			return nil, queue.Permanent(errors.New("broken"))
		case "stops":
			return nil, queue.Stop(errors.New("refused"))
		}
		return describes(ctx, c)
	}}
	batch := lambda.SQSEvent{Records: []lambda.SQSMessage{
		command("succeeds"), command("waits"), command("fails"), command("dead"), command("stops"), command("held"),
	}}
	raw, err := json.Marshal(batch)
	require.NoError(t, err)
	read, err := awsqueue.ReadBatch(raw)
	require.NoError(t, err)
	require.Equal(t, batch.Records, read.Records)

	r := &awsqueue.Recorder{}
	h, err := awsqueue.New(f, r.Options(nil))
	require.NoError(t, err)
	answer, err := h.Handle(t.Context(), read)
	require.NoError(t, err)
	require.Equal(t, []lambda.SQSBatchItemFailure{{ItemIdentifier: "fails"}}, answer.BatchItemFailures)
	require.Len(t, r.Published, 2)
	require.Equal(t, events.TypeDesktopDescribed, r.Published[0].Attributes["type"])
	require.Equal(t, events.TypeCommandFailed, r.Published[1].Attributes["type"], "of the dead letter")
	require.IsType(t, json.RawMessage{}, r.Published[0].Message)
	require.Len(t, r.Delayed, 3, "also the one that stopped, and the one that was delayed then")
	require.Equal(t, 30, r.Delayed[0].Seconds)
	require.Equal(t, "1", r.Delayed[0].Attributes[queue.AttemptHeader])
	require.Len(t, r.DeadLetters, 1)
	require.Equal(t, queue.ClassPermanent, r.DeadLetters[0].Attributes[awsqueue.AttrClass])
	require.Equal(t, json.RawMessage(batch.Records[3].Body), r.DeadLetters[0].Message)
	require.EqualError(t, r.Stop, "refused")
}
