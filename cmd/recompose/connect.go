package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
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

// connection is the deployment that a command works with.
type connection struct {
	deployment.Client
	queue *natsqueue.Queue // nil on AWS, which keeps no events
	cmd   *cobra.Command
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
	settings, err := loadConfig(cmd, config.Options{Service: service, NATS: config.IfSet,
		Flags: map[string]string{"NATS_URL": p.natsURL}})
	if err != nil {
		return nil, nil, err
	}
	conn, err := dial(cmd, settings, purpose)
	return conn, settings, err
}

// loadConfig reads the settings, of which some are flags of a command.
func loadConfig(cmd *cobra.Command, o config.Options) (*config.Config, error) {
	c, err := config.Load(o)
	return c, byFlags(cmd, err)
}

// dialNATS reads the settings and connects a client to NATS.
func dialNATS(cmd *cobra.Command, url, purpose string) (*connection, error) {
	c, err := loadConfig(cmd, config.Options{NATS: config.IfSet, Flags: map[string]string{"NATS_URL": url}})
	if err != nil {
		return nil, err
	}
	return dial(cmd, c, purpose)
}

// unreachedError is the error of a command that did not get to its deployment: nothing was done.
type unreachedError struct{ error }

func (e unreachedError) Unwrap() error { return e.error }

// unreached reports whether a command found no deployment: nothing answers, or nothing was set up.
func unreached(err error) bool {
	_, ok := errors.AsType[unreachedError](err)
	return ok || errors.Is(err, natsqueue.ErrNotSetUp) || errors.Is(err, natsstore.ErrNoBucket)
}

// dial connects a client to NATS.
func dial(cmd *cobra.Command, c *config.Config, purpose string) (*connection, error) {
	log, err := logging.New(cmd.ErrOrStderr(), "warn", logging.Text) // shows that the connection is lost or restored
	if err != nil {
		return nil, err
	}
	nc, err := natsqueue.Connect(cmd.Context(), deployment.ConnectOptions(c, purpose, log))
	if _, denied := errors.AsType[*natsqueue.DeniedError](err); denied {
		return nil, unreachedError{err}
	}
	if errors.Is(err, natsqueue.ErrNotAuthorized) {
		return nil, unreachedError{fmt.Errorf("%w\nSet NATS_USER and NATS_PASSWORD, or NATS_CREDS, to a user of this server", err)}
	}
	if err != nil {
		url := "NATS_URL"
		if f := cmd.Flags().Lookup("nats-url"); f != nil && f.Changed {
			url = "--nats-url"
		}
		return nil, unreachedError{fmt.Errorf("%w\nIs `recompose up` running, and is %s right?", err, url)}
	}
	d, err := deployment.OnNATS(nc, c, log)
	if err != nil {
		nc.Close()
		return nil, unreachedError{err}
	}
	return &connection{Client: d, queue: d.Queue, cmd: cmd}, nil
}

// dialAWS finds the deployment on AWS: a stack, a topic or a queue.
func dialAWS(cmd *cobra.Command, name string) (*connection, error) {
	log, err := logging.New(cmd.ErrOrStderr(), "warn", logging.Text) // shows when AWS does not answer
	if err != nil {
		return nil, err
	}
	d, err := deployment.FindAWS(cmd.Context(), name, functions.Routes(), log)
	if err != nil {
		return nil, unreachedError{fmt.Errorf("--aws: %w", err)}
	}
	return &connection{Client: d, cmd: cmd}, nil
}

// namedStack explains an error of a place on AWS that is not a stack.
func namedStack(err error) error {
	switch {
	case errors.Is(err, deployment.ErrNoTable):
		return wrongUse(errors.New("--aws: give the name of the stack: a topic or a queue does not name the table"))
	case errors.Is(err, deployment.ErrNoTopic):
		return wrongUse(errors.New("--wait: events go to the topic, and a queue does not name its topic; give --aws " +
			"the name of the stack or the ARN of the topic"))
	}
	return err
}

func (c *connection) operators(ctx context.Context) (*safety.Operators, error) {
	o, err := c.Operators(ctx)
	return o, namedStack(err)
}

func (c *connection) rollouts(ctx context.Context) (store.Store, error) {
	s, err := c.Rollouts(ctx)
	return s, namedStack(err)
}

// follower reads events until it is closed.
type follower struct {
	read  reader
	close func()
}

// follow starts to read events as deployment.Client does. Call it before Send.
func (c *connection) follow(ctx context.Context, from time.Time) (*follower, error) {
	f, err := c.Follow(ctx, from)
	if err != nil {
		return nil, namedStack(err)
	}
	return &follower{read: f.Read, close: func() { c.end(f.Close) }}, nil
}

func (c *connection) close() { c.end(c.Close) }

// endWithin bounds the removal of queues on AWS, also after Ctrl-C.
const endWithin = 10 * time.Second

func (c *connection) end(do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.cmd.Context()), endWithin)
	defer cancel()
	if err := do(ctx); err != nil {
		printLine(c.cmd.ErrOrStderr(), "not removed on AWS: %s", escape(err.Error()))
	}
}

// resume returns the command line that follows a command. chosen: its sender chose the id.
func (c *connection) resume(e events.Envelope, chosen bool) resumeFunc {
	if c.queue == nil { // events are not stored on AWS
		return func(bool) string { return repeatHint(c.cmd, e) }
	}
	return waitLine(c.cmd, waitArguments(e, chosen))
}
