package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/ledger"
	"recompose/shared/service"
	"recompose/shared/store"
)

// uncertain gives an error its exit code: that of an unknown result if a change may have been stored.
func uncertain(err error) error {
	if _, ok := errors.AsType[deployment.UncertainError](err); ok {
		return &exitError{exitUnknown, err}
	}
	return err
}

// acceptService changes the service of a deployment, and publishes an event.
func acceptService(cmd *cobra.Command, a deployment.Acceptance, to events.Service) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	before, _, err := service.Read(ctx, a.Ledger.Values())
	switch {
	case errors.Is(err, store.ErrNotFound):
		printLine(out, "before    not recorded")
	case err != nil:
		printLine(out, "before    %s", escape(err.Error()))
	default:
		at := before.At.Local().Format(time.DateTime)
		printLine(out, "before    %s, recorded %s by %s", escape(before.Name()), at, escape(before.By))
	}
	now, err := a.Service(ctx, to)
	if err != nil {
		return uncertain(err)
	}
	printLine(out, "now       %s", escape(now.Name()))
	return uncertain(a.PublishService(ctx, now))
}

// acceptLoss accepts that the ledger has lost records. The record of the deployment's service may be lost with it: so it
// first records the service of c if none is recorded.
func acceptLoss(cmd *cobra.Command, a deployment.Acceptance, c *config.Config) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	err := a.Ledger.Fit(ctx, "")
	if err == nil {
		printLine(out, "the ledger has all its records: nothing to accept")
		return nil
	}
	lost, ok := errors.AsType[*ledger.LostError](err)
	if !ok {
		return err
	}
	if err := recordLostService(cmd, a, c); err != nil {
		return err
	}
	f, err := a.Loss(ctx, lost)
	if err != nil {
		return uncertain(err)
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
func recordLostService(cmd *cobra.Command, a deployment.Acceptance, c *config.Config) error {
	if lost, err := a.LostService(cmd.Context()); !lost {
		return err
	}
	if c.Endpoint() == "" || c.ProjectID == "" {
		return nothingDone(errors.New("the record of the deployment's service is lost with the ledger: give the service in " +
			"RECOMPOSE_REGION or RECOMPOSE_WORKSPACE_ENDPOINT, and HUAWEICLOUD_SDK_PROJECT_ID. Nothing was accepted"))
	}
	to, err := service.Of(cmd.Context(), c.Endpoint(), c.ProjectID)
	if err != nil {
		return nothingDone(err)
	}
	return acceptService(cmd, a, to)
}
