package deployment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/store/natsstore"
)

// ConnectOptions returns the options of a NATS connection. purpose becomes part of the name of the connection.
func ConnectOptions(c *config.Config, purpose string, log *slog.Logger) natsqueue.ConnectOptions {
	return natsqueue.ConnectOptions{
		URL: string(c.NATSURL), Creds: c.NATSCreds, User: c.NATSUser, Password: string(c.NATSPassword),
		CA: c.NATSCA, Cert: c.NATSCert, Key: c.NATSKey, InboxPrefix: c.NATSInboxPrefix, Name: "recompose " + purpose, Log: log,
	}
}

// QueueOptions returns the options of a queue on NATS.
func QueueOptions(c *config.Config, log *slog.Logger) natsqueue.Options {
	return natsqueue.Options{
		Deployment: c.Deployment, Replicas: c.NATSReplicas, Verify: c.Setup == config.SetupVerify,
		Concurrency: c.Concurrency, Log: log,
	}
}

// Parts are the parts of a deployment on NATS that workers use.
type Parts struct {
	Queue    *natsqueue.Queue
	Ledger   *natsledger.Store
	Rollouts *natsstore.Store
}

// SetupOptions are the options of SetUp.
type SetupOptions struct {
	Config *config.Config
	Queue  natsqueue.Options // from QueueOptions
	Routes []queue.Function  // of all functions of the program
	Owner  string            // name of this process in the ledger
	Mend   bool              // remove limits of the ledger's bucket that could delete records
	Log    *slog.Logger
}

// SetUp opens the parts of a deployment on NATS. It creates what is missing, or with config.SetupVerify returns an error
// instead. Messages that the queue publishes describe the ledger in their headers.
func SetUp(ctx context.Context, nc *natsqueue.Conn, o SetupOptions) (*Parts, error) {
	p := &Parts{}
	o.Queue.Stamp = func() map[string]string { return p.Ledger.Stamp() }
	var err error
	if p.Queue, err = natsqueue.New(nc, o.Queue); err != nil {
		return nil, err
	}
	if err := p.Queue.Setup(ctx, o.Routes); err != nil {
		return nil, fmt.Errorf("set up streams and consumers: %w", err)
	}
	buckets := natsstore.Options{Deployment: o.Config.Deployment, Replicas: o.Queue.Replicas, Verify: o.Queue.Verify}
	mended := buckets
	mended.Mend = o.Mend
	p.Ledger, err = natsledger.New(ctx, nc, natsledger.Options{Options: mended, Worker: o.Owner, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("set up the ledger: %w", err)
	}
	buckets.Bucket = natsstore.Rollouts
	if p.Rollouts, err = natsstore.Open(ctx, nc, buckets); err != nil {
		return nil, fmt.Errorf("set up the records of rollouts: %w", err)
	}
	return p, nil
}

// WatchLedger checks that the ledger has all its records, at once and until stop is called. If it has not, the worker
// continues to read, and the log has the reason why it writes nothing.
func (p *Parts) WatchLedger(ctx context.Context, log *slog.Logger) (stop func()) {
	if err := p.Ledger.Fit(ctx, ""); err != nil && !errors.Is(err, ledger.ErrLost) { // a loss is logged by the ledger
		log.WarnContext(ctx, "no write begins until it is known whether the ledger has all its records", "error", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { p.Ledger.Watch(ctx) })
	return func() { cancel(); watching.Wait() }
}
