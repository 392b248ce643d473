package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout"
)

// verb is a command of the program that sends one verb to a rollout.
type verb struct {
	use, short, long, example string

	typ   string
	waits bool // --wait is possible
	// fill fills the data from the flags.
	fill func(c *events.RolloutCommand) error
	// what is done, for the question on a real service; nil: no question; "" if nothing would be done.
	what func(h *rollout.Head, c events.RolloutCommand) string
	// flags defines the flags of the verb.
	flags func(cmd *cobra.Command)
}

func (v verb) command() *cobra.Command {
	var f rolloutFlags
	cmd := &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example, Args: oneRollout, ValidArgsFunction: rolloutNames,
		RunE: action(func(cmd *cobra.Command, args []string) error { return v.run(cmd, &f, args[0]) }),
	}
	if v.flags != nil {
		v.flags(cmd)
	}
	f.define(cmd, v.what != nil, v.waits)
	return cmd
}

func (v verb) run(cmd *cobra.Command, f *rolloutFlags, name string) error {
	data := events.RolloutCommand{Name: name, By: whoAmI()}
	if v.fill != nil {
		if err := v.fill(&data); err != nil {
			return wrongUse(byFlags(cmd, err))
		}
	}
	e, err := rolloutMessage(cmd, v.typ, f.id, data)
	if err != nil {
		return err
	}
	s, err := f.openForWork(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if v.what != nil && !s.service.Emulator() && !f.yes {
		h, err := s.head(name)
		if err != nil {
			return err
		}
		what := v.what(h, data)
		if what == "" {
			return fmt.Errorf("rollout %s has no desktop that a %s would rebuild; %s shows how they stand", name, cmd.Name(),
				s.line("rollout", "status", name))
		}
		if err := s.confirmReal(what); err != nil {
			return err
		}
	}
	return s.do(e, name)
}

// do sends a verb, prints its answer and, with --wait, follows the rollout.
func (s *rolloutSession) do(e events.Envelope, name string) error {
	a, err := s.send(e)
	if err != nil {
		return err
	}
	err = s.report(a)
	switch n := len(a.Desktops); {
	case err != nil:
		return err
	case e.Type == events.TypeRolloutExclude && n > 0:
		return &exitError{exitFailed, fmt.Errorf("not every desktop was taken out: their batches were sent before; %s shows "+
			"how they stand", s.line("rollout", "status", name))}
	case !s.f.wait:
		return nil
	}
	return s.await(name, a.Revision)
}

func rolloutPauseCommand() *cobra.Command {
	var reason string
	return verb{
		use: "pause NAME", short: "Begin no further batch until resume",
		long: `Begin no further batch. Batches that were sent are followed to their end: a rebuild that has
begun cannot be recalled.`,
		example: `  recompose rollout pause win11-november --reason "users report a missing printer"
  recompose rollout pause win11-november --aws recompose --json`,
		typ:   events.TypeRolloutPause,
		flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&reason, "reason", "", "why, in words") },
		fill:  func(c *events.RolloutCommand) error { c.Reason = reason; return nil },
	}.command()
}

func rolloutResumeCommand() *cobra.Command {
	var reason string
	var accept int64
	var cmd *cobra.Command
	cmd = verb{
		use: "resume NAME", short: "Go on after a pause or a halt",
		long: `Go on after a pause or a halt. After a halt, --accept-failed must be the present number of
failed desktops: so a person has seen them, and the limits count later ones.`,
		example: `  recompose rollout resume win11-november
  recompose rollout resume win11-november --accept-failed 3 --wait`,
		typ: events.TypeRolloutResume, waits: true,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().Int64Var(&accept, "accept-failed", 0, "after a halt: the number of failed desktops that you accept")
			cmd.Flags().StringVar(&reason, "reason", "", "why, in words")
		},
		fill: func(c *events.RolloutCommand) error {
			c.Reason = reason
			if cmd.Flags().Changed("accept-failed") {
				c.AcceptFailed = &accept
			}
			return nil
		},
		what: func(h *rollout.Head, _ events.RolloutCommand) string {
			return fmt.Sprintf("This goes on with rollout %s: %s are still to be rebuilt and lose the data on "+
				"their system disks", h.Name,
				chain.Count(h.Counts()[rollout.Pending]+h.Counts()[rollout.Deferred], "desktop"))
		},
	}.command()
	return cmd
}

func rolloutPromoteCommand() *cobra.Command {
	return verb{
		use: "promote NAME", short: "End the soak of the wave",
		long:    `End the soak of the wave that has ended, so that the next one begins. Nothing else is skipped.`,
		example: `  recompose rollout promote win11-november`,
		typ:     events.TypeRolloutPromote, waits: true,
		what: func(h *rollout.Head, _ events.RolloutCommand) string {
			return fmt.Sprintf("This ends the soak of rollout %s, and its next wave begins", h.Name)
		},
	}.command()
}

func rolloutExcludeCommand() *cobra.Command {
	var ids targetFlags
	var reason string
	return verb{
		use: "exclude NAME", short: "Take desktops out of a rollout",
		long: `Take desktops out of a rollout. A desktop of a batch that was sent cannot be taken out: the others
are, and the answer names it with its state, exit code 1. If its rebuild has ended, no retry and no rollback takes
it up any more.`,
		example: `  recompose rollout exclude win11-november --desktop-ids 1a2b,3c4d --reason "on a business trip"`,
		typ:     events.TypeRolloutExclude,
		flags: func(cmd *cobra.Command) {
			ids.define(cmd, "desktops to take out")
			cmd.Flags().StringVar(&reason, "reason", "", "why, in words; must be given")
		},
		fill: func(c *events.RolloutCommand) (err error) {
			if strings.TrimSpace(reason) == "" {
				return errors.New("--reason: give the reason for those who look for these desktops later")
			}
			c.Reason = reason
			if c.DesktopIDs, err = ids.read(); err == nil && len(c.DesktopIDs) == 0 {
				err = errors.New("--desktop-ids or --desktop-ids-file: name at least one desktop")
			}
			return err
		},
	}.command()
}

func rolloutSetCommand() *cobra.Command {
	var unavailable int64
	var failed, timezone, from, to string
	var days []string
	var cmd *cobra.Command
	cmd = verb{
		use: "set NAME", short: "Change limits and window of a rollout",
		long: `Change the limits and the window of a rollout. A change that makes it less careful must be
approved where the spec requires approval. A window is given whole.`,
		example: `  recompose rollout set win11-november --max-unavailable 50 --max-failed 1%
  recompose rollout set win11-november --window-from 20:00 --window-to 06:00 --window-timezone Europe/Berlin`,
		typ: events.TypeRolloutSet,
		flags: func(cmd *cobra.Command) {
			flags := cmd.Flags()
			flags.Int64Var(&unavailable, "max-unavailable", 0, "most desktops that are unavailable at once")
			flags.StringVar(&failed, "max-failed", "", "most failed desktops: a number, or a share such as 2%")
			flags.StringVar(&from, "window-from", "", "when the window opens, `HH:MM`")
			flags.StringVar(&to, "window-to", "", "when the window closes, `HH:MM`")
			flags.StringVar(&timezone, "window-timezone", "", "time zone of the window, such as Europe/Berlin")
			addList(flags, &days, "window-days", "days on which the window opens, such as sat,sun (default: every day)")
		},
		fill: func(c *events.RolloutCommand) error {
			if cmd.Flags().Changed("max-unavailable") && unavailable < 1 {
				return fmt.Errorf("--max-unavailable: must be 1 or more; got %d", unavailable)
			}
			c.MaxUnavailable = unavailable
			if failed != "" {
				amount, err := rollout.ParseAmount(failed)
				if err != nil {
					return fmt.Errorf("--max-failed: %w; got %q", err, failed)
				}
				if c.MaxFailed, err = json.Marshal(amount); err != nil {
					return fmt.Errorf("--max-failed: %w", err)
				}
			}
			if from+to+timezone == "" && len(days) == 0 {
				if !cmd.Flags().Changed("max-unavailable") && failed == "" {
					return errors.New("give --max-unavailable, --max-failed or a window")
				}
				return nil
			}
			w := rollout.Window{Days: days, From: from, To: to, Timezone: timezone}
			if err := w.Check(); err != nil {
				return err
			}
			raw, err := json.Marshal(w)
			c.Window = raw
			return err
		},
	}.command()
	return cmd
}

func rolloutRetryCommand() *cobra.Command {
	return verb{
		use: "retry NAME", short: "Rebuild the desktops that failed once more",
		long: `Rebuild desktops once more that failed, are missing or could not be verified, as a wave of their
own. It begins when every batch has ended. A desktop of which the outcome is not known is retried only if it is
named and its call can no longer take effect.`,
		example: `  recompose rollout retry win11-november --wait
  recompose rollout retry win11-november --desktop-ids 1a2b`,
		typ: events.TypeRolloutRetry,
	}.rebuilding("once more")
}

func rolloutRollbackCommand() *cobra.Command {
	return verb{
		use: "rollback NAME", short: "Bring each rebuilt desktop back to its earlier image",
		long: `Bring each desktop that was rebuilt back to the image that it ran before, in waves with a
canary. It begins when every batch has ended. It is a rebuild as well: what users have stored on the system disk
since is lost, and what the rollout deleted does not come back.`,
		example: `  recompose rollout rollback win11-november --wait
  recompose rollout rollback win11-november --desktop-ids 1a2b,3c4d`,
		typ: events.TypeRolloutRollback,
	}.rebuilding("from earlier images")
}

// rebuilding makes the command of a verb that rebuilds desktops, all or some.
func (v verb) rebuilding(how string) *cobra.Command {
	var ids targetFlags
	v.waits = true
	v.flags = func(cmd *cobra.Command) { ids.define(cmd, "only these desktops") }
	v.fill = func(c *events.RolloutCommand) (err error) { c.DesktopIDs, err = ids.read(); return err }
	v.what = func(h *rollout.Head, c events.RolloutCommand) string { return rebuildQuestion(h, v.typ, c, how) }
	return v.command()
}

// rebuildQuestion is what a retry or a rollback does; "" if it would rebuild no desktop.
func rebuildQuestion(h *rollout.Head, typ string, c events.RolloutCommand, how string) string {
	n, more := len(c.DesktopIDs), 0
	if n == 0 {
		n, more = h.Rebuilds(typ)
	}
	count := chain.Count(n+more, "desktop")
	switch {
	case n+more == 0:
		return ""
	case more > 0:
		count = "up to " + count
	}
	counts := h.Counts()
	if rest := counts[rollout.Pending] + counts[rollout.Deferred]; rest > 0 && typ == events.TypeRolloutRetry {
		how += fmt.Sprintf(", and goes on with the %d that wait", rest) // also if it is paused or has halted
	}
	return fmt.Sprintf("This rebuilds %s of rollout %s %s: the data on their system disks is lost", count, h.Name, how)
}

func rolloutAbortCommand() *cobra.Command {
	var reason string
	return verb{
		use: "abort NAME", short: "End a rollout",
		long: `End a rollout: no further batch begins. Batches that were sent are followed to their end.
Desktops that were rebuilt stay as they are; rollback brings them back.`,
		example: `  recompose rollout abort win11-november --reason "wrong image"`,
		typ:     events.TypeRolloutAbort, waits: true,
		flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&reason, "reason", "", "why, in words") },
		fill:  func(c *events.RolloutCommand) error { c.Reason = reason; return nil },
	}.command()
}

func rolloutApproveCommand() *cobra.Command {
	var f rolloutFlags
	var digest string
	cmd := &cobra.Command{
		Use:   "approve NAME",
		Short: "Approve the plan of a rollout, or a change of it",
		Long: `Approve the plan that waits, or the retry, rollback or change that waits. Without --plan-sha256
it shows what waits and asks. An approval counts only for the plan with that digest.`,
		Example: `  recompose rollout approve win11-november
  recompose rollout approve win11-november --plan-sha256 "$DIGEST"`,
		Args: oneRollout, ValidArgsFunction: rolloutNames,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			approval := func(digest string) (events.Envelope, error) {
				return rolloutMessage(cmd, events.TypeRolloutApprove, f.id,
					events.RolloutCommand{Name: args[0], By: whoAmI(), PlanSHA256: strings.ToLower(digest)})
			}
			var e events.Envelope
			var err error
			if digest != "" {
				if e, err = approval(digest); err != nil {
					return err
				}
			}
			s, err := f.openForWork(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			if digest == "" {
				if digest, err = s.askForApproval(args[0]); err != nil {
					return err
				}
				if e, err = approval(digest); err != nil {
					return err
				}
			}
			return s.do(e, args[0])
		}),
	}
	cmd.Flags().StringVar(&digest, "plan-sha256", "", "digest of the plan, as plan and status print it")
	f.define(cmd, true, true)
	return cmd
}

// askForApproval shows what waits for approval, asks, and returns its digest.
func (s *rolloutSession) askForApproval(name string) (string, error) {
	h, err := s.head(name)
	if err != nil {
		return "", err
	}
	now := time.Now()
	if h.Offer != nil {
		return s.askForOffer(name)
	}
	if h.Phase != rollout.Planned || h.PlanOnly || !h.Spec.Approval.Required {
		return "", fmt.Errorf("nothing waits for approval: rollout %s is %s", name, strings.ReplaceAll(h.Phase, "_", " "))
	}
	plan, err := rollout.ReadPlan(s.ctx, s.store, h)
	if err != nil {
		return "", notSent(err)
	}
	summary := plan.Summary(h)
	printLines(s.people(), summary.Lines(now))
	if !s.f.yes {
		err = confirm(s.cmd, fmt.Sprintf("This approves the plan: %s are rebuilt, the data on their system disks is lost",
			chain.Count(summary.Planned, "desktop")), "not approved")
	}
	return h.Digest, err
}

// askForOffer shows the retry, the rollback or the change that waits for approval, asks, and returns its digest.
func (s *rolloutSession) askForOffer(name string) (string, error) {
	reader := rollout.Viewer{Store: s.store, Name: name}
	v, err := reader.Read(s.ctx)
	if err != nil {
		return "", s.unread(err)
	}
	if v.Offer == nil {
		return "", fmt.Errorf("nothing waits for approval any more; %s shows how rollout %s stands",
			s.line("rollout", "status", name), name)
	}
	offer, err := rollout.ReadOffer(s.ctx, s.store, v)
	if err != nil {
		return "", notSent(err)
	}
	now := time.Now()
	printLines(s.people(), v.Lines(v.Status(now), now, rollout.Layout{CellRows: 1}))
	printLines(s.people(), offer.Lines())
	if !s.f.yes {
		err = confirm(s.cmd, offer.Question(), "not approved")
	}
	return v.Offer.Digest, err
}

// targetFlags name desktops.
type targetFlags struct {
	ids  []string
	file string
	cmd  *cobra.Command
}

func (t *targetFlags) define(cmd *cobra.Command, usage string) {
	t.cmd = cmd
	addList(cmd.Flags(), &t.ids, "desktop-ids", usage+", by comma or repeated")
	cmd.Flags().StringVar(&t.file, "desktop-ids-file", "", "`FILE` with such ids, one a line; - is standard input")
}

func (t *targetFlags) read() ([]string, error) {
	if t.file == "" {
		return t.ids, nil
	}
	ids, err := readIDFile(t.cmd, t.file)
	if err != nil {
		return nil, fmt.Errorf("--desktop-ids-file: %w", err)
	}
	return append(t.ids, ids...), nil
}
