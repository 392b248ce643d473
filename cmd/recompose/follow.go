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

// stillOpen is how often a quiet chain says what it waits for.
const stillOpen = 30 * time.Second

// follow reads events until the chain has ended, tells them, and returns what came of it as an error with an exit code.
func (f *followFlags) follow(cmd *cobra.Command, read reader, c *chain, again string) error {
	ctx := cmd.Context()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	err := f.read(ctx, cmd, read, c)
	open := c.open()
	if err != nil || len(open) > 0 {
		return f.unknown(cmd, c, open, err, again)
	}
	r := c.result()
	if f.failedTo != "" {
		heading := fmt.Sprintf("%s of the chain %s did not end as asked", count(len(r.Failed), "desktop"), c.correlation)
		if err := writeIDFile(f.failedTo, heading, r.Failed); err != nil {
			return fmt.Errorf("write the failed desktops: %w", err)
		}
	}
	sumUp(f.people(cmd), r)
	if !r.ok() {
		return &exitError{exitFailed, nil}
	}
	return nil
}

func (f *followFlags) read(ctx context.Context, cmd *cobra.Command, read reader, c *chain) error {
	var mu sync.Mutex // the chain and the terminal are shared with the reminder
	begun := time.Now()
	last := begun
	shown := map[string]bool{}
	more := true
	ctx, cancel := context.WithCancel(ctx)
	var reminder sync.WaitGroup
	defer reminder.Wait()
	defer cancel()
	reminder.Go(func() {
		each := time.NewTicker(stillOpen / 3)
		defer each.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-each.C:
				mu.Lock()
				if now.Sub(last) >= stillOpen {
					last = now
					say(f.people(cmd), "          still open after %v: %s", now.Sub(begun).Round(time.Second), openText(c.open()))
				}
				mu.Unlock()
			}
		}
	})
	return read(ctx, func(e events.Envelope) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if !c.add(e) {
			return more, nil
		}
		for _, e := range c.own() { // it may join the chain together with what came before it
			if shown[e.Identity()] {
				continue
			}
			shown[e.Identity()] = true
			last = time.Now()
			if err := f.show(cmd, e); err != nil {
				return false, err
			}
		}
		more = len(c.open()) > 0
		return more, nil
	})
}

func (f *followFlags) show(cmd *cobra.Command, e events.Envelope) error {
	if f.json {
		return printJSON(cmd.OutOrStdout(), e)
	}
	tell(cmd.OutOrStdout(), e, e.Time.Local().Format("15:04:05"))
	return nil
}

// unknown says that the end is not known, and how to go on.
func (f *followFlags) unknown(cmd *cobra.Command, c *chain, open []events.Pending, err error, again string) error {
	why, more := "the connection was lost", ""
	switch {
	case cmd.Context().Err() != nil:
		why = "interrupted"
		more = fmt.Sprintf("\nThe chain goes on without this program. To let no further write begin: %s freeze --reason WHY", programName())
	case errors.Is(err, context.DeadlineExceeded) || err == nil:
		why = fmt.Sprintf("nothing ended within %v", f.timeout)
	case err != nil:
		why = err.Error()
	}
	return &exitError{exitUnknown, fmt.Errorf("how chain %s ended is not known: %s\nStill open: %s\nTo go on waiting: %s%s",
		c.correlation, why, openText(open), again, more)}
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
	for i, line := range describe(e) {
		if i == 0 {
			say(w, "%s  %-14s  %s", when, foreign(functionOf(e.Source)), foreign(line))
		} else {
			say(w, "%*s  %-14s    %s", len(when), "", "", foreign(line))
		}
	}
}

// sumUp prints what came of a chain.
func sumUp(w io.Writer, r result) {
	if r.Image != nil {
		say(w, "image     %s %s (%s)", foreign(r.Image.ImageName), foreign(r.Image.ImageID), foreign(r.Image.ImageType))
	}
	if len(r.Rebuilt)+len(r.Verified)+len(r.Skipped) > 0 {
		say(w, "desktops  %d rebuilt, %d verified, %d failed, %d skipped", len(r.Rebuilt), len(r.Verified), len(r.Failed), len(r.Skipped))
	}
	for _, d := range r.Failed {
		say(w, "  FAILED  %s", foreign(d.String()))
	}
	for _, p := range r.Problems {
		say(w, "  FAILED  %s", foreign(p))
	}
	if r.ok() {
		say(w, "succeeded")
	} else {
		say(w, "failed")
	}
}
