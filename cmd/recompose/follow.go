package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
)

// followFlags are the flags of whatever follows a chain.
type followFlags struct {
	timeout  time.Duration
	failedTo string
	json     bool

	mustBeKnown bool // a chain without an event is not waited for
}

func (f *followFlags) define(flags *pflag.FlagSet) {
	flags.DurationVar(&f.timeout, "timeout", 0, "give up waiting after this long (default: never)")
	flags.StringVar(&f.failedTo, "failed-to", "", "write the ids of the desktops that failed to `FILE`")
	flags.BoolVar(&f.json, "json", false, "print one event a line as JSON")
}

// people is where lines for people go: beside the JSON, not into it.
func (f *followFlags) people(cmd *cobra.Command) io.Writer {
	if f.json {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

// begin makes sure that the file for failed desktops can be written and holds nothing old.
func (f *followFlags) begin() error {
	if f.failedTo == "" {
		return nil
	}
	return writeIDFile(f.failedTo, "how it ended is not known", nil)
}

// reader gives each event to each, until that wants no more.
type reader func(ctx context.Context, each func(events.Envelope) (more bool, err error)) error

// follow reads events until the chain has ended, prints them, and returns how it ended as an error with an exit code.
// resume gives the command line that goes on following it.
func (f *followFlags) follow(cmd *cobra.Command, read reader, c *chain, resume resumeFunc, why whyFunc) error {
	ctx := cmd.Context()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	w := &waiting{f: f, cmd: cmd, c: c, why: why, begun: time.Now(), last: time.Now()}
	err := f.read(ctx, read, w)
	open := c.open()
	if err != nil || len(open) > 0 {
		return w.unknown(open, err, resume)
	}
	r := c.result()
	if f.failedTo != "" {
		heading := fmt.Sprintf("%s of the chain %s did not end as asked", count(len(r.Failed), "desktop"), c.correlation)
		if err := writeIDFile(f.failedTo, heading, r.Failed); err != nil {
			return fmt.Errorf("write the failed desktops: %w", err)
		}
	}
	all := allFailures
	if f.failedTo != "" {
		all = "all of them are in " + f.failedTo
	}
	sumUp(f.people(cmd), r, all)
	if !r.ok() {
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
	shown := map[string]bool{}
	hidden := alike{}
	more := true
	err := read(ctx, func(e events.Envelope) (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.c.add(e) {
			return more, nil
		}
		for _, e := range w.c.own() { // it may join the chain together with what came before it
			if shown[e.Identity()] {
				continue
			}
			shown[e.Identity()] = true
			w.noteEvent()
			if !f.json && hidden.hides(e) {
				continue
			}
			if err := f.show(w.cmd, e); err != nil {
				return false, err
			}
		}
		more = len(w.c.open()) > 0
		return more, nil
	})
	hidden.print(w.cmd.OutOrStdout())
	if cause := context.Cause(ctx); errors.Is(cause, errNoEvent) {
		return cause
	}
	return err
}

func (f *followFlags) show(cmd *cobra.Command, e events.Envelope) error {
	if f.json {
		return printJSON(cmd.OutOrStdout(), e)
	}
	tell(cmd.OutOrStdout(), e, e.Time.Local().Format("15:04:05"))
	return nil
}

func openText(open []events.Pending) string {
	const most = 3
	text := ""
	for i, p := range open {
		switch {
		case i == most:
			return text + fmt.Sprintf(" and %d more", len(open)-most)
		case i > 0:
			text += ", "
		}
		text += foreign(p.String())
	}
	return or(text, "nothing")
}

// tell prints an event for people.
func tell(w io.Writer, e events.Envelope, when string) {
	for i, line := range shortened(e, "; --json shows all") {
		if i == 0 {
			say(w, "%s  %-14s  %s", when, foreign(functionOf(e.Source)), foreign(line))
		} else {
			say(w, "%*s  %-14s    %s", len(when), "", "", foreign(line))
		}
	}
}

// sumUp prints what came of a chain. all is where all failures are that it does not print.
func sumUp(w io.Writer, r result, all string) {
	if r.Image != nil {
		say(w, "image     %s %s (%s)", foreign(r.Image.ImageName), foreign(r.Image.ImageID), foreign(r.Image.ImageType))
	}
	if len(r.Rebuilt)+len(r.Verified)+len(r.Skipped)+len(r.Failed) > 0 {
		say(w, "desktops  %d rebuilt, %d verified, %d failed, %d skipped", len(r.Rebuilt), len(r.Verified), len(r.Failed), len(r.Skipped))
	}
	printFailures(w, r, all, 0)
	if r.ok() {
		say(w, "succeeded")
	} else {
		say(w, "failed")
	}
}
