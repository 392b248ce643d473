package awsqueue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"recompose/events"
)

// Sender sends commands for programs that are not functions: to the topic, or to the queue of one function.
type Sender struct {
	out      outlet
	queueURL string
}

// sendFor is how long Send retries while a service does not answer: a person waits for it.
const sendFor = 20 * time.Second

// ErrNotSent reports that a command was certainly not stored.
var ErrNotSent = errors.New("it was not sent")

// NewSender makes a sender to a topic; if topicARN is empty, to a queue. It does not connect yet.
func NewSender(c aws.Config, topicARN, queueURL string) *Sender {
	s := &Sender{out: outlet{topicARN: topicARN, storeFor: sendFor, doubt: new(atomic.Bool)}, queueURL: queueURL}
	c.Retryer = func() aws.Retryer { return doubting{retry.NewStandard(), s.out.doubt} }
	s.out.sqs, s.out.sns = Clients(c)
	return s
}

// doubting notes whether a try may have been carried out although it failed: the client repeats those by itself, and a
// refusal of a later try is no proof that nothing was stored.
type doubting struct {
	*retry.Standard
	doubt *atomic.Bool
}

// IsErrorRetryable is called with the error of each try.
func (d doubting) IsErrorRetryable(err error) bool {
	if !impossible(err) && !noHost(err) {
		d.doubt.Store(true)
	}
	return d.Standard.IsErrorRetryable(err)
}

// Send stores a command where its function receives it. It blocks until that is confirmed, and may be repeated: a
// command that is stored twice is carried out once. The error is ErrNotSent by errors.Is if the command was refused;
// after any other error it may have been stored.
func (s *Sender) Send(ctx context.Context, e events.Envelope) error {
	if !events.IsCommand(e.Type) || e.ID == "" || e.Source == "" {
		return fmt.Errorf("send: %w: a command needs its type, an id and a source", ErrNotSent)
	}
	return s.send(ctx, e)
}

// Publish stores an event that no function publishes on the topic. It blocks and fails as Send does, and may be
// repeated: readers count an event once.
func (s *Sender) Publish(ctx context.Context, e events.Envelope) error {
	if !events.IsEvent(e.Type) || s.out.topicARN == "" {
		return fmt.Errorf("publish %s: %w: it needs the type of an event, and a topic", e.Type, ErrNotSent)
	}
	return s.send(ctx, e)
}

func (s *Sender) send(ctx context.Context, e events.Envelope) error {
	m, err := published(e)
	switch {
	case err != nil:
		return fmt.Errorf("send %s: %w: %w", e.Type, ErrNotSent, err)
	case len(e.Data) > maxWrite || m.size() > maxPublished:
		return fmt.Errorf("send %s: %w: its data may have at most %d bytes on AWS, or what follows from it could not be published; it has %d: send several commands",
			e.Type, ErrNotSent, maxWrite, len(e.Data))
	}
	if s.out.topicARN == "" {
		err = s.out.send(ctx, s.queueURL, m, 0)
	} else {
		err = s.out.publish(ctx, []message{m})
	}
	switch {
	case err == nil:
		return nil
	case (impossible(err) || errors.Is(err, errRefused)) && !s.out.doubt.Load():
		return fmt.Errorf("send %s: %w: %w", e.Type, ErrNotSent, err)
	}
	return fmt.Errorf("send %s: %w", e.Type, err)
}

// noHost reports whether the host does not exist, as in a region that does not exist.
func noHost(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}
