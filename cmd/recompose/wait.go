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
	var forEver bool
	cmd := &cobra.Command{
		Use:   "wait CORRELATION",
		Short: "Follow a chain to its end",
		Long: fmt.Sprintf(`Follow a chain to its end, from its beginning. The correlation id is the id of the first command, unless its sender
chose another: then --command names the first command, or the events so far show where the chain began. The beginning of
an id that recompose made is enough where no other begins so; an id that a sender chose must be given whole.

While nothing moves, the reason is printed. A chain without an event is reported after %v, and is waited for only with
--for-ever: its command may wait, or the id may be wrong.

An id that was used for other data has an end for each. With --digest only that of the command with this data counts;
without it the chain succeeded only if all of them did.

Exit codes: 0 everything succeeded, 1 something failed, 2 wrong use, 3 the end is not known.`, unknownAfter),
		Example: `  recompose wait 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f --timeout 3h --failed-to failed.txt
  recompose wait 0b6c`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("wait needs one correlation id")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if digest != "" && !digestForm.MatchString(digest) {
				return wrongUse(fmt.Errorf("--digest: must be the 64 digits that recompose send prints; got %q", digest))
			}
			settings, err := config.Load(config.Options{NATS: config.IfSet, Flags: map[string]string{"NATS_URL": natsURL}})
			if err != nil {
				return err
			}
			line, err := dial(cmd, settings, "wait")
			if err != nil {
				return endUnknown(args[0], err)
			}
			defer line.close()
			if err := follow.begin(); err != nil {
				return wrongUse(err)
			}
			begun, err := follow.find(cmd, line.queue, args[0])
			if err != nil {
				return err
			}
			follow.mustBeKnown = !forEver
			first := events.Root{ID: root, Digest: digest}
			again := quoted(begun.id) + kept(cmd, "command", "digest")
			if digest != "" {
				first.ID = or(root, begun.id)
			}
			return follow.follow(cmd, begun.reader(line.queue), newChain(begun.id, first), waitLine(cmd, again), line.why)
		}),
	}
	cmd.Flags().StringVar(&root, "command", "", "id of the first command, where the correlation id is another")
	cmd.Flags().StringVar(&digest, "digest", "", "digest of the first command's data, where its id was used for other data")
	cmd.Flags().BoolVar(&forEver, "for-ever", false, "wait also for a chain that has no event yet")
	cmd.Flags().StringVar(&natsURL, "nats-url", "", "NATS server, before NATS_URL (default "+config.DefaultNATS+")")
	follow.define(cmd.Flags())
	return cmd
}

// endUnknown is the error of a wait that could not even begin.
func endUnknown(id string, err error) error {
	return &exitError{exitUnknown, fmt.Errorf("how chain %s ended is not known: %w", id, err)}
}

// begun is what is stored of a chain already.
type begun struct {
	id     string
	events []events.Envelope
	next   uint64 // where reading goes on
}

// find reads what is stored of the chain that is meant.
func (f *followFlags) find(cmd *cobra.Command, q *natsqueue.Queue, text string) (begun, error) {
	ctx := cmd.Context()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	found, next, err := chainsFrom(ctx, q, text)
	if err != nil {
		return begun{}, endUnknown(text, err)
	}
	id, err := found.the(text)
	if err == nil {
		err = wholeUnlessGenerated(text, id)
	}
	if err != nil {
		return begun{}, nothingDone(err)
	}
	return begun{id, found[id], next}, nil
}

// wholeUnlessGenerated refuses the beginning of an id that its sender chose: the sender of nightly, whose command waits,
// must not be shown how nightly-2 ended.
func wholeUnlessGenerated(text, id string) error {
	if id == text || generated(id) {
		return nil
	}
	return fmt.Errorf("no chain has the id %q. There is %q: give an id that its sender chose whole", text, id)
}

// reader gives the events that are stored, and then those that come. It gives all that is stored before it may end: an id
// that was used for other data has ended more than once.
func (b begun) reader(q *natsqueue.Queue) reader {
	return func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
		more := true
		for _, e := range b.events {
			var err error
			if more, err = each(e); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		return q.Read(ctx, natsqueue.Since{Seq: b.next}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) { return each(e) })
	}
}
