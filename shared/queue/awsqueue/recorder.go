package awsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"recompose/events"
)

// Batch is the event that Lambda invokes a function with.
type Batch = lambda.SQSEvent

// Answer is what a function returns to Lambda: which messages are to be redelivered.
type Answer = lambda.SQSEventResponse

// ReadBatch reads an event of Lambda for a function behind SQS. The error names what is invalid.
func ReadBatch(event []byte) (Batch, error) {
	var b Batch
	if err := json.Unmarshal(event, &b); err != nil {
		return b, fmt.Errorf("is not an SQS event: %w", err)
	}
	if len(b.Records) == 0 {
		return b, errors.New("is not an SQS event: Records must have at least one message")
	}
	for i, m := range b.Records {
		switch {
		case m.EventSource != "" && m.EventSource != "aws:sqs":
			return b, fmt.Errorf("is not an SQS event: Records[%d].eventSource must be aws:sqs; got %.80q", i, m.EventSource)
		case m.MessageId == "":
			return b, fmt.Errorf("is not an SQS event: Records[%d].messageId is missing", i)
		case m.Body == "":
			return b, fmt.Errorf("is not an SQS event: Records[%d].body is missing", i)
		}
	}
	return b, nil
}

// Recorded is a message that a real Handler would have sent.
type Recorded struct {
	Seconds    int               `json:"seconds,omitempty"` // of delay, at most 15 minutes
	Attributes map[string]string `json:"attributes"`
	Message    any               `json:"message"` // the body: a json.RawMessage if it is JSON, else a string
}

func recorded(body string, delay int32) Recorded {
	m := Recorded{Seconds: int(delay), Attributes: map[string]string{}, Message: body}
	if json.Valid([]byte(body)) {
		m.Message = json.RawMessage(body)
	}
	return m
}

// Recorder replaces the queues, the topic and the key of one Handler in a trial run. It sends nothing and records
// everything in order. Read it after Handle has returned.
type Recorder struct {
	Published   []Recorded `json:"published"`    // to the topic
	Delayed     []Recorded `json:"delayed"`      // to the function's own queue
	DeadLetters []Recorded `json:"dead_letters"` // to its dead-letter queue
	Stop        error      `json:"-"`            // why no more messages may be handled: the service refuses the credentials
}

// Events are the events that were published.
func (r *Recorder) Events() []events.Envelope {
	var published []events.Envelope
	for _, m := range r.Published {
		var e events.Envelope
		if body, ok := m.Message.(json.RawMessage); ok && json.Unmarshal(body, &e) == nil {
			published = append(published, e)
		}
	}
	return published
}

// recordedDead is the URL of the dead-letter queue in a Recorder.
const recordedDead = "recorder:dead-letters"

// Options are the options of a Handler that sends to this recorder. It handles one message at a time, so the recorder
// has no lock.
func (r *Recorder) Options(log *slog.Logger) Options {
	r.Published, r.Delayed, r.DeadLetters = []Recorded{}, []Recorded{}, []Recorded{} // an empty list is [] in JSON
	return Options{
		QueueURL: "recorder:queue", DeadLetterQueueURL: recordedDead, TopicARN: "recorder:topic", SQS: r, SNS: r, Key: r,
		Concurrency: 1, Log: log,
	}
}

// PublishBatch records messages for the topic.
func (r *Recorder) PublishBatch(
	_ context.Context, in *sns.PublishBatchInput, _ ...func(*sns.Options),
) (*sns.PublishBatchOutput, error) {
	out := &sns.PublishBatchOutput{}
	for _, e := range in.PublishBatchRequestEntries {
		m := recorded(aws.ToString(e.Message), 0)
		for name, value := range e.MessageAttributes {
			m.Attributes[name] = aws.ToString(value.StringValue)
		}
		r.Published = append(r.Published, m)
		out.Successful = append(out.Successful, snstypes.PublishBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

// SendMessage records a delayed message or a dead letter.
func (r *Recorder) SendMessage(
	_ context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options),
) (*sqs.SendMessageOutput, error) {
	m := recorded(aws.ToString(in.MessageBody), in.DelaySeconds)
	for name, value := range in.MessageAttributes {
		m.Attributes[name] = aws.ToString(value.StringValue)
	}
	if aws.ToString(in.QueueUrl) == recordedDead {
		r.DeadLetters = append(r.DeadLetters, m)
	} else {
		r.Delayed = append(r.Delayed, m)
	}
	return &sqs.SendMessageOutput{}, nil
}

// ChangeMessageVisibilityBatch does nothing: the answer already lists the messages that are redelivered.
func (r *Recorder) ChangeMessageVisibilityBatch(
	context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options),
) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

// Check refuses the messages after one for which the service refused the credentials.
func (r *Recorder) Check(context.Context) error { return r.Stop }

// Refuse records why the service is not called any more.
func (r *Recorder) Refuse(_ context.Context, err error) { r.Stop = err }
