package awsqueue

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/cenkalti/backoff/v5"

	"recompose/events"
)

// FollowerPrefix begins the names of the queues that followers create, so that one that was left behind can be
// identified.
const FollowerPrefix = "recompose-follow-"

// Follower receives a copy of every message of a topic from its creation on. A topic stores nothing, so earlier
// messages are lost.
type Follower struct {
	sqs          *sqs.Client
	sns          *sns.Client
	queueURL     string
	made         time.Time // when the queue was created
	subscription string
	log          *slog.Logger
}

// Follow creates a follower: a queue of its own, subscribed to the topic without a filter, because a filter could
// take minutes to be in force. It blocks until both exist. Call Close; if the program is killed, the queue is left
// behind.
func Follow(ctx context.Context, c aws.Config, topicARN string, log *slog.Logger) (*Follower, error) {
	f := &Follower{log: log}
	f.sqs, f.sns = Clients(c)
	name := FollowerPrefix + strings.ToLower(rand.Text()[:16])
	queueARN, err := queueBeside(topicARN, name)
	if err != nil {
		return nil, err
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{
			"Effect": "Allow", "Principal": map[string]string{"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": queueARN,
			"Condition": map[string]any{"ArnEquals": map[string]string{"aws:SourceArn": topicARN}},
		},
		map[string]any{
			"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": queueARN,
			"Condition": map[string]any{"Bool": map[string]string{"aws:SecureTransport": "false"}},
		},
	}})
	if err != nil {
		return nil, err
	}
	made, err := f.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{
		"Policy": string(policy), "SqsManagedSseEnabled": "true", "ReceiveMessageWaitTimeSeconds": strconv.Itoa(longPoll),
	}})
	if err != nil {
		return nil, fmt.Errorf("create a queue to follow the topic: %w", err)
	}
	f.queueURL, f.made = aws.ToString(made.QueueUrl), time.Now()
	subscribed, err := f.sns.Subscribe(ctx, &sns.SubscribeInput{
		TopicArn: &topicARN, Protocol: aws.String("sqs"), Endpoint: &queueARN, ReturnSubscriptionArn: true,
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to the topic: %w", err), f.Close(context.WithoutCancel(ctx)))
	}
	f.subscription = aws.ToString(subscribed.SubscriptionArn)
	return f, nil
}

// queueBeside is the ARN of a queue in the account and region of a topic.
func queueBeside(topicARN, queue string) (string, error) {
	parts := strings.Split(topicARN, ":")
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "sns" {
		return "", fmt.Errorf("must be the ARN of a topic, like arn:aws:sns:eu-central-1:123456789012:recompose; got %q", topicARN)
	}
	return strings.Join([]string{"arn", parts[1], "sqs", parts[3], parts[4], queue}, ":"), nil
}

// longPoll is how many seconds SQS waits for a message before it returns none: its maximum.
const longPoll = 20

// Read calls each for every envelope on the topic, commands included, until each returns false. Some envelopes come
// twice, and the order is undefined. Outages are waited out. It returns nil when each returns false, an error of each
// or of ctx, or the reason why the queue cannot be read any more.
func (f *Follower) Read(ctx context.Context, each func(events.Envelope) (more bool, err error)) error {
	for {
		in := &sqs.ReceiveMessageInput{QueueUrl: &f.queueURL, MaxNumberOfMessages: maxBatch, WaitTimeSeconds: longPoll}
		got, err := backoff.Retry(ctx, func() (*sqs.ReceiveMessageOutput, error) {
			got, err := f.sqs.ReceiveMessage(ctx, in)
			if err != nil && impossible(err) && !f.young(err) {
				err = backoff.Permanent(err)
			}
			return got, err
		}, backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
			f.log.WarnContext(ctx, "reading the topic failed, retrying; no message is lost", "retry_in", wait.Round(time.Second), "error", err)
		}))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("follow the topic: %w", err)
		}
		more := true
		for _, m := range got.Messages {
			e, err := events.Decode(events.Headers{}, []byte(aws.ToString(m.Body)), events.Bare{})
			if err != nil || !more { // not an envelope, or received after the end
				continue
			}
			if more, err = each(e); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		f.forget(ctx, got.Messages)
	}
}

// young reports whether a queue is missing only because it is new: SQS needs a second or more until it can be used.
func (f *Follower) young(err error) bool {
	_, missing := errors.AsType[*sqstypes.QueueDoesNotExist](err)
	return missing && time.Since(f.made) < 10*time.Second
}

// forget deletes messages that were read. Messages that it cannot delete are received once more, which does no harm.
func (f *Follower) forget(ctx context.Context, ms []sqstypes.Message) {
	if len(ms) == 0 {
		return
	}
	in := &sqs.DeleteMessageBatchInput{QueueUrl: &f.queueURL}
	for i, m := range ms {
		in.Entries = append(in.Entries, sqstypes.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	if _, err := f.sqs.DeleteMessageBatch(ctx, in); err != nil && ctx.Err() == nil {
		f.log.WarnContext(ctx, "deleting messages failed; they will be read once more", "error", err)
	}
}

// Close ends the subscription and removes the queue. It may be repeated.
func (f *Follower) Close(ctx context.Context) error {
	var faults []error
	if f.subscription != "" {
		if _, err := f.sns.Unsubscribe(ctx, &sns.UnsubscribeInput{SubscriptionArn: &f.subscription}); err != nil {
			faults = append(faults, fmt.Errorf("end the subscription %s: %w", f.subscription, err))
		} else {
			f.subscription = ""
		}
	}
	if f.queueURL != "" {
		if _, err := f.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &f.queueURL}); err != nil {
			faults = append(faults, fmt.Errorf("remove the queue %s: %w", f.queueURL, err))
		} else {
			f.queueURL = ""
		}
	}
	return errors.Join(faults...)
}
