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

// Limits of the services, names and types of attributes included. They are held here, too: what stands in for the
// services in tests may take more.
const (
	maxPublished = 256 * 1024  // of a message on a topic, and of all messages of one call
	maxQueued    = 1024 * 1024 // of a message in a queue
	maxBatch     = 10
	maxDelay     = 900 * time.Second
	maxStored    = 10 // attributes
)

// ErrTooLarge says that a message is larger than the service takes.
var ErrTooLarge = errors.New("the message is too large")

// errRefused says that the topic took a call and not its message.
var errRefused = errors.New("the topic refuses a message")

// message is what goes to a topic or a queue.
type message struct {
	body       string
	attributes map[string]string
}

// size is how large the services count a message.
func (m message) size() int {
	n := len(m.body)
	for name, value := range m.attributes {
		n += len(name) + len("String") + len(value)
	}
	return n
}

// encode writes an envelope as the services take it: two characters that JSON allows and they do not are escaped.
func encode(e events.Envelope) (string, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("write envelope %s: %w", e.ID, err)
	}
	b = bytes.ReplaceAll(b, []byte("\uFFFE"), []byte(`\ufffe`))
	return string(bytes.ReplaceAll(b, []byte("\uFFFF"), []byte(`\uffff`))), nil
}

// published is an envelope as it goes to the topic.
func published(e events.Envelope) (message, error) {
	body, err := encode(e)
	if err != nil {
		return message{}, err
	}
	m := message{body: body, attributes: map[string]string{}}
	for name, value := range map[string]string{attrType: e.Type, attrID: e.ID, attrCorrelation: e.Correlation} {
		if value = attributeText(value, 1024); value != "" {
			m.attributes[name] = value
		}
	}
	return m, nil
}

// stamped is an envelope as a function publishes it because of a message. A function that does not ask the ledger itself
// passes on the epoch of the message.
func (h *Handler) stamped(e events.Envelope, r received) (message, error) {
	m, err := published(e)
	if err != nil {
		return m, err
	}
	if epoch := r.delivery.Headers.Get(queue.EpochHeader); epoch != "" {
		m.attributes[queue.EpochHeader] = attributeText(epoch, 1024)
	}
	maps.Copy(m.attributes, h.o.Stamp())
	return m, nil
}

// parcel is what a result makes the adapter store, step by step: each step is confirmed before the next begins.
type parcel struct {
	steps  [][]message // to the topic
	events []events.Envelope
	delay  *message
	after  time.Duration
	dead   *message
}

// pack makes messages of a result. An error here is one that trying again does not cure.
func (h *Handler) pack(result queue.Result, r received) (parcel, error) {
	var p parcel
	var next, said []message
	for _, n := range result.Next {
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
		said, p.events = append(said, m), append(p.events, e)
	}
	p.steps = [][]message{next, said}
	if d := result.Delay; d != nil {
		m, err := h.delayed(*d)
		if err != nil {
			return p, err
		}
		p.delay, p.after = &m, d.After
	}
	if result.Dead != nil {
		m := h.deadLetter(*result.Dead, r)
		p.dead = &m
	}
	return p, nil
}

// delayed is a message that comes again: the same envelope, numbered.
func (h *Handler) delayed(d queue.Delay) (message, error) {
	body, err := encode(d.Envelope)
	if err != nil {
		return message{}, err
	}
	number, failures, due := strconv.Itoa(d.Attempt), "", h.now().Add(d.After).UTC().Format(time.RFC3339Nano)
	m := message{body: body, attributes: map[string]string{queue.AttemptHeader: number, attrDue: due}}
	maps.Copy(m.attributes, h.o.Stamp())
	if d.Epoch != "" {
		m.attributes[queue.EpochHeader] = attributeText(d.Epoch, 1024)
	}
	if d.Failures > 0 {
		failures = strconv.Itoa(d.Failures)
		m.attributes[queue.FailuresHeader] = failures
	}
	m.attributes[attrForm] = h.seal(body, number, failures, due)
	return m, nil
}

// outlet is where messages go out: the topic and the queues.
type outlet struct {
	sqs      SQS
	sns      SNS
	topicARN string
	storeFor time.Duration // how long storing a message is tried
	person   bool          // who waits for it may have named a region that does not exist
}

// store stores a parcel. Doing it again stores what readers know by its id, or what the ledger does not do twice.
func (h *Handler) store(ctx context.Context, p parcel) error {
	for _, step := range p.steps {
		if err := h.out.publish(ctx, step); err != nil {
			return err
		}
	}
	if p.delay != nil {
		if err := h.out.send(ctx, h.o.QueueURL, *p.delay, p.after); err != nil {
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

// publish publishes messages, as many a call as the topic takes, and returns when each is confirmed.
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

// publishBatch publishes at most ten messages. Those that the topic did not take are published again, and no others.
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
		taken := map[string]bool{}
		for _, ok := range out.Successful {
			taken[aws.ToString(ok.Id)] = true
		}
		left = slices.DeleteFunc(left, func(e snstypes.PublishBatchRequestEntry) bool { return taken[*e.Id] })
		if len(left) == 0 {
			return nil
		}
		for _, f := range out.Failed {
			if f.SenderFault {
				return backoff.Permanent(fmt.Errorf("%w: %s: %s", errRefused, aws.ToString(f.Code), aws.ToString(f.Message)))
			}
		}
		return fmt.Errorf("the topic did not take %d of %d messages: %s", len(left), len(ms), whyNot(out.Failed))
	})
}

func whyNot(failed []snstypes.BatchResultErrorEntry) string {
	if len(failed) == 0 {
		return "it does not say why"
	}
	return aws.ToString(failed[0].Code) + ": " + aws.ToString(failed[0].Message)
}

// send puts a message in a queue. It comes after the delay, or after as much of it as SQS takes.
func (o outlet) send(ctx context.Context, queueURL string, m message, after time.Duration) error {
	if m.size() > maxQueued {
		return fmt.Errorf("%d bytes for a queue: %w", m.size(), ErrTooLarge)
	}
	if len(m.attributes) > maxStored {
		return fmt.Errorf("%d attributes: a queue takes %d", len(m.attributes), maxStored)
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

// delaySeconds is a delay as SQS takes it: whole seconds, not less than asked for, and at most 900.
func delaySeconds(d time.Duration) int32 {
	return int32(math.Ceil(min(max(d, 0), maxDelay).Seconds()))
}

// persist does something until it succeeds, it could never, or ctx ends: handing the message over again would count as
// one of its few deliveries, and an outage is not its fault.
func (o outlet) persist(ctx context.Context, do func() error) error {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
	first := true // only then is it certain that nothing was stored before
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		switch {
		case err == nil:
		case hopeless(err):
			err = backoff.Permanent(err)
		case o.person && first && noHost(err):
			err = backoff.Permanent(fmt.Errorf("%w: %w", ErrNotSent, err))
		}
		first = false
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(o.storeFor))
	return err
}

// hopeless reports whether a service refused what it was asked for, so that asking again is of no use. The clients of
// the services have tried again already where it is.
func hopeless(err error) bool {
	if _, permanent := errors.AsType[*backoff.PermanentError](err); permanent {
		return false // it is marked already
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
