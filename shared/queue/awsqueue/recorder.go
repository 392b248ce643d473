package awsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"recompose/shared/queue"
)

// Batch is the event that Lambda invokes a function with.
type Batch = lambda.SQSEvent

// Answer is what a function tells Lambda: which messages are to come again.
type Answer = lambda.SQSEventResponse

// ReadBatch reads an event as Lambda gives it to a function behind SQS. The error says what makes it something else.
func ReadBatch(event []byte) (Batch, error) {
	var b Batch
	if err := json.Unmarshal(event, &b); err != nil {
		return b, fmt.Errorf("is no event of SQS: %w", err)
	}
	if len(b.Records) == 0 {
		return b, errors.New("is no event of SQS: Records must have at least one message")
	}
	for i, m := range b.Records {
		switch {
		case m.EventSource != "" && m.EventSource != "aws:sqs":
			return b, fmt.Errorf("is no event of SQS: Records[%d].eventSource must be aws:sqs; got %.80q", i, m.EventSource)
		case m.MessageId == "":
			return b, fmt.Errorf("is no event of SQS: Records[%d].messageId is missing", i)
		case m.Body == "":
			return b, fmt.Errorf("is no event of SQS: Records[%d].body is missing", i)
		}
	}
	return b, nil
}

// Deliveries are the messages of a batch as they are handed to the function. Nothing is done with them.
func Deliveries(f queue.Function, b Batch) []queue.Delivery {
	h := Handler{fn: f}
	ds := make([]queue.Delivery, len(b.Records))
	for i := range b.Records {
		ds[i] = h.read(&b.Records[i], time.Now()).delivery
	}
	return ds
}

// Recorded is a message that would have been sent.
type Recorded struct {
	Attributes map[string]string
	Body       string
	Delay      time.Duration // of a delayed message: after which it would come, at most 15 minutes
}

// Record is all that a function would have sent, in order.
type Record struct {
	Published   []Recorded // to the topic
	Delayed     []Recorded // to its own queue
	DeadLetters []Recorded // to its dead-letter queue
	Stop        error      // why no more messages may be handled: the service refuses the credentials
}

// Recorder stands for the queues, the topic and the key of a function that is tried out: it sends nothing and records
// what would be sent. Its zero value works, for one Handler.
type Recorder struct {
	mu sync.Mutex
	r  Record
}

var (
	_ SQS       = (*Recorder)(nil)
	_ SNS       = (*Recorder)(nil)
	_ queue.Key = (*Recorder)(nil)
)

// What stands for the addresses.
const (
	recordedQueue = "recorder:queue"
	recordedDead  = "recorder:dead-letters"
	recordedTopic = "recorder:topic"
)

// Options are those of a Handler that sends to this recorder, and handles one message after the other.
func (r *Recorder) Options(log *slog.Logger) Options {
	return Options{
		QueueURL: recordedQueue, DeadLetterQueueURL: recordedDead, TopicARN: recordedTopic, SQS: r, SNS: r, Key: r,
		Concurrency: 1, Log: log,
	}
}

// Record tells what was recorded so far.
func (r *Recorder) Record() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Record{slices.Clone(r.r.Published), slices.Clone(r.r.Delayed), slices.Clone(r.r.DeadLetters), r.r.Stop}
}

// PublishBatch records messages for the topic.
func (r *Recorder) PublishBatch(_ context.Context, in *sns.PublishBatchInput, _ ...func(*sns.Options)) (*sns.PublishBatchOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &sns.PublishBatchOutput{}
	for _, e := range in.PublishBatchRequestEntries {
		m := Recorded{Attributes: map[string]string{}, Body: aws.ToString(e.Message)}
		for name, value := range e.MessageAttributes {
			m.Attributes[name] = aws.ToString(value.StringValue)
		}
		r.r.Published = append(r.r.Published, m)
		out.Successful = append(out.Successful, snstypes.PublishBatchResultEntry{Id: e.Id})
	}
	return out, nil
}

// SendMessage records a delayed message or a dead letter.
func (r *Recorder) SendMessage(_ context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := Recorded{
		Attributes: map[string]string{}, Body: aws.ToString(in.MessageBody), Delay: time.Duration(in.DelaySeconds) * time.Second,
	}
	for name, value := range in.MessageAttributes {
		m.Attributes[name] = aws.ToString(value.StringValue)
	}
	if aws.ToString(in.QueueUrl) == recordedDead {
		r.r.DeadLetters = append(r.r.DeadLetters, m)
	} else {
		r.r.Delayed = append(r.r.Delayed, m)
	}
	return &sqs.SendMessageOutput{}, nil
}

// ChangeMessageVisibilityBatch does nothing: which messages come again is in the answer.
func (r *Recorder) ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

// Check holds the messages back that come after one for which the service refused the credentials: five refusals lock
// the key.
func (r *Recorder) Check(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Stop
}

// Pull records why the service is not asked any more.
func (r *Recorder) Pull(_ context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.r.Stop = err
}
