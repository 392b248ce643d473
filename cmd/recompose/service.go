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

// behind is the service behind a queue, as its workers recorded it. Where that is not known, it counts as a real one.
type behind struct {
	events.Service
	unknown string // why it is not known
}

// String is the first line that `send` prints.
func (b behind) String() string {
	if b.unknown != "" {
		return "REAL (" + foreign(b.unknown) + ", so it is taken for a real service)"
	}
	return foreign(b.Service.String())
}

// recorded is the service of the record that was read.
func recorded(r service.Record, _ store.Revision, err error) behind {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return behind{unknown: "no worker has recorded yet which service it works on"}
	case err != nil:
		return behind{unknown: err.Error()}
	}
	return behind{Service: r.Service}
}

// askEvery is how long a worker waits before it asks an endpoint on this machine once more.
const askEvery = time.Second

// awaited is the service of the configuration, for a worker, which may be there before the emulator on its machine.
func awaited(ctx context.Context, c *config.Config, log *slog.Logger) (events.Service, error) {
	s, err := service.Configured(ctx, c)
	if errors.Is(err, service.ErrNoAnswer) && ctx.Err() == nil {
		log.WarnContext(ctx, "waiting for the service: it is not known yet whether it is an emulator", "error", err)
	}
	for errors.Is(err, service.ErrNoAnswer) && ctx.Err() == nil {
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
		}
		s, err = service.Configured(ctx, c)
	}
	if err != nil && !errors.Is(err, service.ErrNoAnswer) {
		err = nothingDone(err)
	}
	return s, err
}

// lossyLedger is a ledger that may have lost records, with the store that it is in.
type lossyLedger interface {
	Fit(ctx context.Context, epoch string) error
	Epoch() string
	Accept(ctx context.Context) error
	Values() store.Store
}

// claim records which service this worker works on, or refuses to start: the deployment works on another one. It waits
// while the record may be lost with the ledger.
func claim(ctx context.Context, l lossyLedger, own events.Service, w *watch) error {
	c := service.Claim{Store: l.Values(), Service: own, Ledger: l, By: owner(), Now: time.Now}
	err := c.Check(ctx)
	for errors.Is(err, ledger.ErrLost) && ctx.Err() == nil {
		if w != nil {
			w.waits(err)
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
		}
		err = c.Check(ctx)
	}
	if other, ok := errors.AsType[*service.OtherError](err); ok {
		err = nothingDone(fmt.Errorf("%w\nNothing was done", other))
	}
	return err
}

// newClient makes the client of the configured service; w, where there is one, follows its calls.
func newClient(c *config.Config, w *watch) (*workspace.Client, error) {
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
		return nil, nothingDone(fmt.Errorf("the settings of the service: %w", err))
	}
	if w != nil {
		w.key.probe = client.Probe
		if w.key.name, err = nameOf(c, settings.Auth); err != nil {
			return nil, fmt.Errorf("name the credentials of this server's agency: %w", err)
		}
	}
	return client, nil
}
