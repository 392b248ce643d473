package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
)

func eventsCommand() *cobra.Command {
	var correlation, since, natsURL string
	var types []string
	var followOn, asJSON bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List events",
		Long: `List the events that functions have published, oldest first. Events are kept for 30 days.

A line is the time, the correlation id of the chain, the function and what it reports.

` + wrapped("", "The types are "+strings.Join(shortTypes(), ", ")+".", 0, 120),
		Example: `  recompose events --since 2h --type job.completed,command.failed
  recompose events --follow --json | jq .data`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			wanted, err := fullTypes(types)
			if err != nil {
				return wrongUse(fmt.Errorf("--type: %w", err))
			}
			from := natsqueue.Since{}
			if since != "" {
				now := time.Now()
				if from.Time, err = moment(since, now, func(d time.Duration) time.Time { return now.Add(-d.Abs()) }); err != nil {
					return wrongUse(fmt.Errorf("--since: %w", err))
				}
			}
			conn, err := dialNATS(cmd, natsURL, "events")
			if err != nil {
				return err
			}
			defer conn.close()
			if correlation != "" {
				if correlation, err = chainOf(cmd.Context(), conn.queue, correlation, followOn); err != nil {
					return err
				}
			}
			found := false
			err = conn.queue.Read(cmd.Context(), from, followOn, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
				switch {
				case correlation != "" && e.Correlation != correlation, len(wanted) > 0 && !slices.Contains(wanted, e.Type):
				case asJSON:
					return true, printJSON(cmd.OutOrStdout(), e)
				default:
					found = true
					printEvent(cmd.OutOrStdout(), e, e.Time.Local().Format(time.DateTime)+"  "+escape(e.Correlation))
				}
				return true, nil
			})
			if followOn && cmd.Context().Err() != nil { // Ctrl-C ends --follow
				return nil
			}
			if err == nil && !found && !asJSON {
				printLine(cmd.ErrOrStderr(), "0 events")
			}
			return err
		}),
	}
	f := cmd.Flags()
	f.StringVar(&correlation, "correlation", "",
		"only of the chain with this correlation id, or of the only one whose id begins with it")
	addList(f, &types, "type", "only of these types; by comma or repeated")
	f.StringVar(&since, "since", "", "only since this `TIME` (2026-01-15T08:30:00Z), or this long ago (2h)")
	f.BoolVar(&followOn, "follow", false, "continue with new events, until Ctrl-C")
	f.BoolVar(&asJSON, "json", false, "print one event a line as JSON")
	addNATSURL(f, &natsURL)
	return cmd
}

// chainOf returns the id of the chain that a text stands for. To follow a chain whose sender chose the id, the whole
// id is needed: a later id may begin with the same text.
func chainOf(ctx context.Context, q *natsqueue.Queue, text string, follow bool) (string, error) {
	chains, _, err := q.Chains(ctx, text)
	if err != nil {
		return "", err
	}
	match := chains.Match
	if follow {
		match = chains.MatchWhole
	}
	id, err := match(text)
	if err != nil {
		return "", wrongUse(fmt.Errorf("--correlation: %w", err))
	}
	return id, nil
}

// shortTypes returns the names of the types without their common prefix and suffix.
func shortTypes() []string {
	short := make([]string, len(events.EventTypes))
	for i, t := range events.EventTypes {
		short[i] = strings.TrimSuffix(strings.TrimPrefix(t, "recompose.event."), ".v1")
	}
	return short
}

func fullTypes(given []string) ([]string, error) {
	var full []string
	for _, g := range given {
		i := slices.Index(events.EventTypes, g)
		if i < 0 {
			i = slices.Index(shortTypes(), g)
		}
		if i < 0 {
			return nil, fmt.Errorf("unknown type %q; there are %s", g, strings.Join(shortTypes(), ", "))
		}
		full = append(full, events.EventTypes[i])
	}
	return full, nil
}
