package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// deadChange is what redrive and drop have in common.
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
		Short: "Give dead letters to their functions once more",
		Long: `Give dead letters to their functions once more, once what made them fail is cured. Each keeps its id, so the ledger
still holds: a write that was accepted is not made again, and one that has ended says the same end again. Each keeps its
age too: a write that is too old ends as expired.

--as-new makes a new command of one dead letter, with a new id and the time of now, for what has ended or expired and is
still wanted. Look at the desktops first: nothing else keeps it from being done a second time.

Exit codes: 0 done; 1 some cannot be redriven; 2 nothing was done; 3 it is not known whether the last one was, and saying
it again is safe.`,
		Example: `  recompose dead redrive --function checkimages --dry-run
  recompose dead redrive 3hfy2kq7mzva
  recompose dead redrive 3hfy2kq7mzva --as-new`,
		Args: cobra.MaximumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error { return c.run(cmd, args, redriveOne) }),
	}
	c.define(cmd)
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "tell what would come of it and do nothing")
	cmd.Flags().BoolVar(&c.asNew, "as-new", false, "make a new command of the one with this ID")
	return cmd
}

func deadDropCommand() *cobra.Command {
	var c deadChange
	cmd := &cobra.Command{
		Use:   "drop (ID | --class CLASS | --function FUNCTION | --all)",
		Short: "Remove dead letters for good",
		Long:  `Remove dead letters for good. What was said of them stays: their command.failed, and their record in the ledger.`,
		Example: `  recompose dead drop 3hfy2kq7mzva
  recompose dead drop --class unreadable`,
		Args: cobra.MaximumNArgs(1),
		RunE: action(func(cmd *cobra.Command, args []string) error { return c.run(cmd, args, dropOne) }),
	}
	c.define(cmd)
	return cmd
}

func (c *deadChange) define(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.all, "all", false, "all that there are")
	c.deadSelection.define(cmd)
	cmd.Flags().BoolVarP(&c.yes, "yes", "y", false, "do not ask, also where the service is a real one")
}

// changed is what --json prints of each dead letter.
type changed struct {
	ID        string   `json:"id"`
	Number    uint64   `json:"number,omitempty"`
	MessageID string   `json:"message_id,omitempty"`
	Function  string   `json:"function"`
	CommandID string   `json:"command_id,omitempty"`
	Did       string   `json:"did"` // redriven, dropped, as_new, gone, not_possible; would_redrive with --dry-run
	NewID     string   `json:"new_id,omitempty"`
	Notes     []string `json:"notes,omitempty"`
}

// What became of a dead letter.
const (
	didRedrive  = "redriven"
	didDrop     = "dropped"
	didAsNew    = "as_new"
	didGone     = "gone" // somebody else was quicker
	didNothing  = "not_possible"
	wouldDoThis = "would_redrive"
)

func (c *deadChange) run(cmd *cobra.Command, args []string, do func(*cobra.Command, *connection, *deadPlan) (string, error)) error {
	filter, err := c.chosen(args)
	if err != nil {
		return err
	}
	line, settings, err := c.connect(cmd)
	if err != nil {
		return err
	}
	defer line.close()
	planner := newPlanner(line, settings)
	plans, err := c.plans(cmd, planner, args, filter)
	if err != nil {
		return err
	}
	if c.asNew {
		return c.makeNew(cmd, line, plans)
	}
	if c.dryRun {
		return c.tell(cmd, plans, wouldDoThis)
	}
	redrives := cmd.Name() == "redrive"
	if err := c.ask(cmd, line, planner, plans, redrives); err != nil {
		return err
	}
	faults, done := 0, 0
	for i := range plans {
		d := &plans[i]
		if !redrives {
			d.notes = nil
		}
		did := didNothing
		if d.fault == nil || !redrives {
			if did, err = do(cmd, line, d); err != nil {
				return broken(cmd, i, err)
			}
		} else {
			faults++
		}
		if did == didRedrive || did == didDrop {
			done++
		}
		if err := c.told(cmd, d, did, ""); err != nil {
			return err
		}
	}
	verb := "dropped"
	if redrives {
		verb = "redriven"
	}
	say(c.people(cmd), "%s %s", count(done, "dead letter"), verb)
	c.tellHidden(cmd, line)
	if faults > 0 {
		return &exitError{exitFailed, fmt.Errorf("%s cannot be redriven", count(faults, "dead letter"))}
	}
	return nil
}

// chosen is the choice by flags, or nothing where an id makes it.
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
		return filter, wrongUse(errors.New("say which dead letters: one by its ID, or those of a --class or a --function, or --all"))
	case c.asNew && len(args) == 0:
		return filter, wrongUse(errors.New("--as-new is for one dead letter at a time: give its ID"))
	}
	return filter, nil
}

// plans are what will come of each letter that is meant, oldest first.
func (c *deadChange) plans(cmd *cobra.Command, p *planner, args []string, filter queue.LetterFilter) ([]deadPlan, error) {
	ctx, box := cmd.Context(), p.line.letters
	if len(args) == 1 {
		letters, err := lettersOf(cmd, p.line, args[0])
		if err != nil {
			return nil, err
		}
		plans := make([]deadPlan, len(letters))
		for i, l := range letters {
			plans[i] = p.plan(ctx, l)
		}
		return plans, nil
	}
	letters, err := box.DeadLetters(ctx, filter)
	if err != nil {
		return nil, err
	}
	plans := make([]deadPlan, 0, len(letters))
	for _, l := range letters { // one body at a time
		whole, err := box.DeadLetter(ctx, l)
		if errors.Is(err, queue.ErrNoLetter) {
			continue
		}
		if err != nil {
			return nil, err
		}
		plans = append(plans, p.plan(ctx, whole))
	}
	return plans, nil
}

// ask has a person say yes where something real can happen.
func (c *deadChange) ask(cmd *cobra.Command, line *connection, p *planner, plans []deadPlan, redrives bool) error {
	behind := line.behind(cmd.Context())
	say(c.people(cmd), "%s", behind)
	writes := false
	for _, d := range plans {
		writes = writes || d.writes
	}
	if !writes {
		return nil
	}
	if redrives {
		if frozen := p.frozen(cmd.Context()); frozen != "" {
			say(c.people(cmd), "%s", frozen)
		}
	}
	if behind.Emulator() || c.yes {
		return nil
	}
	if redrives {
		return confirm(cmd, "This redrives "+tellWrites(plans), "not redriven")
	}
	return confirm(cmd, fmt.Sprintf("This drops %s for good, commands that write among them", count(len(plans), "dead letter")), "not dropped")
}

// told tells what became of a letter.
func (c *deadChange) told(cmd *cobra.Command, d *deadPlan, did, newID string) error {
	if c.json {
		return printJSON(cmd.OutOrStdout(), changed{d.letter.ID, d.letter.Number, d.letter.MessageID, d.letter.Function, d.letter.Command.ID, did, newID, d.notes})
	}
	tellPlan(cmd.OutOrStdout(), *d, did)
	return nil
}

func tellPlan(w io.Writer, d deadPlan, did string) {
	words := map[string]string{didAsNew: "sent as new", didGone: "gone meanwhile", didNothing: "not possible", wouldDoThis: "would be redriven"}
	say(w, "%s: %s", d.line(), or(words[did], did))
	for _, note := range d.notes {
		say(w, "    %s", foreign(note))
	}
}

// tell tells plans of which none is carried out.
func (c *deadChange) tell(cmd *cobra.Command, plans []deadPlan, did string) error {
	for i := range plans {
		d := &plans[i]
		what := did
		if d.fault != nil {
			what = didNothing
		}
		if d.acts != "" {
			d.notes = append(d.notes, d.acts)
		}
		if err := c.told(cmd, d, what, ""); err != nil {
			return err
		}
	}
	say(c.people(cmd), "%s, nothing was done", count(len(plans), "dead letter"))
	return nil
}

func redriveOne(cmd *cobra.Command, line *connection, d *deadPlan) (string, error) {
	err := line.letters.Redrive(cmd.Context(), d.letter)
	if errors.Is(err, queue.ErrNoLetter) {
		return didGone, nil
	}
	return didRedrive, err
}

func dropOne(cmd *cobra.Command, line *connection, d *deadPlan) (string, error) {
	return didDrop, line.letters.Drop(cmd.Context(), d.letter)
}

// broken says how far it came.
func broken(cmd *cobra.Command, before int, err error) error {
	if errors.Is(err, natsqueue.ErrNotSetUp) && before == 0 {
		return err
	}
	if cmd.Context().Err() != nil {
		err = errors.New("interrupted")
	}
	return &exitError{exitUnknown, fmt.Errorf("%w\nThis dead letter may have been handled or not, and %d before it were. It is safe to say it again", err, before)}
}

// makeNew makes a new command of a dead letter. Its id follows from the letter, so that saying it twice sends one
// command.
func (c *deadChange) makeNew(cmd *cobra.Command, line *connection, plans []deadPlan) error {
	d := &plans[0] // several of one id are one command
	old := d.command
	switch {
	case !isSendable(d.letter.Function):
		return wrongUse(fmt.Errorf("%s takes no commands: redrive it without --as-new", foreign(d.letter.Function)))
	case d.fault != nil:
		return d.fault
	case old.ID == "":
		return errors.New("what it asks for is not known, so no new command can be made of it; recompose dead show shows its body")
	}
	id := events.Derive(d.letter.ID, "as-new", or(d.letter.MessageID, fmt.Sprint(d.letter.Number)))
	e := events.Envelope{
		ID: id, Source: sendSource, Type: old.Type, Subject: old.Subject, Time: time.Now().UTC(), Correlation: id, Causation: old.ID, Data: old.Data,
	}
	if c.dryRun {
		return printJSON(cmd.OutOrStdout(), e)
	}
	behind := line.behind(cmd.Context())
	say(c.people(cmd), "%s", behind)
	if d.may != "" {
		say(c.people(cmd), "Of the old command: %s. Look at the desktops before you go on", foreign(d.may))
	}
	if d.writes && !behind.Emulator() && !c.yes {
		what := consequences(d.letter.Function, old.Data)
		if d.may != "" {
			what += ". Of the old command: " + foreign(d.may)
		}
		if err := confirm(cmd, what, "not sent"); err != nil {
			return err
		}
	}
	_, err := line.send(cmd.Context(), e)
	switch {
	case errors.Is(err, errNotSent):
		return nothingDone(err)
	case err != nil:
		return &exitError{exitUnknown, fmt.Errorf("send command %s: %w\nWhether it was stored is not known. It is safe to say it again", id, err)}
	}
	for i := range plans {
		if err := line.letters.Drop(cmd.Context(), plans[i].letter); err != nil {
			return &exitError{exitUnknown, fmt.Errorf("command %s was sent: %w\nIt is safe to say it again", id, err)}
		}
	}
	d.notes = []string{"command " + id}
	if err := c.told(cmd, d, didAsNew, id); err != nil {
		return err
	}
	if line.queue != nil { // on AWS nothing keeps what is said
		say(c.people(cmd), "To follow it: %s", line.resume(e, false)(true))
	}
	return nil
}

func isSendable(function string) bool {
	for _, s := range sendables {
		if s.function == function {
			return true
		}
	}
	return false
}
