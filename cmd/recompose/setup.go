package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/awsstack"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/telemetry/logging"
	"recompose/shared/worker"
)

// setupFlags are the flags of `recompose setup`.
type setupFlags struct {
	verify bool
	accept bool // the service
	loss   bool // of ledger records
	stack  string
}

func setupCommand() *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Create the streams, consumers and buckets on a NATS cluster",
		Long: `Create the streams, consumers and buckets on the NATS cluster at NATS_URL, or bring them up to date. It may be
repeated. Workers do the same when they start, unless RECOMPOSE_SETUP is verify: then only this command needs the right
to create.

The first worker of a deployment records which Workspace service and project it works on, and workers of another one
refuse to start. --accept-service records the service and project of the environment instead, or with --aws those of the
stack, and publishes recompose.event.service.accepted.v1. Workers of the former service begin no more writes; stop
them. A job that is under way there then ends as lost: how it ended is not known.

If the ledger has lost records no write begins, and this command fails and reports why. Restore the whole ledger; or check
the desktops and the commands that wait, and then accept the loss with --accept-ledger-loss, which publishes
recompose.event.ledger.accepted.v1 and freezes writes: an earlier freeze may be lost with the ledger, and so may the
record of the service, which is then stored from the environment. After recompose thaw, a command whose record is lost can
be done a second time.`,
		Example: `  NATS_URL=tls://nats.example.org NATS_CREDS=admin.creds recompose setup
  recompose setup --verify
  RECOMPOSE_REGION=ap-southeast-3 HUAWEICLOUD_SDK_PROJECT_ID=... recompose setup --accept-service
  recompose setup --aws recompose --accept-service
  recompose setup --accept-ledger-loss
  recompose setup --aws recompose --accept-ledger-loss`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.accept && f.loss:
				return wrongUse(errors.New("--accept-service and --accept-ledger-loss: give one of them"))
			case f.verify && f.accept:
				return wrongUse(errors.New("--verify and --accept-service: give one of them; --verify changes nothing"))
			case f.verify && f.loss:
				return wrongUse(errors.New("--verify and --accept-ledger-loss: give one of them; --verify changes nothing"))
			case f.stack != "" && !f.accept && !f.loss:
				return wrongUse(errors.New("--aws: the template creates everything on AWS; " +
					"--aws is for --accept-service and --accept-ledger-loss"))
			case f.stack != "":
				return f.acceptOnAWS(cmd)
			}
			return f.setup(cmd)
		}),
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&f.verify, "verify", false, "only check that everything exists; create nothing")
	cmd.Flags().BoolVar(&f.accept, "accept-service", false,
		"record that the deployment works on another Workspace service from now on")
	cmd.Flags().BoolVar(&f.loss, "accept-ledger-loss", false, "allow writes although the ledger has lost records")
	cmd.Flags().StringVar(&f.stack, "aws", "", "with --accept-…: on AWS instead of NATS; the name of the `STACK`")
	return cmd
}

func (f setupFlags) setup(cmd *cobra.Command) error {
	ctx := cmd.Context()
	o := config.Options{NATS: config.Required}
	if f.accept {
		o.Service = config.Named
	}
	c, err := config.Load(o)
	if err != nil {
		return err
	}
	var to events.Service
	if f.accept {
		if to, err = service.Of(ctx, c.Endpoint(), c.ProjectID); err != nil {
			return nothingDone(err)
		}
	}
	c.Setup = config.SetupCreate
	if f.verify {
		c.Setup = config.SetupVerify
	}
	nc, err := natsqueue.Connect(ctx, deployment.ConnectOptions(c, "setup", logging.Silent()))
	if err != nil {
		return unreachedError{err}
	}
	defer nc.Close()
	parts, err := deployment.SetUp(ctx, nc, deployment.SetupOptions{
		Config: c, Queue: deployment.QueueOptions(c, logging.Silent()), Routes: functions.Routes(), Owner: worker.Owner(),
		Mend: !f.verify, Log: logging.Silent(),
	})
	if err != nil {
		return &exitError{exitFailed, err} // also if --verify finds nothing
	}
	book := parts.Ledger
	a := deployment.Acceptance{Ledger: book, Operators: &safety.Operators{Store: book.Values()}, Events: parts.Queue, By: whoAmI()}
	if f.loss {
		return acceptLoss(cmd, a, c)
	}
	if f.accept { // also while the ledger has lost records: functions can read then
		if err := acceptService(cmd, a, to); err != nil {
			return err
		}
	}
	if err := book.Fit(ctx, ""); err != nil {
		return err
	}
	if f.verify {
		printLine(cmd.OutOrStdout(), "all streams, consumers and buckets exist with the right settings")
	} else {
		printLine(cmd.OutOrStdout(), "all streams, consumers and buckets are ready")
	}
	return nil
}

func (f setupFlags) acceptOnAWS(cmd *cobra.Command) error {
	ctx := cmd.Context()
	t, err := awsstack.Find(ctx, f.stack)
	if err != nil {
		return fmt.Errorf("--aws: %w", err)
	}
	d := deployment.OnAWS(t, logging.Silent())
	book, err := d.Book()
	if err != nil {
		return namedStack(err)
	}
	a := deployment.Acceptance{
		Ledger: book, Operators: &safety.Operators{Store: book.Values(), Older: true},
		Events: awsqueue.NewSender(t.Config, t.TopicARN, ""), By: whoAmI(),
	}
	c := &config.Config{Region: t.Region, WorkspaceEndpoint: config.URLs(t.Endpoint), ProjectID: t.ProjectID}
	if f.loss {
		printLine(cmd.OutOrStdout(), "in        %s", escape(d.Where()))
		return acceptLoss(cmd, a, c)
	}
	if c.Endpoint() == "" || c.ProjectID == "" {
		return fmt.Errorf("--aws: stack %s has no parameters WorkspaceRegion or WorkspaceEndpoint, and ProjectId", t.Stack)
	}
	to, err := service.Of(ctx, c.Endpoint(), c.ProjectID)
	if err != nil {
		return err
	}
	printLine(cmd.OutOrStdout(), "in        %s", escape(d.Where()))
	return acceptService(cmd, a, to)
}
