package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/deployment"
)

// listFlags are the flags of commands that list what the service has.
type listFlags struct {
	place          place
	timeout        timeLimit
	csv, json, ids bool
}

func (l *listFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&l.ids, "ids", false, "print only the ids, one a line")
	flags.BoolVar(&l.csv, "csv", false, "print CSV with every column")
	flags.BoolVar(&l.json, "json", false, "print JSON, one object a line, with every field")
	l.limit(flags)
	l.place.define(flags)
	exclusive(cmd, "ids", "csv", "json")
}

// limit defines --timeout, with a limit that no list needs while a worker answers.
func (l *listFlags) limit(flags *pflag.FlagSet) {
	l.timeout = timeLimit(10 * time.Minute)
	l.timeout.define(flags, "stop waiting after this long")
}

// list sends a list command for each data, one after the other, and returns their pages in order. The lines for people
// go to standard error.
func list[T any](l *listFlags, cmd *cobra.Command, function, event string, commands ...any) ([]T, error) {
	conn, _, err := l.place.connect(cmd, config.IfSet, cmd.Name())
	if err != nil {
		return nil, err
	}
	defer conn.close()
	printLine(cmd.ErrOrStderr(), "%s", conn.Service(cmd.Context()))
	var all []T
	for _, data := range commands {
		pages, err := listOne[T](l, cmd, conn, function, event, data)
		if err != nil {
			return nil, err
		}
		all = append(all, pages...)
	}
	return all, nil
}

// listOne sends one command and waits for all its pages.
func listOne[T any](
	l *listFlags, cmd *cobra.Command, conn *connection, function, event string, data any,
) (pages []T, err error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	s, _ := sendableOf(function)
	e, err := s.envelope(sendFlags{}, raw, time.Now())
	if err != nil {
		return nil, wrongUse(err)
	}
	ctx, cancel := l.timeout.within(cmd.Context())
	defer cancel()
	follow, err := conn.follow(ctx, time.Now().Add(-clockSkew))
	if err != nil {
		return nil, notSent(err)
	}
	defer follow.close()
	got, err := conn.Send(ctx, e)
	switch {
	case errors.Is(err, deployment.ErrNotSent):
		return nil, nothingDone(err)
	case err != nil:
		return nil, &exitError{exitUnknown, fmt.Errorf("send command %s: %w\nWhether it was stored is not known. "+
			"It changes nothing: repeat it", e.ID, err)}
	}
	c := chain.New(e.Correlation, rootOf(e))
	f := followFlags{timeout: l.timeout, json: true, hide: true}
	to := target{chain: c, function: function, number: got.Number, resume: conn.resume(e, false), why: conn.Reasons()}
	w := &waiting{target: to, f: &f, cmd: cmd, begun: time.Now(), last: time.Now()}
	whole := false
	err = f.read(ctx, func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
		return follow.read(ctx, func(e events.Envelope) (bool, error) { // on AWS, events come in any order
			open, err := each(e)
			if err == nil && !open {
				pages, whole, err = chain.Pages[T](c.Own(), event)
			}
			return open || !whole, err
		})
	}, w)
	if open := c.Open(); len(open) > 0 || err != nil && !whole {
		return nil, w.unknown(open, err)
	}
	if r := c.Result(); !r.OK() {
		printFailures(cmd.ErrOrStderr(), r, "", 0)
		return nil, &exitError{exitFailed, errors.New("the list could not be read")}
	}
	return pages, nil
}

// printTable prints rows in columns.
func printTable(cmd *cobra.Command, header []string, rows [][]string) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range slices.Concat([][]string{header}, rows) {
		for i, cell := range row {
			end := "\t"
			if i == len(row)-1 {
				end = "\n"
			}
			_, _ = fmt.Fprint(t, escape(cell), end)
		}
	}
	_ = t.Flush()
	for line := range strings.Lines(b.String()) {
		printLine(cmd.OutOrStdout(), "%s", strings.TrimRight(line, " \n"))
	}
}
