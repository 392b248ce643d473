package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/chain/reasons"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
	"recompose/shared/telemetry/logging"
)

// place names the deployment of the functions: on NATS, or on AWS.
type place struct{ natsURL, aws string }

func (p *place) define(flags *pflag.FlagSet) {
	addNATSURL(flags, &p.natsURL)
	flags.StringVar(&p.aws, "aws", "", "on AWS instead of NATS: the name of the `STACK`")
}

func addNATSURL(flags *pflag.FlagSet, url *string) {
	flags.StringVar(url, "nats-url", "", "NATS server, overrides NATS_URL (default "+config.DefaultNATS+")")
}

// connection is a client's connection to the functions.
type connection struct {
	queue   *natsqueue.Queue // nil on AWS, which keeps no events
	letters queue.Letters    // nil if --aws names only a topic or a queue
	// send stores a command for its function. errNotSent means that it was certainly not stored.
	send func(ctx context.Context, e events.Envelope) (receipt, error)
	// follow starts to read events: from a time on or, on AWS, from now on. Call it before send.
	follow func(ctx context.Context, from time.Time) (*follower, error)
	resume func(e events.Envelope, chosen bool) resumeFunc // the command line that follows a command; chosen: its sender chose the id
	why    reasons.Finder                                  // nil if no reasons can be found
	ledger func(ctx context.Context) (ledger.Store, error) // opens the ledger, never creates it
	// operators opens what people have set for the deployment: freeze and lists.
	operators func(ctx context.Context) (*safety.Operators, error)
	service   func(ctx context.Context) recordedService      // the service that the functions work on
	rollouts  func(ctx context.Context) (store.Store, error) // opens the records of rollouts, for reading
	where     string                                         // the deployment or the stack, for people; "" for the only one
	close     func()
}

// receipt is the acknowledgement of a stored command.
type receipt struct {
	duplicate bool   // it was stored before
	number    uint64 // in the stream of commands; 0 on AWS
	shown     any    // what --json prints
}

// errNotSent means that a command was certainly not stored.
var errNotSent = errors.New("the command was not sent")

// follower reads events until it is closed.
type follower struct {
	read  reader
	close func()
}

// connect reads the settings and connects to the place. service is the need for the settings of the service.
func (p *place) connect(cmd *cobra.Command, service config.Need, purpose string) (*connection, *config.Config, error) {
	if p.aws != "" && p.natsURL != "" {
		return nil, nil, wrongUse(errors.New("--aws and --nats-url: give one of them"))
	}
	if p.aws != "" {
		settings, err := config.Load(config.Options{})
		if err != nil {
			return nil, nil, err
		}
		conn, err := dialAWS(cmd, p.aws)
		return conn, settings, err
	}
	settings, err := config.Load(config.Options{Service: service, NATS: config.IfSet,
		Flags: map[string]string{"NATS_URL": p.natsURL}})
	if err != nil {
		return nil, nil, err
	}
	conn, err := dial(cmd, settings, purpose)
	return conn, settings, err
}

// dialNATS reads the settings and connects a client to NATS.
func dialNATS(cmd *cobra.Command, url, purpose string) (*connection, error) {
	c, err := config.Load(config.Options{NATS: config.IfSet, Flags: map[string]string{"NATS_URL": url}})
	if err != nil {
		return nil, err
	}
	return dial(cmd, c, purpose)
}

// dial connects a client to NATS.
func dial(cmd *cobra.Command, c *config.Config, purpose string) (*connection, error) {
	log, err := logging.New(cmd.ErrOrStderr(), "warn", logging.Text) // shows that the connection is lost or restored
	if err != nil {
		return nil, err
	}
	nc, err := natsqueue.Connect(cmd.Context(), deployment.ConnectOptions(c, purpose, log))
	if denied := new(natsqueue.DeniedError); errors.As(err, &denied) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w\nIs `recompose up` running, and is NATS_URL right?", err)
	}
	q, err := natsqueue.New(nc, deployment.QueueOptions(c, log))
	if err != nil {
		nc.Close()
		return nil, err
	}
	conn := &connection{
		queue: q, letters: q, close: nc.Close,
		send: func(ctx context.Context, e events.Envelope) (receipt, error) {
			r, err := q.Send(ctx, e)
			if errors.Is(err, natsqueue.ErrNotSent) {
				err = fmt.Errorf("%w: %w", errNotSent, err)
			}
			return receipt{r.Duplicate, r.Seq, sent{e.ID, e.Correlation, e.Digest(), r.Stream, r.Seq, r.Duplicate}}, err
		},
		follow: func(_ context.Context, from time.Time) (*follower, error) { return followNATS(q, from), nil },
		resume: func(e events.Envelope, chosen bool) resumeFunc { return waitLine(cmd, waitArguments(e, chosen)) },
		ledger: func(ctx context.Context) (ledger.Store, error) {
			return natsledger.New(ctx, nc, natsledger.Options{
				Options: natsstore.Options{Deployment: c.Deployment, Verify: true},
			})
		},
		operators: func(ctx context.Context) (*safety.Operators, error) {
			s, err := natsstore.Open(ctx, nc, natsstore.Options{Deployment: c.Deployment, Direct: true})
			return &safety.Operators{Store: s}, err
		},
		service: func(ctx context.Context) recordedService {
			s, err := natsstore.Open(ctx, nc, natsstore.Options{Deployment: c.Deployment, Direct: true})
			if err != nil {
				return recordedService{unknown: err.Error()}
			}
			return serviceOf(service.Read(ctx, s))
		},
		rollouts: func(ctx context.Context) (store.Store, error) {
			return natsstore.Open(ctx, nc, natsstore.Options{Deployment: c.Deployment, Bucket: natsstore.Rollouts, Direct: true})
		},
	}
	conn.why = &reasons.NATS{Queue: q, Operators: conn.operators}
	if c.Deployment != "" {
		conn.where = "deployment " + c.Deployment
	}
	return conn, nil
}

// sent is what send --json prints without --wait.
type sent struct {
	ID          string `json:"id"`
	Correlation string `json:"correlationid"`
	Digest      string `json:"digest"`
	Stream      string `json:"stream"`
	Seq         uint64 `json:"sequence"`
	Duplicate   bool   `json:"duplicate"`
}

func followNATS(q *natsqueue.Queue, from time.Time) *follower {
	return &follower{
		read: func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
			return q.Read(ctx, natsqueue.Since{Time: from}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
				return each(e)
			})
		},
		close: func() {},
	}
}
