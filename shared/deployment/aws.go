package deployment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/awsstack"
	"recompose/shared/chain/reasons"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/dynamostore"
)

// AWS is a client of a deployment on AWS: a stack, or only its topic or one of its queues.
type AWS struct {
	target    *awsstack.Target
	log       *slog.Logger
	sender    *awsqueue.Sender
	approvals *awsqueue.Sender  // for the approval of rollouts
	letters   *awsqueue.Letters // nil for a topic or a queue
	last      events.Envelope   // that was sent
}

var _ Client = (*AWS)(nil)

// FindAWS finds the deployment by the name of a stack, a topic or a queue, as awsstack.Find does.
func FindAWS(ctx context.Context, name string, routes []queue.Function, log *slog.Logger) (*AWS, error) {
	t, err := awsstack.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	d := OnAWS(t, log)
	if t.Stack == "" {
		return d, nil
	}
	known := slices.DeleteFunc(slices.Clone(routes), func(f queue.Function) bool {
		q := t.Queues[f.Name]
		there := q.URL != "" && q.DeadLetterURL != ""
		if !there { // it must not keep a person from freezing writes
			log.WarnContext(ctx, "the stack has no queues of a function: it is of another version than this program", "function", f.Name)
		}
		return !there
	})
	if d.letters, err = awsqueue.NewLetters(t.Config, known, t.Queues); err != nil {
		return nil, fmt.Errorf("stack %s: %w", t.Stack, err)
	}
	return d, nil
}

// OnAWS returns the deployment of a target, without its dead letters.
func OnAWS(t *awsstack.Target, log *slog.Logger) *AWS {
	d := &AWS{target: t, log: log, sender: awsqueue.NewSender(t.Config, t.TopicARN, t.QueueURL)}
	d.approvals = d.sender
	if t.Approval != "" {
		d.approvals = awsqueue.NewSender(t.Config, t.Approval, "")
	}
	return d
}

// sentOnAWS is what is shown of a command that was sent.
type sentOnAWS struct {
	ID          string `json:"id"`
	Correlation string `json:"correlationid"`
	Digest      string `json:"digest"`
	Topic       string `json:"topic,omitempty"`
	Queue       string `json:"queue,omitempty"`
}

// Send publishes a command to the topic, or sends it to the queue.
func (d *AWS) Send(ctx context.Context, e events.Envelope) (Receipt, error) {
	d.last = e
	err := d.publish(ctx, e)
	if errors.Is(err, awsqueue.ErrNotSent) {
		err = fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return Receipt{Shown: sentOnAWS{e.ID, e.Correlation, e.Digest(), d.target.TopicARN, d.target.QueueURL}}, err
}

func (d *AWS) publish(ctx context.Context, e events.Envelope) error {
	if e.Type == events.TypeRolloutApprove {
		return d.approvals.Send(ctx, e)
	}
	return d.sender.Send(ctx, e)
}

// awsFollower reads the topic with a queue of its own.
type awsFollower struct {
	*awsqueue.Follower
	of *AWS
}

// Follow starts to read events from now on. The error is ErrNoTopic if only a queue is known.
func (d *AWS) Follow(ctx context.Context, _ time.Time) (Follower, error) {
	if d.target.TopicARN == "" {
		return nil, ErrNoTopic
	}
	f, err := awsqueue.Follow(ctx, d.target.Config, d.target.TopicARN, d.log)
	if err != nil {
		return nil, err
	}
	return &awsFollower{f, d}, nil
}

// echoWithin bounds the time from sending a command to a topic until the follower of the topic receives it.
const echoWithin = 15 * time.Second

// Read reads the events of the command that was sent last.
func (f *awsFollower) Read(ctx context.Context, each func(events.Envelope) (bool, error)) error {
	return followSent(ctx, f.Follower.Read, f.of.last, echoWithin, f.of.resend, each)
}

// resend repeats the command that was sent last.
func (d *AWS) resend(ctx context.Context) {
	d.log.WarnContext(ctx, "the command has not been received from the topic yet, so its events could be missed; "+
		"resending it, which does it once")
	if err := d.publish(ctx, d.last); err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "the command could not be resent", "error", err)
	}
}

// followSent follows a topic that a command was sent to. The topic delivers the command too: once it is received, no
// event of it can be missed. Until then it is resent, which does it once and republishes its events.
func followSent(ctx context.Context, read func(context.Context, func(events.Envelope) (bool, error)) error, sent events.Envelope,
	within time.Duration, resend func(context.Context), each func(events.Envelope) (bool, error),
) error {
	ctx, cancel := context.WithCancel(ctx)
	digest := sent.Digest()
	received := make(chan struct{})
	var seen sync.Once
	var repeats sync.WaitGroup
	defer repeats.Wait()
	defer cancel()
	repeats.Go(func() {
		tick := time.NewTicker(within)
		defer tick.Stop()
		for {
			select {
			case <-received:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				resend(ctx) // if that fails, the next tick repeats it
			}
		}
	})
	return read(ctx, func(e events.Envelope) (bool, error) {
		if events.IsCommand(e.Type) {
			if e.Identity() == sent.Identity() && e.Digest() == digest {
				seen.Do(func() { close(received) })
			}
			return true, nil
		}
		if e.Answered().ID == sent.ID { // the topic for approvals delivers no command here
			seen.Do(func() { close(received) })
		}
		return each(e)
	})
}

// Service returns the service that the functions recorded.
func (d *AWS) Service(ctx context.Context) Service {
	if d.target.Table == "" {
		return Service{Unknown: "only the functions' table names their service, and --aws names no stack"}
	}
	s, err := d.values()
	if err != nil {
		return Service{Unknown: err.Error()}
	}
	return recorded(ctx, s)
}

// values opens the table. The error is ErrNoTable if it is not known.
func (d *AWS) values() (*dynamostore.Store, error) {
	if d.target.Table == "" {
		return nil, ErrNoTable
	}
	return dynamostore.New(d.table())
}

func (d *AWS) table() dynamostore.Options {
	return dynamostore.Options{Config: d.target.Config, Table: d.target.Table}
}

// Book opens the ledger. The error is ErrNoTable if the table is not known.
func (d *AWS) Book() (*dynamoledger.Store, error) {
	if d.target.Table == "" {
		return nil, ErrNoTable
	}
	return dynamoledger.New(dynamoledger.Options{Options: d.table()})
}

// Ledger opens the ledger as Book does.
func (d *AWS) Ledger(context.Context) (ledger.Store, error) {
	book, err := d.Book()
	if err != nil {
		return nil, err // not a nil *dynamoledger.Store, which would not equal nil
	}
	return book, nil
}

// Operators opens the freeze and the lists. The error is ErrNoTable if the table is not known.
func (d *AWS) Operators(context.Context) (*safety.Operators, error) {
	s, err := d.values()
	if err != nil {
		return nil, err
	}
	return &safety.Operators{Store: s, Older: true}, nil
}

// Rollouts opens the records of rollouts. The error is ErrNoTable if the table is not known.
func (d *AWS) Rollouts(context.Context) (store.Store, error) {
	s, err := d.values()
	if err != nil {
		return nil, err // not a nil *dynamostore.Store, which would not equal nil
	}
	return s, nil
}

// Letters returns the dead letters; nil for a topic or a queue.
func (d *AWS) Letters() queue.Letters {
	if d.letters == nil {
		return nil
	}
	return d.letters
}

// Reasons reads the table; nil for a topic or a queue.
func (d *AWS) Reasons() reasons.Finder {
	if d.target.Stack == "" {
		return nil
	}
	values, err := d.values()
	if err != nil {
		return nil
	}
	return &reasons.AWS{Values: values, Table: d.target.Table}
}

// Where names the stack; "" for a topic or a queue.
func (d *AWS) Where() string {
	if d.target.Stack == "" {
		return ""
	}
	return "stack " + d.target.Stack + " in " + d.target.Config.Region
}

// Close makes the dead letters that were read visible for others.
func (d *AWS) Close(ctx context.Context) error {
	if d.letters == nil {
		return nil
	}
	return d.letters.Close(ctx)
}
