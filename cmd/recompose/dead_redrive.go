package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/chain"
	"recompose/shared/deadletters"
	"recompose/shared/deployment"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// deadChange has the flags of redrive and drop.
type deadChange struct {
	deadSelection
	yes    bool
	dryRun bool
	asNew  bool
}

func deadRedriveCommand() *cobra.Command {
	var c deadChange
	cmd := &cobra.Command{
		Use:   "redrive (ID | --class CLASS | --function FUNCTION | --all)",
		Short: "Return dead letters to their functions",
		Long: `Return dead letters to their functions, after the cause of the failure is fixed. Each keeps its id, so its ledger record
still counts: a write that was accepted is not repeated, and the end event of one that has ended is republished. Each
keeps its age too: a write that is too old ends as expired.

--as-new makes a new command of one dead letter, with a new id and the current time, for a command that has ended or
expired and is still wanted. Check the desktops first: the ledger does not prevent a second execution.

Exit codes: 0 done; 1 some cannot be redriven; 2 nothing was done; 3 it is not known whether the last one was redriven,
and repeating the command is safe.`,
		Example: `  recompose dead redrive --function checkimages --dry-run
  recompose dead redrive 3hfy2kq7mzva
  recompose dead redrive 3hfy2kq7mzva --as-new`,
		Args: mostOneID,
		RunE: action(func(cmd *cobra.Command, args []string) error { return c.run(cmd, args, redriveOne) }),
	}
	c.define(cmd)
	cmd.Flags().BoolVar(&c.asNew, "as-new", false, "make a new command of the one with this ID")
	return cmd
}

func deadDropCommand() *cobra.Command {
	var c deadChange
	cmd := &cobra.Command{
		Use:   "drop (ID | --class CLASS | --function FUNCTION | --all)",
		Short: "Remove dead letters for good",
		Long:  `Remove dead letters for good. Their command.failed events and ledger records stay.`,
		Example: `  recompose dead drop 3hfy2kq7mzva
  recompose dead drop --class unreadable --dry-run
  recompose dead drop --class unreadable`,
		Args: mostOneID,
		RunE: action(func(cmd *cobra.Command, args []string) error { return c.run(cmd, args, dropOne) }),
	}
	c.define(cmd)
	return cmd
}

// mostOneID rejects more than one id.
func mostOneID(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%s takes one id, and %q is a second one; --class, --function and --all choose several dead letters",
			cmd.Name(), args[1])
	}
	return nil
}

func (c *deadChange) define(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.all, "all", false, "all dead letters")
	c.deadSelection.define(cmd)
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "print what would happen and do nothing")
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask for confirmation, also if the service is real")
}

// changed is what --json prints of each dead letter.
type changed struct {
	ID        string   `json:"id"`
	Number    uint64   `json:"number,omitempty"`
	MessageID string   `json:"message_id,omitempty"`
	Function  string   `json:"function"`
	CommandID string   `json:"command_id,omitempty"`
	Did       string   `json:"did"` // redriven, dropped, as_new, gone, not_possible; would_redrive or would_drop with --dry-run
	NewID     string   `json:"new_id,omitempty"`
	Notes     []string `json:"notes,omitempty"`
}

// Outcomes for a dead letter.
const (
	didRedrive   = "redriven"
	didDrop      = "dropped"
	didAsNew     = "as_new"
	didGone      = "gone" // another process changed it in the meantime
	didNothing   = "not_possible"
	wouldRedrive = "would_redrive"
	wouldDrop    = "would_drop"
)

func (c *deadChange) run(
	cmd *cobra.Command, args []string, do func(*cobra.Command, *connection, *deadletters.Plan) (string, error),
) error {
	filter, err := c.chosen(args)
	if err != nil {
		return err
	}
	conn, settings, err := c.connect(cmd)
	if err != nil {
		return err
	}
	defer conn.close()
	plans, err := c.plans(cmd.Context(), newPlanner(conn, settings), args, filter)
	if err != nil {
		return err
	}
	if c.asNew {
		return c.makeNew(cmd, conn, plans)
	}
	redrives := cmd.Name() == "redrive"
	if c.dryRun {
		return c.reportPlans(cmd, conn, plans, redrives)
	}
	if err := c.confirm(cmd, conn, plans, redrives); err != nil {
		return err
	}
	faults, done := 0, 0
	for i := range plans {
		d := &plans[i]
		if !redrives {
			d.Notes = nil
		}
		did := didNothing
		if d.Fault == nil || !redrives {
			if did, err = do(cmd, conn, d); err != nil {
				return broken(cmd, i, err)
			}
		} else {
			faults++
		}
		if did == didRedrive || did == didDrop {
			done++
		}
		if err := c.report(cmd, d, did, ""); err != nil {
			return err
		}
	}
	verb := "dropped"
	if redrives {
		verb = "redriven"
	}
	printLine(c.people(cmd), "%s %s", chain.Count(done, "dead letter"), verb)
	c.reportHidden(cmd, conn)
	if faults > 0 {
		return &exitError{exitFailed, fmt.Errorf("%s cannot be redriven", chain.Count(faults, "dead letter"))}
	}
	return nil
}

// chosen returns the selection by flags; it is empty if an id selects.
func (c *deadChange) chosen(args []string) (queue.LetterFilter, error) {
	filter, err := c.filter()
	if err != nil {
		return filter, err
	}
	ways := len(args)
	for _, chosen := range []bool{c.all, c.class != "" || c.function != ""} {
		if chosen {
			ways++
		}
	}
	switch {
	case ways != 1 || len(args) == 1 && args[0] == "":
		return filter, wrongUse(errors.New("select dead letters: one by its ID, " +
			"or those of a --class or a --function, or --all"))
	case c.asNew && len(args) == 0:
		return filter, wrongUse(errors.New("--as-new is for one dead letter at a time: give its ID"))
	}
	return filter, nil
}

// plans returns a plan for each selected letter, oldest first.
func (c *deadChange) plans(ctx context.Context, p *deadletters.Planner, args []string, filter queue.LetterFilter) ([]deadletters.Plan, error) {
	if len(args) == 1 {
		plans, err := p.PlansOf(ctx, args[0])
		return plans, notUnique(err)
	}
	return p.Plans(ctx, filter)
}

// confirm requests a confirmation if a real service may change.
func (c *deadChange) confirm(cmd *cobra.Command, conn *connection, plans []deadletters.Plan, redrives bool) error {
	backend := conn.Service(cmd.Context())
	printLine(c.people(cmd), "%s", backend)
	writes := false
	for _, d := range plans {
		writes = writes || d.Writes
	}
	if !writes {
		return nil
	}
	if redrives {
		if frozen := frozenNow(cmd.Context(), conn); frozen != "" {
			printLine(c.people(cmd), "%s", frozen)
		}
	}
	if backend.Emulator() || c.yes {
		return nil
	}
	if redrives {
		return confirm(cmd, "This redrives "+deadletters.DescribeWrites(plans), "not redriven")
	}
	return confirm(cmd, fmt.Sprintf("This drops %s for good, commands that write among them",
		chain.Count(len(plans), "dead letter")), "not dropped")
}

// frozenNow returns a text if writes are frozen, else "".
func frozenNow(ctx context.Context, conn *connection) string {
	o, err := conn.operators(ctx)
	if err != nil {
		return ""
	}
	f, err := o.Frozen(ctx)
	if err != nil || f == nil {
		return ""
	}
	return "Writes are " + freezeText(f) + ". They wait until recompose thaw."
}

// report prints the outcome for a letter.
func (c *deadChange) report(cmd *cobra.Command, d *deadletters.Plan, did, newID string) error {
	if c.json {
		return printJSON(cmd.OutOrStdout(), changed{d.Letter.ID, d.Letter.Number, d.Letter.MessageID, d.Letter.Function,
			d.Letter.Command.ID, did, newID, d.Notes})
	}
	printPlan(cmd.OutOrStdout(), *d, did)
	return nil
}

func printPlan(w io.Writer, d deadletters.Plan, did string) {
	words := map[string]string{didAsNew: "sent as new", didGone: "gone meanwhile", didNothing: "not possible",
		wouldRedrive: "would be redriven", wouldDrop: "would be dropped"}
	printLine(w, "%s  %-14s  %s: %s", shortID(d.Letter.ID), escape(d.Letter.Function), escape(d.What()), cmp.Or(words[did], did))
	for _, note := range d.Notes {
		printLine(w, "    %s", escape(note))
	}
}

// reportPlans prints plans without carrying them out.
func (c *deadChange) reportPlans(cmd *cobra.Command, conn *connection, plans []deadletters.Plan, redrives bool) error {
	for i := range plans {
		d := &plans[i]
		what := wouldRedrive
		switch {
		case !redrives:
			what, d.Notes = wouldDrop, nil
		case d.Fault != nil:
			what = didNothing
		}
		if redrives && d.Acts != "" {
			d.Notes = append(d.Notes, d.Acts)
		}
		if err := c.report(cmd, d, what, ""); err != nil {
			return err
		}
	}
	printLine(c.people(cmd), "%s, nothing was done", chain.Count(len(plans), "dead letter"))
	c.reportHidden(cmd, conn)
	return nil
}

func redriveOne(cmd *cobra.Command, conn *connection, d *deadletters.Plan) (string, error) {
	err := conn.Letters().Redrive(cmd.Context(), d.Letter)
	if errors.Is(err, queue.ErrNoLetter) {
		return didGone, nil
	}
	return didRedrive, err
}

func dropOne(cmd *cobra.Command, conn *connection, d *deadletters.Plan) (string, error) {
	return didDrop, conn.Letters().Drop(cmd.Context(), d.Letter)
}

// broken reports how many letters were handled before an error.
func broken(cmd *cobra.Command, before int, err error) error {
	if errors.Is(err, natsqueue.ErrNotSetUp) && before == 0 {
		return err
	}
	if cmd.Context().Err() != nil {
		err = errors.New("interrupted")
	}
	return &exitError{exitUnknown,
		fmt.Errorf("%w\nWhether this dead letter was handled is not known; %d before it were. "+
			"It is safe to repeat the command", err, before)}
}

// makeNew makes a new command of a dead letter. Its id is derived from the letter, so that repeating it sends one
// command.
func (c *deadChange) makeNew(cmd *cobra.Command, conn *connection, plans []deadletters.Plan) error {
	d := &plans[0] // several letters of one id are one command
	_, takesCommands := sendableOf(d.Letter.Function)
	switch {
	case !takesCommands:
		return wrongUse(fmt.Errorf("%s takes no commands: redrive it without --as-new", escape(d.Letter.Function)))
	case d.Fault != nil:
		return d.Fault
	case d.Command.ID == "":
		return errors.New("its command cannot be read, so no new command can be made of it; recompose dead show prints " +
			"its body")
	}
	e := d.AsNew(sendSource, time.Now())
	if c.dryRun {
		return printJSON(cmd.OutOrStdout(), e)
	}
	backend := conn.Service(cmd.Context())
	printLine(c.people(cmd), "%s", backend)
	if d.May != "" {
		printLine(c.people(cmd), "Of the old command: %s. Check the desktops before you continue", escape(d.May))
	}
	if d.Writes && !backend.Emulator() && !c.yes {
		what := chain.Consequences(d.Letter.Function, d.Command.Data)
		if d.May != "" {
			what += ". Of the old command: " + escape(d.May)
		}
		if err := confirm(cmd, what, "not sent"); err != nil {
			return err
		}
	}
	_, err := conn.Send(cmd.Context(), e)
	switch {
	case errors.Is(err, deployment.ErrNotSent):
		return nothingDone(err)
	case err != nil:
		return &exitError{exitUnknown,
			fmt.Errorf("send command %s: %w\nWhether it was stored is not known. It is safe to repeat the command", e.ID, err)}
	}
	for i := range plans {
		if err := conn.Letters().Drop(cmd.Context(), plans[i].Letter); err != nil {
			return &exitError{exitUnknown, fmt.Errorf("command %s was sent: %w\nIt is safe to repeat the command", e.ID, err)}
		}
	}
	d.Notes = []string{"command " + e.ID}
	if err := c.report(cmd, d, didAsNew, e.ID); err != nil {
		return err
	}
	if conn.queue != nil { // events are not stored on AWS
		printLine(c.people(cmd), "To follow it: %s", conn.resume(e, false)(true))
	}
	return nil
}
