package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/chain"
	"recompose/shared/queue/natsqueue"
)

func chainsCommand() *cobra.Command {
	var since, natsURL string
	var openOnly, asJSON bool
	cmd := &cobra.Command{
		Use:   "chains",
		Short: "List chains and their state",
		Long: `List the chains, oldest first: the time of their first event (while a command is still stored, when it was sent), their
correlation id for wait and trace, the first command and its source, and their state. Events are kept for 30 days.
Commands that wait without an event are listed too, if this NATS user may read them. A command that was refused because
its id was used before for other data (id_reused) is counted separately; its desktops are not counted.`,
		Example: `  recompose chains --since 24h
  recompose chains --open`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var from time.Time
			if since != "" {
				now := time.Now()
				var err error
				if from, err = moment(since, now, func(d time.Duration) time.Time { return now.Add(-d.Abs()) }); err != nil {
					return wrongUse(fmt.Errorf("--since: %w", err))
				}
			}
			conn, err := dialNATS(cmd, natsURL, "chains")
			if err != nil {
				return err
			}
			defer conn.close()
			chains, _, err := conn.queue.Chains(cmd.Context(), "")
			if err != nil {
				return err
			}
			waiting, note, err := storedCommands(cmd.Context(), conn.queue)
			if err != nil {
				return err
			}
			for id := range waiting {
				chains[id] = slices.Clip(chains[id]) // adds a chain that has no event
			}
			var rows []chain.Row
			for id, published := range chains {
				row := chain.NewRow(id, published, waiting[id])
				if row.Last.Before(from) || openOnly && len(row.Open) == 0 {
					continue
				}
				rows = append(rows, row)
			}
			slices.SortFunc(rows, func(a, b chain.Row) int {
				return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Correlation, b.Correlation))
			})
			if err := printChains(cmd.OutOrStdout(), rows, asJSON); err != nil || note == "" {
				return err
			}
			printLine(cmd.ErrOrStderr(), "%s", escape(note))
			return nil
		}),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&since, "since", "",
		"only chains with an event since this `TIME` (2026-01-15T08:30:00Z), or this long ago (2h)")
	f.BoolVar(&openOnly, "open", false, "only chains that have not ended")
	f.BoolVar(&asJSON, "json", false, "print one chain a line as JSON")
	addNATSURL(f, &natsURL)
	return cmd
}

// maxStored bounds the stored messages of a stream that are read for commands that wait.
const maxStored = 2000

// storedCommands returns the stored commands by chain. The note explains why some or all are missing.
func storedCommands(
	ctx context.Context, q *natsqueue.Queue,
) (byChain map[string][]chain.Command, note string, err error) {
	commands, more, err := q.Commands(ctx, maxStored)
	if denied, ok := errors.AsType[*natsqueue.DeniedError](err); ok {
		return nil, fmt.Sprintf("Commands that wait without an event are not listed: %v", denied), nil
	}
	if err != nil {
		return nil, "", err
	}
	if more {
		note = fmt.Sprintf("Only the first %d stored messages of each stream were read for commands that wait.", maxStored)
	}
	byChain = map[string][]chain.Command{}
	for _, c := range commands {
		byChain[c.Correlation] = append(byChain[c.Correlation], c)
	}
	return byChain, note, nil
}

// longestID is the length of a generated id. A longer one, which its sender chose, does not widen the column.
const longestID = 36

func printChains(w io.Writer, rows []chain.Row, asJSON bool) error {
	width := 0
	for _, r := range rows {
		width = max(width, len(escape(r.Correlation)))
	}
	for _, r := range rows {
		if asJSON {
			if err := printJSON(w, r); err != nil {
				return err
			}
			continue
		}
		what := cmp.Or(r.Function, "unknown")
		if r.Desktops > 0 {
			what += ", " + chain.Count(r.Desktops, "desktop")
		}
		printLine(w, "%s  %-*s  %-28s  by %s  %s", r.First.Local().Format(time.DateTime), min(width, longestID),
			escape(r.Correlation), escape(what), escape(cmp.Or(r.By, "unknown")), escape(r.Text))
	}
	if !asJSON {
		printLine(w, "%s", chain.Count(len(rows), "chain"))
	}
	return nil
}
