package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/chain/reasons"
)

// followFlags are the flags of commands that follow a chain.
type followFlags struct {
	timeout  timeLimit
	failedTo string
	json     bool

	mustBeKnown bool // give up on a chain without an event
	hide        bool // print no events
}

func (f *followFlags) define(flags *pflag.FlagSet) {
	f.timeout.define(flags, "stop waiting after this long")
	flags.StringVar(&f.failedTo, "failed-to", "", "write the ids of the desktops that failed to `FILE`")
	flags.BoolVar(&f.json, "json", false, "print one event a line as JSON")
}

func (f *followFlags) people(cmd *cobra.Command) io.Writer { return people(cmd, f.json) }

// begin empties the file for failed desktops, which also proves that it can be written.
func (f *followFlags) begin() error {
	if f.failedTo == "" {
		return nil
	}
	if err := writeIDFile(f.failedTo, "the result is not known", nil); err != nil {
		return fmt.Errorf("--failed-to: %w", err)
	}
	return nil
}

// reader passes events to each until each returns false or an error.
type reader func(ctx context.Context, each func(events.Envelope) (more bool, err error)) error

// target is the chain that is followed.
type target struct {
	chain    *chain.Chain
	function string         // of the first command; "" if not known
	number   uint64         // of the first command in the stream of commands; 0 if not known
	resume   resumeFunc     // the command line that continues to follow the chain
	why      reasons.Finder // nil if no reasons can be found

	stored func(context.Context) ([]chain.Command, error) // the commands that wait; nil if the first command is known
}

// unanswered returns commands of a chain without open work that have no event yet. Who may not read them does not see them.
func (t target) unanswered(ctx context.Context) ([]events.Pending, error) {
	if t.stored == nil || t.chain.SentAlone() {
		return nil, nil
	}
	stored, err := t.stored(ctx)
	open := t.chain.Unanswered(stored)
	if err == nil && len(open) > 0 {
		err = errors.New("a command of it has no event yet")
	}
	return open, err
}

// follow prints the events of a chain until it has ended. The error has an exit code for the result of the chain.
func (f *followFlags) follow(cmd *cobra.Command, read reader, t target) error {
	c := t.chain
	ctx, cancel := f.timeout.within(cmd.Context())
	defer cancel()
	w := &waiting{target: t, f: f, cmd: cmd, begun: time.Now(), last: time.Now()}
	err := f.read(ctx, read, w)
	open := c.Open()
	if err == nil && len(open) == 0 {
		open, err = t.unanswered(ctx)
	}
	if err != nil || len(open) > 0 {
		return w.unknown(open, err)
	}
	r := c.Result()
	if f.failedTo != "" {
		heading := fmt.Sprintf("%s of the chain %s failed", chain.Count(len(r.Failed), "desktop"), c.Correlation)
		if err := writeIDFile(f.failedTo, heading, r.Failed); err != nil {
			return fmt.Errorf("write the failed desktops: %w", err)
		}
	}
	all := allFailures
	if f.failedTo != "" {
		all = "all of them are in " + f.failedTo
	}
	printResult(f.people(cmd), r, all)
	if !r.OK() {
		return &exitError{exitFailed, nil}
	}
	return nil
}

func (f *followFlags) read(ctx context.Context, read reader, w *waiting) error {
	ctx, end := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer end(nil)
	watching.Go(func() { w.watch(ctx, end) })
	hidden := chain.Alike{}
	more := true
	err := read(ctx, func(e events.Envelope) (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.chain.Join(e) {
			w.last = time.Now()
			if !f.json && hidden.Hides(e) {
				continue
			}
			if err := f.show(w.cmd, e); err != nil {
				return false, err
			}
		}
		more = len(w.chain.Open()) > 0
		return more, nil
	})
	for _, line := range hidden.Lines() {
		printLine(w.cmd.OutOrStdout(), "%*s  %s", len("15:04:05"), "", escape(line))
	}
	if cause := context.Cause(ctx); errors.Is(cause, errNoEvent) {
		return cause
	}
	return err
}

func (f *followFlags) show(cmd *cobra.Command, e events.Envelope) error {
	if f.hide {
		return nil
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), e)
	}
	printEvent(cmd.OutOrStdout(), e, e.Time.Local().Format("15:04:05"))
	return nil
}

// printEvent prints an event for people, beginning with when.
func printEvent(w io.Writer, e events.Envelope, when string) {
	for i, line := range chain.Shortened(e, "; --json shows all") {
		if i == 0 {
			printLine(w, "%s  %-14s  %s", when, escape(chain.FunctionOf(e.Source)), escape(line))
		} else {
			printLine(w, "%*s  %-14s    %s", len(when), "", "", escape(line))
		}
	}
}

// printResult prints the result of a chain. all names where to find the failures that it leaves out.
func printResult(w io.Writer, r chain.Result, all string) {
	if r.Image != nil {
		printLine(w, "image     %s %s (%s)", escape(r.Image.ImageName), escape(r.Image.ImageID), escape(r.Image.ImageType))
	}
	switch {
	case r.Counts != nil:
		printLine(w, "desktops  %s", chain.CountsText(r.Counts))
	case r.ReadOnly && len(r.Failed) > 0:
		printLine(w, "desktops  %d failed", len(r.Failed))
	case len(r.Rebuilt)+len(r.Verified)+len(r.Skipped)+len(r.Failed) > 0:
		printLine(w, "desktops  %d rebuilt, %d verified, %d failed, %d skipped", len(r.Rebuilt), len(r.Verified),
			len(r.Failed), len(r.Skipped))
	}
	printFailures(w, r, all, 0)
	if r.OK() {
		printLine(w, "succeeded")
	} else {
		printLine(w, "failed")
	}
}

// allFailures names the places with all failures, for summaries that leave some out.
const allFailures = "--failed-to FILE writes all of them, with reasons; --json prints every event"

// printFailures prints the failures below a summary, in lines of at most width columns; 0 is any width.
func printFailures(w io.Writer, r chain.Result, all string, width int) {
	for _, line := range r.FailureLines(all) {
		head := "  FAILED  "
		if rest, more := strings.CutPrefix(line, "  "); more {
			head, line = "          ", rest
		}
		printLine(w, "%s", wrapped(head, escape(line), len(head), width))
	}
}
