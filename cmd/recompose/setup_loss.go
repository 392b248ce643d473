package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
)

// lossyLedger is a ledger that may have lost records, with its store.
type lossyLedger interface {
	Fit(ctx context.Context, epoch string) error
	Epoch() string
	Accept(ctx context.Context) error
	Values() store.Store
}

// acceptLoss publishes that a person accepts the loss of records, and then accepts it. The freeze, the lists of
// desktops on AWS and the record of the deployment's service may be lost with the ledger: so it first freezes writes,
// and records the service of c if none is recorded. It may be repeated.
func acceptLoss(
	cmd *cobra.Command, l lossyLedger, o *safety.Operators, c *config.Config,
	publish func(context.Context, events.Envelope) error,
) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	err := l.Fit(ctx, "")
	if err == nil {
		printLine(out, "the ledger has all its records: nothing to accept")
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
			Reason: "the loss of ledger records was accepted; an earlier freeze may be lost", By: whoAmI(),
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
	id := events.Derive(l.Epoch(), "ledger.accepted", lost.Reason) // the same event if the loss is accepted several times
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
	printLine(out, "accepted  %s", escape(lost.Reason))
	printLine(out, "now       %s", freezeText(f))
	printLine(out, "A command whose record is lost can be done a second time: "+
		"check the desktops and the commands that wait.\n"+
		"If the bucket of rollouts was lost, a rollout whose records are lost holds no desktop and goes on no more: "+
		"start another one for its desktops.\n"+
		"Lists that were set with `lists set` may be lost, too. To allow writes: %s thaw%s",
		programName(), kept(cmd, placeFlags...))
	return nil
}

// recordLostService records the service of the settings if its record is lost, before a worker of another service can.
func recordLostService(
	cmd *cobra.Command, l lossyLedger, o *safety.Operators, c *config.Config,
	publish func(context.Context, events.Envelope) error,
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
