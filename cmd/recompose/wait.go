package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/queue/natsqueue"
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func waitCommand() *cobra.Command {
	var follow followFlags
	var root, digest, natsURL string
	cmd := &cobra.Command{
		Use:   "wait CORRELATION",
		Short: "Follow a chain to its end",
		Long: `Follow a chain to its end, from its beginning. The correlation id is the id of the first command, unless its sender
chose another: then --command names the first command, or what has been said so far shows where the chain began.

An id that was used for other data has an end for each. With --digest only that of the command with this data counts;
without it the chain succeeded only if all of them did.

Exit codes: 0 everything succeeded, 1 something failed, 3 the end is not known.`,
		Example: `  recompose wait 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f --timeout 3h --failed-to failed.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("wait needs one correlation id")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			first := events.Root{ID: root, Digest: digest}
			again := quoted(args[0])
			if root != "" {
				again += " --command " + quoted(root)
			}
			if digest != "" {
				if !digestForm.MatchString(digest) {
					return wrongUse(fmt.Errorf("--digest: must be the 64 digits that recompose send prints; got %q", digest))
				}
				first.ID = or(root, args[0])
				again += " --digest " + digest
			}
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
			return follow.follow(cmd, keptFirst(line.queue), newChain(args[0], first), programName()+" wait "+again)
		}),
	}
	cmd.Flags().StringVar(&root, "command", "", "id of the first command, where the correlation id is another")
	cmd.Flags().StringVar(&digest, "digest", "", "digest of the first command's data, where its id was used for other data")
	cmd.Flags().StringVar(&natsURL, "nats-url", "", "NATS server, before NATS_URL (default "+config.DefaultNATS+")")
	follow.define(cmd.Flags())
	return cmd
}

// keptFirst reads all that is kept before it may end: an id that was used for other data has ended more than once.
func keptFirst(q *natsqueue.Queue) reader {
	return func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
		more, from := true, natsqueue.Since{}
		read := func(e events.Envelope, _ time.Time, seq uint64) (_ bool, err error) {
			from.Seq = seq + 1
			more, err = each(e)
			return true, err
		}
		if err := q.Read(ctx, from, false, read); err != nil || !more {
			return err
		}
		return q.Read(ctx, from, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) { return each(e) })
	}
}
