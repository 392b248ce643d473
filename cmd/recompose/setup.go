package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/logging"
	"recompose/shared/queue/natsqueue"
)

func setupCommand() *cobra.Command {
	var verify bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Create the streams, consumers and ledger on a NATS cluster",
		Long: `Create the streams, consumers and ledger on the NATS cluster at NATS_URL, or bring them up to date. It may be
repeated. Workers do the same when they start, unless RECOMPOSE_SETUP is verify: then only this command needs the right
to create.`,
		Example: `  NATS_URL=tls://nats.example.org NATS_CREDS=admin.creds recompose setup
  recompose setup --verify`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := config.Load(config.Options{NATS: config.Required})
			if err != nil {
				return err
			}
			c.Setup = config.SetupCreate
			if verify {
				c.Setup = config.SetupVerify
			}
			nc, err := natsqueue.Connect(ctx, connectOptions(c, "setup", logging.Silent()))
			if err != nil {
				return err
			}
			defer nc.Close()
			q, err := natsqueue.New(nc, queueOptions(c, logging.Silent()))
			if err != nil {
				return err
			}
			if err := q.Setup(ctx, functions.All(functions.Settings{})); err != nil {
				return fmt.Errorf("set up streams and consumers: %w", err)
			}
			if _, err := natsledger.New(ctx, nc, ledgerOptions(c)); err != nil {
				return fmt.Errorf("set up the ledger: %w", err)
			}
			if verify {
				say(cmd.OutOrStdout(), "all streams, consumers and the ledger are there and as they should be")
			} else {
				say(cmd.OutOrStdout(), "all streams, consumers and the ledger are ready")
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "only look whether all is there; create nothing")
	return cmd
}
