package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"recompose/shared/config"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/logging"
	"recompose/shared/queue/natsqueue"
)

// connection is a client's connection to the messages.
type connection struct {
	queue      *natsqueue.Queue
	ledger     func(ctx context.Context) (*natsledger.Store, error) // opens it; it is not made
	serverName string
	close      func()
}

// connectOptions are how the settings say to connect. purpose names this program to whoever looks at connections.
func connectOptions(c *config.Config, purpose string, log *slog.Logger) natsqueue.ConnectOptions {
	return natsqueue.ConnectOptions{
		URL: string(c.NATSURL), Creds: c.NATSCreds, User: c.NATSUser, Password: string(c.NATSPassword),
		CA: c.NATSCA, Cert: c.NATSCert, Key: c.NATSKey, Inbox: c.NATSInbox, Name: "recompose " + purpose, Log: log,
	}
}

// dial connects a client. Its exit code is 1: nothing was done.
func dial(cmd *cobra.Command, c *config.Config, purpose string) (*connection, error) {
	log, err := logging.New(cmd.ErrOrStderr(), "warn", logging.Text) // so that people see a connection come and go
	if err != nil {
		return nil, err
	}
	nc, err := natsqueue.Connect(cmd.Context(), connectOptions(c, purpose, log))
	if err != nil {
		return nil, fmt.Errorf("%w\nIs `recompose up` running, or another NATS_URL meant?", err)
	}
	q, err := natsqueue.New(nc, queueOptions(c, log))
	if err != nil {
		nc.Close()
		return nil, err
	}
	open := func(ctx context.Context) (*natsledger.Store, error) {
		return natsledger.New(ctx, nc, natsledger.Options{Deployment: c.Deployment, Verify: true})
	}
	return &connection{queue: q, ledger: open, serverName: nc.ConnectedServerName(), close: nc.Close}, nil
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
		return nil, wrongUse(err)
	}
	return log, nil
}

func ledgerOptions(c *config.Config) natsledger.Options {
	return natsledger.Options{Deployment: c.Deployment, Replicas: c.NATSReplicas, Verify: c.Setup == config.SetupVerify}
}
