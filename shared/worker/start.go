package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/credentials"
	"recompose/shared/deployment"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/service"
	"recompose/shared/workspace"
)

// Client makes the client of the configured service, whose calls the worker observes.
func (w *Worker) Client() (*workspace.Client, error) {
	c := w.o.Config
	options := workspace.Options{
		Endpoint: c.Endpoint(), ProjectID: c.ProjectID, Concurrency: c.Concurrency,
		ReadsPerMinute: c.ReadsPerMinute, WritesPerMinute: c.WritesPerMinute, SignatureWindow: c.SignatureWindow,
		OnCall: w.Called, OnReach: w.reached,
	}
	var err error
	if options.Auth, err = credentials.Of(c, options.OnCall); err != nil {
		return nil, err
	}
	api, err := workspace.New(options)
	if err != nil {
		return nil, fmt.Errorf("client of the service: %w", err)
	}
	credentials, err := credentialsName(c, options.Auth)
	if err != nil {
		return nil, fmt.Errorf("name the credentials of this server's agency: %w", err)
	}
	w.Uses(api, credentials)
	return api, nil
}

// Uses sets the client of the service and the name of its credentials, for a client that Client has not made.
func (w *Worker) Uses(api *workspace.Client, credentials string) {
	w.api, w.key.probe, w.key.name = api, api.Probe, credentials
}

// SetUp opens the streams and stores of the deployment as deployment.SetUp does. It may be repeated until it succeeds.
func (w *Worker) SetUp(ctx context.Context, nc *natsqueue.Conn) (err error) {
	o := deployment.QueueOptions(w.o.Config, w.o.Log)
	o.Observe, o.OnLate, o.Key = w.metrics.Handled, w.metrics.TimerLate, &w.key
	o.Worker, o.Status = name(), w.status
	w.parts, err = deployment.SetUp(ctx, nc, deployment.SetupOptions{
		Config: w.o.Config, Queue: o, Routes: w.o.Routes, Owner: w.owner, Log: w.o.Log,
	})
	return err
}

// claimRetry is the time between attempts to record the service.
const claimRetry = time.Second

// Claim records the service of this worker for the deployment. It fails with a *service.OtherError if the deployment
// works on another service, and waits while that record may be lost with the ledger. Meanwhile the worker answers the
// status requests for these functions.
func (w *Worker) Claim(ctx context.Context, own events.Service, fns []queue.Function) error {
	defer w.parts.Queue.Answer(ctx, fns)()
	book := w.parts.Ledger
	c := service.Claim{Store: book.Values(), Service: own, Ledger: book, By: w.owner, Now: time.Now}
	err := c.Check(ctx)
	for errors.Is(err, ledger.ErrLost) && ctx.Err() == nil {
		w.Waits(err)
		select {
		case <-time.After(claimRetry):
		case <-ctx.Done():
		}
		err = c.Check(ctx)
	}
	return err
}

// Start opens the access key of the worker and returns the options of its functions' engine.
func (w *Worker) Start(ctx context.Context, own events.Service) once.Options {
	book := w.parts.Ledger
	w.key.open(ctx, book.Values(), w.o.Log)
	w.safe = w.safety(once.SharedReads(book.Values()), own)
	w.mu.Lock()
	w.started = true
	w.mu.Unlock()
	return once.Options{
		Store: book, Owner: w.owner, Safety: w.safe, Rollouts: once.SharedReads(w.parts.Rollouts), Now: w.parts.Queue.Now, Log: w.o.Log,
		OnRecovery: w.metrics.Write,
	}
}

// Run handles messages with these functions until ctx ends, as natsqueue.Queue.Run does, and watches the ledger.
func (w *Worker) Run(ctx context.Context, fns []queue.Function) error {
	defer w.parts.WatchLedger(ctx, w.o.Log)()
	return w.parts.Queue.Run(ctx, fns)
}
