package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
)

func traceCommand() *cobra.Command {
	var root, natsURL string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "trace CORRELATION",
		Short: "Draw the tree of a chain",
		Long: `Draw the tree of a chain from its events: which command led to which, when, by which calls of the service, with which
result, and what is still open. Events are kept for 30 days.

The beginning of a correlation id is enough if no other begins with it. A line is the time of an event, the time since
the one above it, the function that published it, and what it reports.`,
		Example: `  recompose trace 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f
  recompose trace 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f --json | jq .open`,
		Args: oneChain,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			conn, err := dialNATS(cmd, natsURL, "trace")
			if err != nil {
				return err
			}
			defer conn.close()
			chains, _, err := conn.queue.Chains(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			id, err := chains.Match(args[0])
			if err != nil {
				return nothingDone(err)
			}
			c := chain.New(id, events.Root{ID: root})
			for _, e := range chains[id] {
				c.Add(e)
			}
			if len(c.Events()) == 0 {
				return fmt.Errorf("the chain %q has no events: its command waits, or its events are older than 30 days, or the "+
					"id is wrong", args[0])
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), c.Tree())
			}
			printTree(cmd.OutOrStdout(), c.Tree())
			return nil
		}),
	}
	cmd.Flags().StringVar(&root, "command", "", "id of the first command, if it is not the correlation id")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tree as JSON")
	addNATSURL(cmd.Flags(), &natsURL)
	return cmd
}

func printTree(w io.Writer, t chain.Tree) {
	for _, line := range t.Lines() {
		printLine(w, "%s", escape(line))
	}
}
