package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store/natsstore"
	"recompose/shared/telemetry/logging"
)

// place is where the functions are that a command is for: on NATS, or on AWS.
type place struct{ natsURL, aws string }

func (p *place) define(flags *pflag.FlagSet) {
	flags.StringVar(&p.natsURL, "nats-url", "", "NATS server, before NATS_URL (default "+config.DefaultNATS+")")
	flags.StringVar(&p.aws, "aws", "", "on AWS instead of NATS: the name of the `STACK`")
}

// connection is a client's connection to the functions.
type connection struct {
	queue   *natsqueue.Queue // nil on AWS, which keeps no events
	letters letterBox        // nil where only a topic or a queue on AWS is known
	// send stores a command where its function will take it. After errNotSent it was certainly not stored.
	send func(ctx context.Context, e events.Envelope) (receipt, error)
	// follow begins to follow what is said, from a time on or, on AWS, from now on: so before the command is sent.
	follow func(ctx context.Context, from time.Time) (*follower, error)
	resume func(e events.Envelope, chosen bool) resumeFunc // how a person goes on following a command; chosen: its id was
	why    whyFunc                                         // nil where nothing can be asked
	ledger func(ctx context.Context) (ledger.Store, error) // opens it; it is not made
	// operators is what people have set for the deployment.
	operators func(ctx context.Context) (*safety.Operators, error)
	behind    func(ctx context.Context) behind // the service that the functions work on
	where     string                           // for people: the deployment or the stack; "" for the only one
	close     func()
}

// receipt tells that a command was stored.
type receipt struct {
	duplicate bool   // it was there already
	number    uint64 // at the entrance; 0 where there are no numbers
	shown     any    // what --json prints of it
}

// errNotSent says that a command was certainly not stored.
var errNotSent = errors.New("the command was not sent")

// follower follows what is said.
type follower struct {
	read  reader
	close func()
}

// letterBox is where dead letters are kept.
type letterBox interface {
	DeadLetters(ctx context.Context, f queue.LetterFilter) ([]queue.Letter, error)
	DeadLettersOf(ctx context.Context, id string) ([]queue.Letter, error)
	DeadLetter(ctx context.Context, l queue.Letter) (queue.Letter, error)
	CheckRedrive(l queue.Letter) (events.Envelope, error)
	Redrive(ctx context.Context, l queue.Letter) error
	Drop(ctx context.Context, l queue.Letter) error
	Hidden() int // how many the last list lacks
}

// natsLetters are the dead letters on a NATS stream, where nothing is hidden.
type natsLetters struct{ *natsqueue.Queue }

func (n natsLetters) Hidden() int { return 0 }

func (n natsLetters) Redrive(ctx context.Context, l queue.Letter) error {
	_, err := n.Queue.Redrive(ctx, l)
	return err
}

// connect reads the settings and connects to the place. service says how much the command depends on those of the
// service.
func (p *place) connect(cmd *cobra.Command, service config.Need, purpose string) (*connection, *config.Config, error) {
	if p.aws != "" && p.natsURL != "" {
		return nil, nil, wrongUse(errors.New("--aws and --nats-url: give one of them"))
	}
	if p.aws != "" {
		settings, err := config.Load(config.Options{})
		if err != nil {
			return nil, nil, err
		}
		line, err := dialAWS(cmd, p.aws)
		return line, settings, err
	}
	settings, err := config.Load(config.Options{Service: service, NATS: config.IfSet, Flags: map[string]string{"NATS_URL": p.natsURL}})
	if err != nil {
		return nil, nil, err
	}
	line, err := dial(cmd, settings, purpose)
	return line, settings, err
}

// connectOptions are how the settings say to connect. purpose names this program to whoever looks at connections.
func connectOptions(c *config.Config, purpose string, log *slog.Logger) natsqueue.ConnectOptions {
	return natsqueue.ConnectOptions{
		URL: string(c.NATSURL), Creds: c.NATSCreds, User: c.NATSUser, Password: string(c.NATSPassword),
		CA: c.NATSCA, Cert: c.NATSCert, Key: c.NATSKey, InboxPrefix: c.NATSInboxPrefix, Name: "recompose " + purpose, Log: log,
	}
}

// dial connects a client to NATS. Its exit code is 1: nothing was done.
func dial(cmd *cobra.Command, c *config.Config, purpose string) (*connection, error) {
	log, err := logging.New(cmd.ErrOrStderr(), "warn", logging.Text) // so that people see a connection come and go
	if err != nil {
		return nil, err
	}
	nc, err := natsqueue.Connect(cmd.Context(), connectOptions(c, purpose, log))
	if denied := new(natsqueue.DeniedError); errors.As(err, &denied) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w\nIs `recompose up` running, or another NATS_URL meant?", err)
	}
	q, err := natsqueue.New(nc, queueOptions(c, log))
	if err != nil {
		nc.Close()
		return nil, err
	}
	line := &connection{
		queue: q, letters: natsLetters{q}, close: nc.Close,
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
			return natsledger.New(ctx, nc, natsledger.Options{Options: natsstore.Options{Deployment: c.Deployment, Verify: true}})
		},
		operators: func(ctx context.Context) (*safety.Operators, error) {
			s, err := natsstore.Open(ctx, nc, natsstore.Options{Deployment: c.Deployment, Direct: true})
			return &safety.Operators{Store: s}, err
		},
		behind: func(ctx context.Context) behind {
			s, err := natsstore.Open(ctx, nc, natsstore.Options{Deployment: c.Deployment, Direct: true})
			if err != nil {
				return behind{unknown: err.Error()}
			}
			return recorded(service.Read(ctx, s))
		},
	}
	line.why = (&natsWhy{queue: q, operators: line.operators, denied: map[string]string{}}).why
	if c.Deployment != "" {
		line.where = "deployment " + c.Deployment
	}
	return line, nil
}

// sent is what --json prints of a command that was sent and is not waited for.
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
			return q.Read(ctx, natsqueue.Since{Time: from}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) { return each(e) })
		},
		close: func() {},
	}
}

func queueOptions(c *config.Config, log *slog.Logger) natsqueue.Options {
	return natsqueue.Options{
		Deployment: c.Deployment, Replicas: c.NATSReplicas, Verify: c.Setup == config.SetupVerify, Concurrency: c.Concurrency, Log: log,
	}
}

// newLog makes the log of a worker.
func newLog(w io.Writer, c *config.Config, form string) (*slog.Logger, error) {
	log, err := logging.New(w, c.LogLevel, form)
	if err != nil {
		return nil, nothingDone(err)
	}
	return log, nil
}

func ledgerOptions(c *config.Config, log *slog.Logger) natsledger.Options {
	return natsledger.Options{
		Options: natsstore.Options{Deployment: c.Deployment, Replicas: c.NATSReplicas, Verify: c.Setup == config.SetupVerify},
		Worker:  owner(), Log: log,
	}
}
