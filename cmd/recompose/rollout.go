package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/chain/reasons"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/rollout"
	"recompose/shared/store"
)

func rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Bring one image to a fleet in waves",
		Long: `Bring one image to a fleet in waves: plan it, read the plan, approve it, watch it, halt it and
take it back. The spec is a file in YAML or JSON; recompose rollout schema prints its JSON Schema.

Exit codes: 0 done; 1 rejected, no such rollout, a plan or start that can rebuild no desktop, or with --wait halted or
aborted; 2 nothing was sent: usage error, or the deployment cannot be reached; 3 sent, and the result is not known; 4 with
--wait: it waits for a person, because a plan must be approved or it is paused.`,
		Example: `  recompose rollout plan -f november.yaml
  recompose rollout start -f november.yaml
  recompose rollout status win11-november --watch`,
		Args: subcommand, RunE: missing(", such as plan, start, status or list"),
	}
	cmd.AddCommand(rolloutPlanCommand(), rolloutStartCommand(), rolloutStatusCommand(), rolloutListCommand(),
		rolloutApproveCommand(), rolloutPauseCommand(), rolloutResumeCommand(), rolloutPromoteCommand(),
		rolloutExcludeCommand(), rolloutSetCommand(), rolloutRetryCommand(), rolloutRollbackCommand(),
		rolloutAbortCommand(), rolloutSchemaCommand())
	return cmd
}

// rolloutFlags are the flags of the commands that send a verb.
type rolloutFlags struct {
	place   place
	id      string
	yes     bool
	json    bool
	wait    bool
	timeout timeLimit
}

// define defines the flags. asks: the command asks before it does something. waits: it can wait for the rollout.
func (f *rolloutFlags) define(cmd *cobra.Command, asks, waits bool) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.id, "id", "", "id of the command (default: a new one); the same id with the same data is done once")
	f.place.define(flags)
	if asks {
		flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask for confirmation, also if the service is real")
	}
	if waits {
		flags.BoolVar(&f.wait, "wait", false, "follow the rollout until it has ended, halts or waits for a person")
	}
	f.timeout.define(flags, "stop waiting after this long")
	flags.BoolVar(&f.json, "json", false, "print JSON, one object a line")
}

// oneRollout checks that the argument is the name of a rollout.
func oneRollout(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s needs the name of one rollout; recompose rollout list shows them", cmd.Name())
	}
	if !events.IsRolloutName(args[0]) {
		return fmt.Errorf("%q is not the name of a rollout: 1 to 40 of a to z, 0 to 9 and -", args[0])
	}
	return nil
}

// rolloutSession is the work of one command on rollouts.
type rolloutSession struct {
	cmd     *cobra.Command
	ctx     context.Context
	f       *rolloutFlags
	conn    *connection
	store   store.Store
	service deployment.Service
	cancel  context.CancelFunc
	finder  reasons.Finder // nil if no reasons can be found
	reasons reasons.Latest // why a verb has no answer, or a rollout does not move
}

// open connects.
func (f *rolloutFlags) open(cmd *cobra.Command) (*rolloutSession, error) {
	conn, _, err := f.place.connect(cmd, config.Unused, "rollout")
	if err != nil {
		return nil, err
	}
	s := &rolloutSession{cmd: cmd, f: f, conn: conn, finder: conn.Reasons()}
	s.ctx, s.cancel = f.timeout.within(cmd.Context())
	if s.store, err = conn.rollouts(s.ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// openForWork connects, and prints which service is behind the queues.
func (f *rolloutFlags) openForWork(cmd *cobra.Command) (*rolloutSession, error) {
	s, err := f.open(cmd)
	if err != nil {
		return nil, notSent(err)
	}
	s.service = s.conn.Service(s.ctx)
	printLine(s.people(), "%s", s.service)
	return s, nil
}

func (s *rolloutSession) close() {
	s.cancel()
	s.conn.close()
}

func (s *rolloutSession) people() io.Writer { return people(s.cmd, s.f.json) }

// head reads the head of a rollout before something is sent to it. A name that does not exist is a failure, as if the
// rollout function had rejected it.
func (s *rolloutSession) head(name string) (*rollout.Head, error) {
	h, err := rollout.ReadHead(s.ctx, s.store, name)
	return h, s.unread(err)
}

// unread is the error of a rollout that was not read, so that nothing was sent to it.
func (s *rolloutSession) unread(err error) error {
	if err == nil || errors.Is(err, rollout.ErrNone) {
		return s.named(err)
	}
	return notSent(err)
}

// named explains the error of a name that no rollout has.
func (s *rolloutSession) named(err error) error {
	if errors.Is(err, rollout.ErrNone) {
		return fmt.Errorf("%w; %s shows those that there are", err, s.line("rollout", "list"))
	}
	return err
}

// confirmReal asks before something is done on a real service.
func (s *rolloutSession) confirmReal(what string) error {
	if s.service.Emulator() || s.f.yes {
		return nil
	}
	return confirm(s.cmd, what, "not sent")
}

// rolloutMessage returns the message of a verb, checked as its receiver does. id "" is a new one.
func rolloutMessage(cmd *cobra.Command, typ, id string, data events.RolloutCommand) (events.Envelope, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return events.Envelope{}, fmt.Errorf("write the command: %w", err)
	}
	e := events.Envelope{ID: cmp.Or(id, uuid.NewString()), Source: sendSource, Type: typ, Time: time.Now().UTC(), Data: raw}
	e.Correlation = e.ID
	body, err := json.Marshal(e)
	if err != nil {
		return e, wrongUse(fmt.Errorf("the command: %w", err))
	}
	if len(body) > events.MaxMessage {
		return e, wrongUse(fmt.Errorf("the message would have %d bytes; the limit is %d: name fewer desktops", len(body),
			events.MaxMessage))
	}
	if err := events.CheckData(typ, raw); err != nil {
		return e, wrongUse(byFlags(cmd, err))
	}
	var decoded events.Envelope
	if err := json.Unmarshal(body, &decoded); err != nil {
		return e, wrongUse(byFlags(cmd, err))
	}
	return e, nil
}

// answer is the event in which a verb ended.
type answer struct {
	events.Envelope
	events.Rollout
}

// send sends a verb and waits for its one answer, which it returns if it is not a rejection.
func (s *rolloutSession) send(e events.Envelope) (answer, error) {
	var a answer
	from := time.Now().Add(-clockSkew)
	if s.f.id != "" { // its answer may be old
		from = time.Time{}
	}
	follow, err := s.conn.follow(s.ctx, from)
	if err != nil {
		return a, notSent(err)
	}
	defer follow.close()
	got, err := s.conn.Send(s.ctx, e)
	switch {
	case errors.Is(err, deployment.ErrNotSent):
		return a, nothingDone(err)
	case err != nil:
		return a, s.unknown(e, fmt.Errorf("whether it was stored is not known: %w", err))
	}
	if a.Envelope, err = s.readAnswer(follow.read, e, got.Number); err != nil {
		return a, s.unknown(e, err)
	}
	if err := json.Unmarshal(a.Data, &a.Rollout); err != nil {
		return a, s.unknown(e, fmt.Errorf("its answer cannot be read: %w", err))
	}
	if a.Type == events.TypeRolloutRejected || a.Type == events.TypeCommandFailed {
		if s.f.json {
			if err := printJSON(s.cmd.OutOrStdout(), a.Envelope); err != nil {
				return a, err
			}
		}
		return a, &exitError{exitFailed, errors.New(escapeLines(textByFlags(s.cmd, chain.Describe(a.Envelope)[0])))}
	}
	return a, nil
}

// readAnswer reads events until the one that answers the command.
func (s *rolloutSession) readAnswer(read reader, e events.Envelope, number uint64) (found events.Envelope, err error) {
	ctx, cancel := context.WithCancel(s.ctx)
	var explaining sync.WaitGroup
	explaining.Go(func() { s.explainSilence(ctx, e, number) })
	defer explaining.Wait()
	defer cancel()
	err = read(ctx, func(x events.Envelope) (bool, error) {
		if x.Causation != e.ID || events.IsNotice(x.Type) || x.Answered().Digest != e.Digest() {
			return true, nil
		}
		found = x
		return false, nil
	})
	if err == nil && found.ID == "" {
		err = s.ctx.Err()
	}
	return found, err
}

// rolloutOf is the name of the rollout that a command is about.
func rolloutOf(e events.Envelope) string {
	var c events.RolloutCommand
	_ = json.Unmarshal(e.Data, &c) // our own
	if c.Name == "" {
		return rollout.SpecName(c.Spec)
	}
	return c.Name
}

// unknown is the error of a verb that was sent and whose answer is not known.
func (s *rolloutSession) unknown(e events.Envelope, err error) error {
	if errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v%s", s.f.timeout, becauseOf(s.reasons))
	}
	return &exitError{exitUnknown, fmt.Errorf("command %s: how it ended is not known: %w\n"+
		"It is safe to repeat it with --id %s. How the rollout stands: %s", e.ID, err, quoted(e.ID),
		s.line("rollout", "status", rolloutOf(e)))}
}

// line is a command line of this program for the same place.
func (s *rolloutSession) line(words ...string) string { return placedLine(s.cmd, words) }

func placedLine(cmd *cobra.Command, words []string) string {
	line := programName()
	for _, w := range words {
		line += " " + quoted(w)
	}
	return line + kept(cmd, placeFlags...)
}

// report prints the answer of a verb.
func (s *rolloutSession) report(a answer) error {
	if s.f.json {
		return printJSON(s.cmd.OutOrStdout(), a.Envelope)
	}
	for _, text := range chain.Shortened(a.Envelope, "; --json shows all") {
		printLine(s.cmd.OutOrStdout(), "%s", escape(text))
	}
	return nil
}

// printLines prints lines that describe a rollout.
func printLines(w io.Writer, lines []rollout.Line) {
	for _, l := range lines {
		printLine(w, "%s", escape(l.String()))
	}
}
