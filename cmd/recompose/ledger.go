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
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
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

// acceptLoss accepts a loss, after it has published who does so. The freeze, the lists of desktops on AWS and the record of
// the deployment's service may be lost with the ledger: writes are frozen before, and where no service is recorded, that of
// c is. It may be repeated.
func acceptLoss(
	cmd *cobra.Command, l lossyLedger, o *safety.Operators, c *config.Config, publish func(context.Context, events.Envelope) error,
) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	err := l.Fit(ctx, "")
	if err == nil {
		say(out, "the ledger has all its records: there is nothing to accept")
		return nil
	}
	lost, ok := errors.AsType[*ledger.LostError](err)
	if !ok {
		return err
	}
	if err := recordLostService(cmd, l, o, c, publish); err != nil {
		return err
	}
	if f, err := o.Frozen(ctx); err != nil || f == nil {
		f = &safety.Freeze{
			Reason: "the loss of ledger records was accepted; a freeze before it may be lost", By: whoAmI(),
			At: time.Now().UTC().Truncate(time.Second),
		}
		if err := o.SetFreeze(ctx, *f); err != nil {
			return &exitError{exitUnknown, fmt.Errorf("%w\nThe loss is not accepted. It is safe to repeat", err)}
		}
	}
	data, err := json.Marshal(events.LedgerAccepted{Reason: lost.Reason, By: whoAmI(), Previous: l.Epoch()})
	if err != nil {
		return err
	}
	id := events.Derive(l.Epoch(), "ledger.accepted", lost.Reason) // one event for one loss, however often it is accepted
	err = publish(ctx, events.Envelope{
		ID: id, Source: "recompose/setup", Type: events.TypeLedgerAccepted, Time: time.Now().UTC(), Correlation: id, Data: data,
	})
	if err == nil {
		err = l.Accept(ctx)
	}
	if err != nil {
		return &exitError{exitUnknown, fmt.Errorf("accept the loss: %w\nIt is safe to repeat", err)}
	}
	if err := l.Fit(ctx, ""); err != nil {
		return err
	}
	f, err := o.Frozen(ctx)
	if err != nil {
		return &exitError{exitUnknown, err}
	}
	say(out, "accepted  %s", foreign(lost.Reason))
	say(out, "now       %s", freezeText(f))
	say(out, "A command whose record is gone can be done a second time: look at the desktops and at the commands that wait.\n"+
		"Lists that were set with `lists set` may be lost, too. To let writes begin: %s thaw%s", programName(), kept(cmd, placeFlags...))
	return nil
}

// recordLostService records the service of the settings where none is recorded any more, before a worker of another one
// can do so.
func recordLostService(
	cmd *cobra.Command, l lossyLedger, o *safety.Operators, c *config.Config, publish func(context.Context, events.Envelope) error,
) error {
	ctx := cmd.Context()
	_, _, err := service.Read(ctx, l.Values())
	if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, service.ErrDamaged) {
		return err
	}
	if c.Endpoint() == "" || c.ProjectID == "" {
		return nothingDone(errors.New("the record of the deployment's service is lost with the ledger: give the service in " +
			"RECOMPOSE_REGION or RECOMPOSE_WORKSPACE_ENDPOINT, and HUAWEICLOUD_SDK_PROJECT_ID. Nothing was accepted"))
	}
	to, err := service.Of(ctx, c.Endpoint(), c.ProjectID)
	if err != nil {
		return nothingDone(err)
	}
	return acceptService(cmd, l.Values(), o, to, publish)
}
