package main

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/rollout"
)

func rolloutListCommand() *cobra.Command {
	var f rolloutFlags
	var live bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the rollouts",
		Long: `List the rollouts in the order of their start: name, phase, desktops by state, and when each was
started.`,
		Example: `  recompose rollout list
  recompose rollout list --live --json`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			s, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			names, err := rollout.Names(s.ctx, s.store, live)
			if err != nil {
				return err
			}
			now := time.Now()
			for _, name := range names {
				h, err := rollout.ReadHead(s.ctx, s.store, name)
				if errors.Is(err, rollout.ErrNone) {
					continue
				}
				if err != nil {
					return err
				}
				if live && rollout.Over(h.Phase) {
					continue
				}
				v := rollout.View{Head: h}
				status := v.Status(now)
				if f.json {
					if err := printJSON(cmd.OutOrStdout(), status); err != nil {
						return err
					}
					continue
				}
				printLine(cmd.OutOrStdout(), "%s", escape(status.ListText()))
			}
			if len(names) == 0 && !f.json {
				printLine(cmd.OutOrStdout(), "no rollouts")
			}
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	f.place.define(flags)
	flags.BoolVar(&live, "live", false, "only rollouts that are not over")
	flags.BoolVar(&f.json, "json", false, "print one rollout a line as JSON")
	return cmd
}

func rolloutStatusCommand() *cobra.Command {
	var f rolloutFlags
	var watch bool
	cmd := &cobra.Command{
		Use:   "status NAME",
		Short: "Show how a rollout stands",
		Long: `Show how a rollout stands: phase, waves, desktops by state, rate, estimated end, failures with
their reasons, why nothing moves and until when, and the commands that make sense now.

--watch shows it until the rollout is over; on a terminal it is drawn, with a cell for each desktop or for several.
q or Ctrl-C ends the watching, not the rollout. Without a terminal, on a narrow or dumb one, and with NO_COLOR, it
prints a line for each change.`,
		Example: `  recompose rollout status win11-november
  recompose rollout status win11-november --watch
  recompose rollout status win11-november --json`,
		Args: oneRollout, ValidArgsFunction: rolloutNames,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			s, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			if watch {
				return s.named(s.watch(args[0]))
			}
			reader := rollout.Viewer{Store: s.store, Name: args[0]}
			v, err := reader.Read(s.ctx)
			if err != nil {
				return s.named(err)
			}
			now := time.Now()
			status := v.Status(now)
			status.Held = s.held(s.ctx, v)
			if f.json {
				return printJSON(cmd.OutOrStdout(), status)
			}
			s.printStatus(cmd.OutOrStdout(), v, status, now)
			if len(v.LeftOut) == 0 {
				return nil
			}
			plan, err := rollout.ReadPlan(s.ctx, s.store, v.Head)
			if err != nil {
				return err
			}
			printLines(cmd.OutOrStdout(), plan.Summary(v.Head).LeftOutLines())
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	f.place.define(flags)
	flags.BoolVar(&watch, "watch", false, "show it until the rollout is over")
	flags.BoolVar(&f.json, "json", false, "print JSON, with --watch one object a line for each change")
	return cmd
}

// printStatus prints how a rollout stands, and the commands that make sense now.
func (s *rolloutSession) printStatus(w io.Writer, v *rollout.View, status rollout.Status, now time.Time) {
	width := 60
	if columns := widthOf(w); columns > 0 {
		width = min(max(columns-12, 10), 100)
	}
	printLines(w, v.Lines(status, now, rollout.Layout{Width: width, CellRows: 1, Failures: 10}))
	s.printNext(w, status)
}

// printNext prints the command lines that make sense now.
func (s *rolloutSession) printNext(w io.Writer, status rollout.Status) {
	for i, next := range status.Next {
		head := ""
		if i == 0 {
			head = "next"
		}
		printLine(w, "%-10s%s  # %s", head, s.line(next.Words...), strings.TrimSpace(next.Does))
	}
}
