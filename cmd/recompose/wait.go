package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/queue/natsqueue"
)

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

func waitCommand() *cobra.Command {
	var follow followFlags
	var root, digest, natsURL string
	var forEver bool
	cmd := &cobra.Command{
		Use:   "wait CORRELATION",
		Short: "Follow a chain to its end",
		Long: fmt.Sprintf(`Follow a chain from its beginning to its end. CORRELATION is the id of the first command. If the sender chose another
correlation id, add --command, unless the chain has events already. Generated ids may be shortened; ids that a sender
chose may not.

While no event comes, the reason is printed. For a chain without any event, wait gives up after %v unless --for-ever is
given: its command may wait, or the id may be wrong.

An id that was used with several data has an end event for each. With --digest only the command with this data counts;
without it the chain succeeds only if all of them do.

Exit codes: 0 everything succeeded, 1 something failed, 2 usage error, 3 the end is not known, also if NATS cannot be
reached.`, unknownAfter),
		Example: `  recompose wait 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f --timeout 3h --failed-to failed.txt
  recompose wait 0b6c`,
		Args: oneChain,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if digest != "" && !digestForm.MatchString(digest) {
				return wrongUse(fmt.Errorf(
					"--digest: must be the 64 hexadecimal digits that recompose send --json prints; got %q", digest))
			}
			settings, err := loadConfig(cmd, config.Options{NATS: config.IfSet, Flags: map[string]string{"NATS_URL": natsURL}})
			if err != nil {
				return err
			}
			conn, err := dial(cmd, settings, "wait")
			if err != nil {
				return endUnknown(args[0], err)
			}
			defer conn.close()
			if err := follow.begin(); err != nil {
				return wrongUse(err)
			}
			stored, err := follow.find(cmd, conn.queue, args[0])
			if err != nil {
				return err
			}
			follow.mustBeKnown = !forEver
			first := events.Root{ID: root, Digest: digest}
			arguments := quoted(stored.id) + kept(cmd, "command", "digest")
			if digest != "" {
				first.ID = cmp.Or(root, stored.id)
			}
			waiting := func(ctx context.Context) ([]chain.Command, error) {
				byChain, _, err := storedCommands(ctx, conn.queue)
				return byChain[stored.id], err
			}
			return follow.follow(cmd, stored.reader(conn.queue), target{chain: chain.New(stored.id, first),
				resume: waitLine(cmd, arguments), why: conn.Reasons(), stored: waiting})
		}),
	}
	cmd.Flags().StringVar(&root, "command", "", "id of the first command, if it is not the correlation id")
	cmd.Flags().StringVar(&digest, "digest", "", "digest of the first command's data, if its id was used with other data")
	cmd.Flags().BoolVar(&forEver, "for-ever", false, "wait also for a chain that has no event yet")
	addNATSURL(cmd.Flags(), &natsURL)
	follow.define(cmd.Flags())
	return cmd
}

// endUnknown is the error of a wait that could not begin.
func endUnknown(id string, err error) error {
	return &exitError{exitUnknown, fmt.Errorf("how chain %s ended is not known: %w", id, err)}
}

// storedChain is a chain with its stored events.
type storedChain struct {
	id     string
	events []events.Envelope
	next   uint64 // sequence number at which reading continues
}

// find reads the stored events of the chain that a text stands for.
func (f *followFlags) find(cmd *cobra.Command, q *natsqueue.Queue, text string) (storedChain, error) {
	ctx, cancel := f.timeout.within(cmd.Context())
	defer cancel()
	chains, next, err := q.Chains(ctx, text)
	if err != nil {
		return storedChain{}, endUnknown(text, err)
	}
	id, err := chains.MatchWhole(text)
	if err != nil {
		return storedChain{}, nothingDone(err)
	}
	return storedChain{id, chains[id], next}, nil
}

// reader reads the stored events, then new ones. It passes on all stored events before it may stop: an id that was used
// with several data has several end events.
func (s storedChain) reader(q *natsqueue.Queue) reader {
	return func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
		more := true
		for _, e := range s.events {
			var err error
			if more, err = each(e); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		return q.Read(ctx, natsqueue.Since{Seq: s.next}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
			return each(e)
		})
	}
}
