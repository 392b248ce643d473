package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/config"
)

func waitCommand() *cobra.Command {
	var follow followFlags
	var root, natsURL string
	cmd := &cobra.Command{
		Use:   "wait CORRELATION",
		Short: "Follow a chain to its end",
		Long: `Follow a chain to its end, from its beginning. The correlation id is the id of the first command, unless its sender
chose another: then --command names the first command, or what has been said so far shows where the chain began.

Exit codes: 0 everything succeeded, 1 something failed, 3 the end is not known.`,
		Example: `  recompose wait 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f --timeout 3h --failed-to failed.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("wait needs one correlation id")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			settings, err := config.Load(config.Options{NATS: config.IfSet, Flags: map[string]string{"NATS_URL": natsURL}})
			if err != nil {
				return err
			}
			line, err := dial(cmd, settings, "wait")
			if err != nil {
				return err
			}
			defer line.close()
			if err := follow.begin(); err != nil {
				return wrongUse(err)
			}
			again := quoted(args[0])
			if root != "" {
				again += " --command " + quoted(root)
			}
			return follow.follow(cmd, followNATS(line.queue, time.Time{}).read, newChain(args[0], root), programName()+" wait "+again)
		}),
	}
	cmd.Flags().StringVar(&root, "command", "", "id of the first command, where the correlation id is another")
	cmd.Flags().StringVar(&natsURL, "nats-url", "", "NATS server, before NATS_URL (default "+config.DefaultNATS+")")
	follow.define(cmd.Flags())
	return cmd
}
