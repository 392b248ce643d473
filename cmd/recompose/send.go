package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/deployment"
)

// sendSource is the CloudEvents source of commands that people send. The source and --id identify a repeated command.
const sendSource = "recompose/send"

// sendFlags are the flags of every subcommand of send.
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
		Long: `Send a command to a function. The flags are the fields of the command; an invalid command is not sent.

The same --id with the same data runs once. The same --id with other data fails (id_reused), and nothing is done. On AWS
(--aws) events are not stored: --wait reads them with a queue of its own, which it removes.

Exit codes: 0 sent, or with --wait everything succeeded; 1 something failed; 2 not sent; 3 sent, and the result is not
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
		names[i] = s.Function
	}
	return names
}

// writers are the functions of commands that write.
func writers() (names []string) {
	for _, s := range sendables {
		if !s.Reads() {
			names = append(names, s.Function)
		}
	}
	return names
}

func sendOneCommand(s sendable) *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:     s.Function,
		Short:   s.Help,
		Example: s.example,
		Args:    noArguments,
		RunE:    action(func(cmd *cobra.Command, _ []string) error { return s.send(cmd, f) }),
	}
	s.define(cmd, &f.data)
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.id, "id", "", "id of the command (default: a new one)")
	flags.StringVar(&f.correlation, "correlation", "", "id of the chain (default: the command's id)")
	flags.StringVar(&f.notAfter, "not-after", "",
		"do not begin it after this `TIME` (2026-01-15T08:30:00Z), or this long from now (2h)")
	f.place.define(flags)
	flags.Lookup("aws").Usage = "on AWS instead of NATS: the name of the `STACK`, or the ARN of its topic, or the URL " +
		"of the function's queue"
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the message and send nothing")
	if !s.Reads() {
		flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask for confirmation, also if the service is real")
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
		return wrongUse(byFlags(cmd, err))
	}
	if f.dryRun {
		return printJSON(cmd.OutOrStdout(), e)
	}
	ctx := cmd.Context()
	conn, _, err := f.place.connect(cmd, config.IfSet, "send")
	if err != nil {
		return notSent(err)
	}
	defer conn.close()
	backend := conn.Service(ctx)
	printLine(f.follow.people(cmd), "%s", backend)
	if !s.Reads() && !backend.Emulator() && !f.yes {
		if err := confirm(cmd, chain.Consequences(s.Function, data), "not sent"); err != nil {
			return err
		}
	}
	if err := f.follow.begin(); err != nil {
		return wrongUse(err)
	}
	var read reader
	if f.wait {
		from := time.Now().Add(-clockSkew)
		if f.id != "" { // its events may be old
			from = time.Time{}
		}
		follow, err := conn.follow(ctx, from)
		if err != nil {
			return notSent(err)
		}
		defer follow.close()
		read = follow.read
	}
	got, err := conn.Send(ctx, e)
	switch {
	case errors.Is(err, deployment.ErrNotSent):
		return nothingDone(err)
	case err != nil:
		return &exitError{exitUnknown,
			fmt.Errorf("send command %s: %w\nWhether it was stored is not known. It is safe to repeat it: %s", e.ID, err,
				repeatHint(cmd, e))}
	}
	if got.Duplicate {
		printLine(f.follow.people(cmd), "%s command %s was sent before; it is done once", s.Function, escape(e.ID))
	} else {
		printLine(f.follow.people(cmd), "%s command %s sent", s.Function, escape(e.ID))
	}
	if !f.wait && f.follow.json {
		return printJSON(cmd.OutOrStdout(), got.Shown)
	}
	resume := conn.resume(e, f.id != "")
	if !f.wait {
		printLine(f.follow.people(cmd), "To follow it: %s", resume(true))
		return nil
	}
	c := chain.New(e.Correlation, rootOf(e))
	c.Fleet = fleetOf(e)
	return f.follow.follow(cmd, read, target{chain: c, function: s.Function, number: got.Number, resume: resume,
		why: conn.Reasons()})
}

// notSent is the error of a command that was certainly not stored.
func notSent(err error) error {
	if _, exit := errors.AsType[*exitError](err); exit {
		return err
	}
	return nothingDone(fmt.Errorf("%w: %w", deployment.ErrNotSent, err))
}

// clockSkew is the assumed greatest difference between the clocks of this machine and the NATS server.
const clockSkew = 5 * time.Minute

func (s sendable) envelope(f sendFlags, data json.RawMessage, now time.Time) (events.Envelope, error) {
	e := events.Envelope{
		ID: f.id, Source: sendSource, Type: s.Type, Time: now.UTC(),
		Correlation: f.correlation, Data: data,
	}
	if e.ID == "" {
		e.ID = uuid.NewString()
	}
	e.Correlation = cmp.Or(e.Correlation, e.ID)
	if f.notAfter != "" {
		expiry, err := moment(f.notAfter, now, now.Add)
		if err == nil && !expiry.After(now) {
			err = fmt.Errorf("%s is in the past", expiry.Format(time.RFC3339))
		}
		if err != nil {
			return e, fmt.Errorf("--not-after: %w", err)
		}
		e.Expiry = expiry.UTC()
	}
	body, err := json.Marshal(e)
	if err != nil {
		return e, fmt.Errorf("the data is not JSON: %w", err)
	}
	if len(body) > events.MaxMessage {
		return e, fmt.Errorf("the message would have %d bytes; the limit is %d: send several commands", len(body),
			events.MaxMessage)
	}
	var decoded events.Envelope
	return e, json.Unmarshal(body, &decoded) // checks it by the rules of the receiver
}

// moment reads a time, or a duration, which shift moves from now.
func moment(text string, now time.Time, shift func(time.Duration) time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return shift(d), nil
	}
	t, err := events.ParseTime(text)
	if err != nil {
		return time.Time{}, fmt.Errorf("must be a time like %s or a duration like 2h; got %q", now.UTC().Format(time.RFC3339),
			text)
	}
	return t, nil
}

// confirm prints what will be done and reads a confirmation. not is the error text without one.
func confirm(cmd *cobra.Command, what, not string) error {
	if !isTerminal(cmd.InOrStdin()) {
		return nothingDone(fmt.Errorf("%s. Standard input is not a terminal: confirm with --yes", what))
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s. Continue? (y/N) ", what)
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

// fleetOf returns the desktops that a command rebuilds after its image is made.
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

// rootOf returns the command as the root of a chain. The digest excludes answers about other data with the same id.
func rootOf(e events.Envelope) events.Root {
	return events.Root{ID: e.ID, Source: e.Source, Digest: e.Digest()}
}

// waitArguments returns the arguments of `recompose wait` for a command. A chosen id may have been used before with
// other data, so they name the digest.
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

// writeIDFile writes a file for --desktop-ids-file: an id a line, with a comment after it.
func writeIDFile(path, heading string, desktops []chain.FailedDesktop) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", escape(heading))
	for _, d := range desktops {
		b.WriteString(d.DesktopID)
		if why := strings.TrimPrefix(d.String(), d.DesktopID+": "); why != "" {
			b.WriteString("  # " + escape(why))
		}
		b.WriteString("\n")
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}
