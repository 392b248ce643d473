package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue/natsqueue"
)

// ledgerBook is a worker's ledger on NATS, which is watched, and described in the headers of all that the worker publishes.
type ledgerBook struct{ store *natsledger.Store }

// hook lets a queue describe the ledger in the headers of its messages. The queue must not run before watch.
func (b *ledgerBook) hook(o natsqueue.Options) natsqueue.Options {
	o.Stamp = func() map[string]string { return b.store.Stamp() }
	return o
}

// watch looks whether the ledger has all its records, at once and until the returned function is called. While it has not,
// the worker goes on to read, and the log shows why it writes nothing.
func (b *ledgerBook) watch(ctx context.Context, store *natsledger.Store, log *slog.Logger) (stop func()) {
	b.store = store
	if err := store.Fit(ctx, ""); err != nil && !errors.Is(err, ledger.ErrLost) { // that is in the log
		log.WarnContext(ctx, "no write begins until it is known whether the ledger has all its records", "error", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { store.Watch(ctx) })
	return func() { cancel(); watching.Wait() }
}

// lossyLedger is a ledger that may have lost records.
type lossyLedger interface {
	Fit(ctx context.Context, epoch string) error
	Epoch() string
	Accept(ctx context.Context) error
}

// acceptLoss accepts a loss, after it has published who does so. It may be repeated.
func acceptLoss(cmd *cobra.Command, store lossyLedger, publish func(context.Context, events.Envelope) error) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	err := store.Fit(ctx, "")
	if err == nil {
		say(out, "the ledger has all its records: there is nothing to accept")
		return nil
	}
	lost, ok := errors.AsType[*ledger.LostError](err)
	if !ok {
		return err
	}
	data, err := json.Marshal(events.LedgerAccepted{Reason: lost.Reason, By: whoAmI(), Previous: store.Epoch()})
	if err != nil {
		return err
	}
	id := events.Derive(store.Epoch(), "ledger.accepted", lost.Reason) // one event for one loss, however often it is accepted
	err = publish(ctx, events.Envelope{
		ID: id, Source: "recompose/setup", Type: events.TypeLedgerAccepted, Time: time.Now().UTC(), Correlation: id, Data: data,
	})
	if err == nil {
		err = store.Accept(ctx)
	}
	if err != nil {
		return &exitError{exitUnknown, fmt.Errorf("accept the loss: %w\nIt is safe to repeat", err)}
	}
	if err := store.Fit(ctx, ""); err != nil {
		return err
	}
	say(out, "accepted  %s", foreign(lost.Reason))
	say(out, "Writes begin within about a minute, those that wait too. A command whose record is gone can be done a second time.")
	return nil
}
