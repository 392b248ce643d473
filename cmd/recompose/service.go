package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/credentials"
	"recompose/shared/ledger"
	"recompose/shared/service"
	"recompose/shared/store"
	"recompose/shared/workspace"
)

// recordedService is the service that the workers of a deployment recorded. If it is not known, it counts as a real
// one.
type recordedService struct {
	events.Service
	unknown string // why it is not known
}

// String returns the first line that `send` prints.
func (b recordedService) String() string {
	if b.unknown != "" {
		return "REAL (" + escape(b.unknown) + ", so it counts as a real service)"
	}
	return escape(b.Service.String())
}

// serviceOf returns the service of a record that was read.
func serviceOf(r service.Record, _ store.Revision, err error) recordedService {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return recordedService{unknown: "no worker has recorded yet which service it works on"}
	case err != nil:
		return recordedService{unknown: err.Error()}
	}
	return recordedService{Service: r.Service}
}

// startRetry is the time between attempts while a worker starts.
const startRetry = time.Second

// awaitService returns the service of the configuration. It waits for an emulator on this machine, which may start
// later than the worker.
func awaitService(ctx context.Context, c *config.Config, log *slog.Logger) (events.Service, error) {
	s, err := service.Configured(ctx, c)
	if errors.Is(err, service.ErrNoAnswer) && ctx.Err() == nil {
		log.WarnContext(ctx, "waiting for the service: it is not known yet whether it is an emulator", "error", err)
	}
	for errors.Is(err, service.ErrNoAnswer) && ctx.Err() == nil {
		select {
		case <-time.After(startRetry):
		case <-ctx.Done():
		}
		s, err = service.Configured(ctx, c)
	}
	if err != nil && !errors.Is(err, service.ErrNoAnswer) {
		err = nothingDone(err)
	}
	return s, err
}

// lossyLedger is a ledger that may have lost records, with its store.
type lossyLedger interface {
	Fit(ctx context.Context, epoch string) error
	Epoch() string
	Accept(ctx context.Context) error
	Values() store.Store
}

// claim records the service of this worker for the deployment. It fails if the deployment works on another service, and
// waits while that record may be lost with the ledger.
func claim(ctx context.Context, l lossyLedger, own events.Service, w *monitor) error {
	c := service.Claim{Store: l.Values(), Service: own, Ledger: l, By: owner(), Now: time.Now}
	err := c.Check(ctx)
	for errors.Is(err, ledger.ErrLost) && ctx.Err() == nil {
		if w != nil {
			w.waits(err)
		}
		select {
		case <-time.After(startRetry):
		case <-ctx.Done():
		}
		err = c.Check(ctx)
	}
	if other, ok := errors.AsType[*service.OtherError](err); ok {
		err = nothingDone(fmt.Errorf("%w\nNothing was done", other))
	}
	return err
}

// newClient returns a client of the configured service. w may be nil; else it observes the calls.
func newClient(c *config.Config, w *monitor) (*workspace.Client, error) {
	settings := workspace.Options{
		Endpoint: c.Endpoint(), ProjectID: c.ProjectID, Concurrency: c.Concurrency,
		ReadsPerMinute: c.ReadsPerMinute, WritesPerMinute: c.WritesPerMinute, SignatureWindow: c.SignatureWindow,
	}
	if w != nil {
		settings.OnCall, settings.OnReach = w.called, w.reached
	}
	var err error
	if settings.Auth, err = credentials.Of(c, settings.OnCall); err != nil {
		return nil, nothingDone(err)
	}
	client, err := workspace.New(settings)
	if err != nil {
		return nil, nothingDone(fmt.Errorf("client of the service: %w", err))
	}
	if w != nil {
		w.key.probe = client.Probe
		if w.key.name, err = credentialsName(c, settings.Auth); err != nil {
			return nil, fmt.Errorf("name the credentials of this server's agency: %w", err)
		}
	}
	return client, nil
}
