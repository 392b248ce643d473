package deployment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"recompose/events"
	"recompose/shared/chain/reasons"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
)

// NATS is a client of a deployment on NATS.
type NATS struct {
	Queue *natsqueue.Queue

	nc   *natsqueue.Conn
	name string // "" for the only one
}

var _ Client = (*NATS)(nil)

// OnNATS returns the deployment of the configuration on a NATS server. Close closes the connection; after an error it is
// still open.
func OnNATS(nc *natsqueue.Conn, c *config.Config, log *slog.Logger) (*NATS, error) {
	q, err := natsqueue.New(nc, QueueOptions(c, log))
	return &NATS{Queue: q, nc: nc, name: c.Deployment}, err
}

// sentOnNATS is what is shown of a command that was sent.
type sentOnNATS struct {
	ID          string `json:"id"`
	Correlation string `json:"correlationid"`
	Digest      string `json:"digest"`
	Stream      string `json:"stream"`
	Seq         uint64 `json:"sequence"`
	Duplicate   bool   `json:"duplicate"`
}

// Send stores a command in the stream of commands.
func (d *NATS) Send(ctx context.Context, e events.Envelope) (Receipt, error) {
	r, err := d.Queue.Send(ctx, e)
	if errors.Is(err, natsqueue.ErrNotSent) {
		err = fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	shown := sentOnNATS{e.ID, e.Correlation, e.Digest(), r.Stream, r.Seq, r.Duplicate}
	return Receipt{Duplicate: r.Duplicate, Number: r.Seq, Shown: shown}, err
}

// natsFollower reads the stream of events.
type natsFollower struct {
	queue *natsqueue.Queue
	from  natsqueue.Since
}

// Follow starts to read all events that are stored or, with a time, those that are stored from now on. The time counts
// only if the place of the next event cannot be read: the clock of this machine may be ahead of the server's.
func (d *NATS) Follow(ctx context.Context, from time.Time) (Follower, error) {
	since := natsqueue.Since{Time: from}
	if !from.IsZero() {
		if next, err := d.Queue.NextEvent(ctx); err == nil {
			since = next
		}
	}
	return natsFollower{d.Queue, since}, nil
}

// Read reads the events that are stored, and then new ones.
func (f natsFollower) Read(ctx context.Context, each func(events.Envelope) (bool, error)) error {
	return f.queue.Read(ctx, f.from, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
		return each(e)
	})
}

// Close does nothing.
func (natsFollower) Close(context.Context) error { return nil }

// Service returns the service that the workers recorded.
func (d *NATS) Service(ctx context.Context) Service {
	s, err := d.values(ctx, "")
	if err != nil {
		return Service{Unknown: err.Error()}
	}
	return recorded(ctx, s)
}

// values opens a bucket for a person, who may have the rights to single keys only.
func (d *NATS) values(ctx context.Context, bucket string) (*natsstore.Store, error) {
	return natsstore.Open(ctx, d.nc, natsstore.Options{Deployment: d.name, Bucket: bucket, Direct: true})
}

// Ledger opens the ledger.
func (d *NATS) Ledger(ctx context.Context) (ledger.Store, error) {
	book, err := natsledger.New(ctx, d.nc, natsledger.Options{Options: natsstore.Options{Deployment: d.name, Verify: true}})
	if err != nil {
		return nil, err // not a nil *natsledger.Store, which would not equal nil
	}
	return book, nil
}

// Operators opens the freeze and the lists.
func (d *NATS) Operators(ctx context.Context) (*safety.Operators, error) {
	s, err := d.values(ctx, "")
	if err != nil {
		return nil, err
	}
	return &safety.Operators{Store: s}, nil
}

// Rollouts opens the records of rollouts.
func (d *NATS) Rollouts(ctx context.Context) (store.Store, error) {
	s, err := d.values(ctx, natsstore.Rollouts)
	if err != nil {
		return nil, err // not a nil *natsstore.Store, which would not equal nil
	}
	return s, nil
}

// Letters returns the dead letters.
func (d *NATS) Letters() queue.Letters { return d.Queue }

// Reasons asks the workers and reads the streams.
func (d *NATS) Reasons() reasons.Finder {
	return &reasons.NATS{Queue: d.Queue, Operators: d.Operators}
}

// Where is the name of the deployment.
func (d *NATS) Where() string {
	if d.name == "" {
		return ""
	}
	return "deployment " + d.name
}

// Close closes the connection.
func (d *NATS) Close(context.Context) error {
	d.nc.Close()
	return nil
}
