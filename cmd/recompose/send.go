package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
)

// sendSource is the CloudEvents source of commands that people send. With --id it makes the same command again.
const sendSource = "recompose/send"

// sendFlags are the flags that every command to be sent has.
type sendFlags struct {
	data        dataFlags
	id          string
	correlation string
	notAfter    string
	place       place
	dryRun      bool
	yes         bool
	wait        bool
	follow      followFlags
}

func sendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "send FUNCTION",
		Short: "Send a command to a function",
		Long: `Send a command to a function. The flags are the fields of the command; a command that would be refused is not sent.

An id that is sent twice with the same data (--id) is done once; with other data it ends as id_reused, and nothing is
done. On AWS (--aws) events are not kept: --wait follows them with a queue of its own, which it removes.

Exit codes: 0 sent, or with --wait everything succeeded; 1 something failed; 2 not sent; 3 sent, and how it ended is not
known.`,
		Example: `  recompose send getdesktop --desktop-id 1a2b --wait
  recompose send checkimages --aws recompose --desktop-ids 1a2b,3c4d
  recompose send rebuild --help`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("send needs a function: " + strings.Join(sendableNames(), ", "))
			}
			return oneOf("function", sendableNames(), args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, s := range sendables {
		cmd.AddCommand(sendOneCommand(s))
	}
	return cmd
}

func sendableNames() []string {
	names := make([]string, len(sendables))
	for i, s := range sendables {
		names[i] = s.function
	}
	return names
}

func sendOneCommand(s sendable) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:     s.function,
		Short:   s.short,
		Example: s.example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected %q; flags that are true or false are written with =, as in --dry-run=false", args[0])
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, _ []string) error { return s.send(cmd, f) }),
	}
	s.define(cmd, &f.data)
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.id, "id", "", "id of the command (default: a new one)")
	flags.StringVar(&f.correlation, "correlation", "", "id of the chain (default: the command's id)")
	flags.StringVar(&f.notAfter, "not-after", "", "do not begin it later than this `TIME` (2026-01-15T08:30:00Z), or than so long from now (2h)")
	f.place.define(flags)
	flags.Lookup("aws").Usage = "on AWS instead of NATS: the name of the `STACK`, or the ARN of its topic, or the URL of the function's queue"
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the message and send nothing")
	if s.writes {
		flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask, also where the service is a real one")
	}
	flags.BoolVar(&f.wait, "wait", false, "follow the chain to its end")
	f.follow.define(flags)
	flags.Lookup("json").Usage = "print JSON: one event a line, or without --wait what was sent"
	return cmd
}

func (s sendable) send(cmd *cobra.Command, f sendFlags) error {
	if !f.wait && (f.follow.timeout != 0 || f.follow.failedTo != "") {
		return wrongUse(errors.New("--timeout and --failed-to need --wait"))
	}
	data, err := s.data(cmd, f.data)
	if err != nil {
		return err
	}
	e, err := s.envelope(f, data, time.Now())
	if err != nil {
		return wrongUse(err)
	}
	if f.dryRun {
		return printJSON(cmd.OutOrStdout(), e)
	}
	ctx := cmd.Context()
	line, _, err := f.place.connect(cmd, config.IfSet, "send")
	if err != nil {
		return notSent(err)
	}
	defer line.close()
	behind := line.behind(ctx)
	say(f.follow.people(cmd), "%s", behind)
	if s.writes && !behind.Emulator() && !f.yes {
		if err := s.ask(cmd, data); err != nil {
			return err
		}
	}
	if err := f.follow.begin(); err != nil {
		return wrongUse(err)
	}
	var read reader
	if f.wait {
		from := time.Now().Add(-clockSkew)
		if f.id != "" { // what was said of it may be old
			from = time.Time{}
		}
		follow, err := line.follow(ctx, from)
		if err != nil {
			return notSent(err)
		}
		defer follow.close()
		read = follow.read
	}
	got, err := line.send(ctx, e)
	switch {
	case errors.Is(err, errNotSent):
		return nothingDone(err)
	case err != nil:
		return &exitError{exitUnknown, fmt.Errorf("send command %s: %w\nWhether it was stored is not known. It is safe to send it once more: %s", e.ID, err, repeatHint(cmd, e))}
	}
	if got.duplicate {
		say(f.follow.people(cmd), "%s command %s was sent before; it is done once", s.function, foreign(e.ID))
	} else {
		say(f.follow.people(cmd), "%s command %s sent", s.function, foreign(e.ID))
	}
	if !f.wait && f.follow.json {
		return printJSON(cmd.OutOrStdout(), got.shown)
	}
	resume := line.resume(e, f.id != "")
	if !f.wait {
		say(f.follow.people(cmd), "To follow it: %s", resume(true))
		return nil
	}
	c := newChain(e.Correlation, rootOf(e))
	c.fleet, c.function, c.number = fleetOf(e), s.function, got.number
	return f.follow.follow(cmd, read, c, resume, line.why)
}

// notSent is the error of a command that was certainly not stored.
func notSent(err error) error {
	if exit := new(exitError); errors.As(err, &exit) {
		return err
	}
	return nothingDone(fmt.Errorf("%w: %w", errNotSent, err))
}

// clockSkew is how far the clocks of this machine and the NATS server may differ.
const clockSkew = 5 * time.Minute

func (s sendable) envelope(f sendFlags, data json.RawMessage, now time.Time) (events.Envelope, error) {
	e := events.Envelope{
		ID: f.id, Source: sendSource, Type: events.CommandType(s.function), Time: now.UTC(), Correlation: f.correlation, Data: data,
	}
	if e.ID == "" {
		e.ID = uuid.NewString()
	}
	if e.Correlation == "" {
		e.Correlation = e.ID
	}
	if f.notAfter != "" {
		expiry, err := moment(f.notAfter, now, now.Add)
		if err == nil && !expiry.After(now) {
			err = fmt.Errorf("%s is over", expiry.Format(time.RFC3339))
		}
		if err != nil {
			return e, fmt.Errorf("--not-after: %w", err)
		}
		e.Expiry = expiry.UTC()
	}
	body, err := json.Marshal(e)
	if err != nil {
		return e, fmt.Errorf("the data is no JSON: %w", err)
	}
	if len(body) > events.MaxMessage {
		return e, fmt.Errorf("the message would have %d bytes, and may have %d: send several commands", len(body), events.MaxMessage)
	}
	var again events.Envelope
	return e, json.Unmarshal(body, &again) // by the rules that the other side reads it with
}

// moment reads a time, or a duration, which shift moves from now.
func moment(text string, now time.Time, shift func(time.Duration) time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return shift(d), nil
	}
	t, err := events.ParseTime(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("must be a time like %s or a duration like 2h; got %q", now.UTC().Format(time.RFC3339), text)
	}
	return t, nil
}

// ask shows what a write will do to a real service, and has a person say yes.
func (s sendable) ask(cmd *cobra.Command, data json.RawMessage) error {
	return confirm(cmd, consequences(s.function, data), "not sent")
}

// confirm has a person say yes to what will be done. The error says what was not done.
func confirm(cmd *cobra.Command, what, not string) error {
	if !isTerminal(cmd.InOrStdin()) {
		return nothingDone(fmt.Errorf("%s. Nobody can be asked here: say --yes if that is meant", what))
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s. Go on? (y/N) ", what)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		if a == "y" || a == "yes" {
			return nil
		}
	case <-cmd.Context().Done():
	}
	return nothingDone(errors.New(not))
}

// consequences says what a write does, with counts.
func consequences(function string, data json.RawMessage) string {
	if function == events.FnRebuild {
		r, _ := events.DecodeRebuild(data)
		what := fmt.Sprintf("This rebuilds %s from image %s: what is on their system disks is lost", count(len(r.DesktopIDs), "desktop"), r.ImageID)
		if r.AllowOSChange {
			what += "; they may get another operating system"
		}
		return what
	}
	c, _ := events.DecodeDesktopToImage(data)
	what := fmt.Sprintf("This makes image %s of desktop %s, which restarts and cannot be used meanwhile", foreign(c.ImageName), c.DesktopID)
	if c.ExecuteSysprep {
		what += "; the user profiles on it are deleted"
	}
	if c.IsClearData {
		what += "; the user data on it is deleted"
	}
	if c.Then != nil && c.Then.Rebuild != nil {
		what += fmt.Sprintf(". Then it rebuilds %s: what is on their system disks is lost", count(len(c.Then.Rebuild.DesktopIDs), "desktop"))
	}
	return what
}

// fleetOf is the desktops that a command wants rebuilt once its image is made.
func fleetOf(e events.Envelope) []string {
	if e.Type != events.TypeDesktopToImage {
		return nil
	}
	c, err := events.DecodeDesktopToImage(e.Data)
	if err != nil || c.Then == nil || c.Then.Rebuild == nil {
		return nil
	}
	return c.Then.Rebuild.DesktopIDs
}

// rootOf is this very command as the first of a chain: answers about other data under its id are not its own.
func rootOf(e events.Envelope) events.Root {
	return events.Root{ID: e.ID, Source: e.Source, Digest: e.Digest()}
}

// waitArguments are the arguments of `recompose wait` that follow this command. An id that its sender chose may have
// been used before, for other data.
func waitArguments(e events.Envelope, chosen bool) string {
	args := quoted(e.Correlation)
	if e.Correlation != e.ID {
		args += " --command " + quoted(e.ID)
	}
	if digest := e.Digest(); chosen && digest != "" {
		args += " --digest " + digest
	}
	return args
}

// writeIDFile writes lines that --desktop-ids-file reads: an id a line, with a comment behind it.
func writeIDFile(path, heading string, desktops []failedDesktop) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", foreign(heading))
	for _, d := range desktops {
		b.WriteString(d.DesktopID)
		if why := strings.TrimPrefix(d.String(), d.DesktopID+": "); why != "" {
			b.WriteString("  # " + foreign(why))
		}
		b.WriteString("\n")
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}
