package awsqueue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/cenkalti/backoff/v5"

	"recompose/events"
	"recompose/shared/queue"
)

// Limits of the services; sizes include names and types of attributes. They are enforced here, because the stand-ins
// of the services in tests may accept more.
const (
	maxPublished = 256 * 1024  // of a message on a topic, and of all messages of one call
	maxQueued    = 1024 * 1024 // of a message in a queue
	maxBatch     = 10
	maxDelay     = 900 * time.Second
	maxStored    = 10 // attributes
)

// ErrTooLarge reports that a message is larger than the service accepts.
var ErrTooLarge = errors.New("the message is too large")

// errRefused reports that the topic accepted a call but not its message.
var errRefused = errors.New("the topic refuses a message")

// message is the content of a message for a topic or a queue.
type message struct {
	body       string
	attributes map[string]string
}

func (m message) attribute(name string) string { return m.attributes[name] }

// size is the size of a message as the services count it.
func (m message) size() int {
	n := len(m.body)
	for name, value := range m.attributes {
		n += len(name) + len("String") + len(value)
	}
	return n
}

// encode writes an envelope as the services accept it: it escapes two characters that JSON allows and the services
// refuse.
func encode(e events.Envelope) (string, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("write envelope %s: %w", e.ID, err)
	}
	b = bytes.ReplaceAll(b, []byte("\uFFFE"), []byte(`\ufffe`))
	return string(bytes.ReplaceAll(b, []byte("\uFFFF"), []byte(`\uffff`))), nil
}

// published makes the message of an envelope for the topic.
func published(e events.Envelope) (message, error) {
	body, err := encode(e)
	if err != nil {
		return message{}, err
	}
	m := message{body: body, attributes: map[string]string{}}
	for name, value := range map[string]string{attrType: e.Type, attrID: e.ID, attrCorrelation: e.Correlation, attrRollout: e.Rollout} {
		if value = attributeText(value, 1024); value != "" {
			m.attributes[name] = value
		}
	}
	return m, nil
}

// stamped makes the message of an envelope that a function publishes because of a received message. A function that
// does not read the ledger itself passes on the epoch of the received message.
func (h *Handler) stamped(e events.Envelope, r received) (message, error) {
	m, err := published(e)
	if err != nil {
		return m, err
	}
	if epoch := attributeText(r.delivery.Headers.Get(queue.EpochHeader), 1024); epoch != "" {
		m.attributes[queue.EpochHeader] = epoch
	}
	maps.Copy(m.attributes, h.o.Stamp())
	return m, nil
}

// parcel holds what stores a result, in steps: each step is confirmed before the next begins.
type parcel struct {
	own    []queued    // to the function's own queue
	steps  [][]message // to the topic
	events []events.Envelope
	delay  *queued
	dead   *message
}

// queued is a message for a queue, and when it is delivered.
type queued struct {
	message
	after time.Duration
}

// pack makes the messages of a result. A retry does not cure its errors.
func (h *Handler) pack(result queue.Result, r received) (parcel, error) {
	var p parcel
	var next, evs []message
	for _, n := range result.Next {
		if n.After > 0 || events.IsInternal(n.Envelope.Type) {
			m, err := h.later(n, r)
			if err != nil {
				return p, err
			}
			p.own = append(p.own, m)
			continue
		}
		m, err := h.stamped(n.Envelope, r)
		if err != nil {
			return p, err
		}
		if m.size() > maxPublished {
			return p, fmt.Errorf("command %s for %s has %d bytes: %w", n.Envelope.ID, n.Function, m.size(), ErrTooLarge)
		}
		next = append(next, m)
	}
	for _, e := range result.Events {
		e, m, err := h.fitting(e, r)
		if err != nil {
			return p, err
		}
		evs, p.events = append(evs, m), append(p.events, e)
	}
	p.steps = [][]message{next, evs}
	if d := result.Delay; d != nil {
		m, err := h.delayed(*d)
		if err != nil {
			return p, err
		}
		p.delay = &queued{m, d.After}
	}
	if result.Dead != nil {
		m := h.deadLetter(*result.Dead, r)
		p.dead = &m
	}
	return p, nil
}

// later makes the message of a command to the function itself that does not go through the topic: one that is
// delivered later, or of an internal type, which no sender may use. So it has no attribute type.
func (h *Handler) later(n queue.Next, r received) (queued, error) {
	m, err := h.stamped(n.Envelope, r)
	if err != nil {
		return queued{}, err
	}
	delete(m.attributes, attrType)
	if n.After > 0 {
		due := h.now().Add(n.After).UTC().Format(time.RFC3339Nano)
		m.attributes[attrDue] = due
		m.attributes[attrForm] = h.seal(m.body, m.attribute)
	}
	return queued{m, n.After}, nil
}

// delayed is the delayed form of a message: the same envelope, numbered.
func (h *Handler) delayed(d queue.Delay) (message, error) {
	body, err := encode(d.Envelope)
	if err != nil {
		return message{}, err
	}
	due := h.now().Add(d.After).UTC().Format(time.RFC3339Nano)
	m := message{body: body, attributes: map[string]string{queue.AttemptHeader: strconv.Itoa(d.Attempt), attrDue: due}}
	maps.Copy(m.attributes, h.o.Stamp())
	if epoch := attributeText(d.Epoch, 1024); epoch != "" {
		m.attributes[queue.EpochHeader] = epoch
	}
	for name, n := range map[string]int{queue.FailuresHeader: d.Failures, queue.HeldHeader: d.Held} {
		if n > 0 {
			m.attributes[name] = strconv.Itoa(n)
		}
	}
	m.attributes[attrForm] = h.seal(body, m.attribute)
	return m, nil
}

// outlet sends messages to the topic and the queues.
type outlet struct {
	sqs      SQS
	sns      SNS
	topicARN string
	storeFor time.Duration // how long storing a message is retried
	doubt    *atomic.Bool  // set for a person, who may have given a region that does not exist; see doubting
}

// store stores a parcel. A repeated call does no harm: readers count an id once, and the ledger does not carry out a
// command twice.
func (h *Handler) store(ctx context.Context, p parcel) error {
	for _, m := range p.own {
		if err := h.out.send(ctx, h.o.QueueURL, m.message, m.after); err != nil {
			return fmt.Errorf("send to the function's own queue: %w", err)
		}
	}
	for _, step := range p.steps {
		if err := h.out.publish(ctx, step); err != nil {
			return err
		}
	}
	if p.delay != nil {
		if err := h.out.send(ctx, h.o.QueueURL, p.delay.message, p.delay.after); err != nil {
			return fmt.Errorf("delay: %w", err)
		}
	}
	if p.dead != nil {
		if err := h.out.send(ctx, h.o.DeadLetterQueueURL, *p.dead, 0); err != nil {
			return fmt.Errorf("keep a dead letter: %w", err)
		}
	}
	return nil
}

// publish publishes messages, as many per call as the topic accepts, and returns when each is confirmed.
func (o outlet) publish(ctx context.Context, ms []message) error {
	for len(ms) > 0 {
		n, size := 0, 0
		for n < min(len(ms), maxBatch) && (n == 0 || size+ms[n].size() <= maxPublished) {
			size += ms[n].size()
			n++
		}
		if err := o.publishBatch(ctx, ms[:n]); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		ms = ms[n:]
	}
	return nil
}

// publishBatch publishes at most ten messages. Only those that the topic did not accept are retried.
func (o outlet) publishBatch(ctx context.Context, ms []message) error {
	left := make([]snstypes.PublishBatchRequestEntry, len(ms))
	for i, m := range ms {
		left[i] = snstypes.PublishBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), Message: aws.String(m.body), MessageAttributes: map[string]snstypes.MessageAttributeValue{},
		}
		for name, value := range m.attributes {
			left[i].MessageAttributes[name] = snstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
		}
	}
	return o.persist(ctx, func() error {
		out, err := o.sns.PublishBatch(ctx, &sns.PublishBatchInput{TopicArn: &o.topicARN, PublishBatchRequestEntries: left})
		if err != nil {
			return err
		}
		accepted := map[string]bool{}
		for _, ok := range out.Successful {
			accepted[aws.ToString(ok.Id)] = true
		}
		left = slices.DeleteFunc(left, func(e snstypes.PublishBatchRequestEntry) bool { return accepted[*e.Id] })
		if len(left) == 0 {
			return nil
		}
		for _, f := range out.Failed {
			if f.SenderFault {
				return backoff.Permanent(fmt.Errorf("%w: %s: %s", errRefused, aws.ToString(f.Code), aws.ToString(f.Message)))
			}
		}
		return fmt.Errorf("the topic did not accept %d of %d messages: %s", len(left), len(ms), whyNot(out.Failed))
	})
}

func whyNot(failed []snstypes.BatchResultErrorEntry) string {
	if len(failed) == 0 {
		return "no reason given"
	}
	return aws.ToString(failed[0].Code) + ": " + aws.ToString(failed[0].Message)
}

// send stores a message in a queue. It is delivered after the delay, or after the maximum delay of SQS if that is
// less.
func (o outlet) send(ctx context.Context, queueURL string, m message, after time.Duration) error {
	if m.size() > maxQueued {
		return fmt.Errorf("%d bytes for a queue: %w", m.size(), ErrTooLarge)
	}
	if len(m.attributes) > maxStored {
		return fmt.Errorf("%d attributes: a queue accepts at most %d", len(m.attributes), maxStored)
	}
	in := &sqs.SendMessageInput{
		QueueUrl: &queueURL, MessageBody: &m.body, DelaySeconds: delaySeconds(after),
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{},
	}
	for name, value := range m.attributes {
		in.MessageAttributes[name] = sqstypes.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
	}
	return o.persist(ctx, func() error {
		_, err := o.sqs.SendMessage(ctx, in)
		return err
	})
}

// delaySeconds is a delay in the form that SQS accepts: whole seconds, rounded up, at most 900.
func delaySeconds(d time.Duration) int32 {
	return int32(math.Ceil(min(max(d, 0), maxDelay).Seconds()))
}

// persist calls do until it succeeds, until a retry is useless, or until ctx ends. A redelivery would count as one of
// the message's few deliveries, and the message is not the cause of an outage.
func (o outlet) persist(ctx context.Context, do func() error) error {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		switch {
		case err == nil:
		case impossible(err):
			err = backoff.Permanent(err)
		case o.doubt != nil && !o.doubt.Load() && noHost(err):
			err = backoff.Permanent(fmt.Errorf("%w: %w", ErrNotSent, err))
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(o.storeFor))
	return err
}

// impossible reports whether a service refused a request so that a retry is useless. Where a retry helps, the clients
// of the services have retried already.
func impossible(err error) bool {
	if _, permanent := errors.AsType[*backoff.PermanentError](err); permanent {
		return false // it is marked as permanent already
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorFault() == smithy.FaultServer {
		return false
	}
	switch api.ErrorCode() {
	case "AuthorizationError", "AccessDenied", "AccessDeniedException", "NotFound", "InvalidParameter", "InvalidParameterValue", "InvalidAttributeValue",
		"InvalidMessageContents", "BatchRequestTooLong", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist",
		"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException":
		return true
	}
	return false
}
