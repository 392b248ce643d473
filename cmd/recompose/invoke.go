package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/ledger/memledger"
	"recompose/shared/logging"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/store"
)

// maxEvent is the largest event that Lambda invokes a function with.
const maxEvent = 6 << 20

// invokeFlags are what `invoke` is told on the command line.
type invokeFlags struct {
	event   string
	seed    string
	timeout time.Duration
	yes     bool
	json    bool
}

func invokeCommand() *cobra.Command {
	var f invokeFlags
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION -e FILE",
		Short: "Run a function once on an SQS event, and see what it would say",
		Long: `Run a function once on an event as Lambda gives it to a function behind SQS, with the code that runs on Lambda. The
calls to the service are made. What the function would answer, publish and send to its queues is printed, and nothing
of it is sent: no other function hears of it. The functions are ` + strings.Join(functions.Names(), ", ") + `.

Without a service in the settings it works on an emulator of its own, in which everything is there that the event
names. With RECOMPOSE_WORKSPACE_ENDPOINT or RECOMPOSE_REGION, and credentials, it works on that service. On an emulator
each invoke has a ledger of its own, so the same event invoked twice acts twice. On a real service a function that
writes needs the ledger of the deployed functions, RECOMPOSE_TABLE, in which an event is done once; the others
have an empty ledger.

Exit codes: 0 all messages are dealt with, also where a command ends in command.failed; 1 a message would come
again, or the service refuses the credentials; 2 nothing was done; 3 what became of a call is not known.`,
		Example: `  recompose invoke rebuild -e events/sqs/rebuild.json
  recompose invoke watchjob -e events/sqs/watchjob.batch.json --json
  recompose invoke getdesktop -e - < event.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongUse(errors.New("invoke needs one function: " + strings.Join(functions.Names(), ", ")))
			}
			return oneOf("function", functions.Names(), args)
		},
		RunE: action(func(cmd *cobra.Command, args []string) error { return f.invoke(cmd, args[0]) }),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.event, "event", "e", "", "`FILE` with the SQS event; - is standard input")
	flags.StringVar(&f.seed, "seed", "", "`FILE` with the state of the emulator, as /_emulator/state tells it")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "time of the invocation, as the function's timeout on Lambda")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask, also where the service is a real one")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	return cmd
}

// invocation is a function about to be run once.
type invocation struct {
	fn       queue.Function // its row without a service: it tells what events imply
	batch    awsqueue.Batch
	messages []queue.Delivery // those of the batch
	people   io.Writer        // where lines for people go
	log      *slog.Logger
}

func (f invokeFlags) invoke(cmd *cobra.Command, name string) error {
	if f.timeout <= 0 {
		return wrongUse(fmt.Errorf("--timeout: must be more than 0; got %v", f.timeout))
	}
	batch, err := f.batch(cmd, name)
	if err != nil {
		return wrongUse(err)
	}
	c, err := config.Load(config.Options{Service: config.IfSet})
	if err != nil {
		return err
	}
	if c.IsDefault("RECOMPOSE_LOG_LEVEL") {
		c.LogLevel = "error" // what ends well or not is printed
	}
	in := invocation{fn: only(functions.Routes(), []string{name})[0], batch: batch, people: cmd.OutOrStdout()}
	in.messages = awsqueue.Deliveries(in.fn, batch)
	if f.json {
		in.people = cmd.ErrOrStderr()
	}
	if in.log, err = newLog(cmd.ErrOrStderr(), c, logging.Text); err != nil {
		return err
	}
	api, o, done, err := f.stage(cmd, c, in)
	if err != nil {
		return err
	}
	defer done()

	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	observed := &observer{why: map[string]string{}}
	recorder := &awsqueue.Recorder{}
	h, err := awsqueue.New(observed.watch(only(functions.New(c, api, o), []string{name})[0]), recorder.Options(in.log))
	if err != nil {
		return err
	}
	answer, err := h.Handle(ctx, batch)
	if err != nil {
		return err
	}
	report := newInvoked(answer, recorder.Record(), observed.why)
	if f.json {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		report.print(cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if err := observed.unclear(ctx, o); err != nil {
		return &exitError{exitUnknown, err}
	}
	switch failures := len(answer.BatchItemFailures); {
	case cmd.Context().Err() != nil && failures+len(report.Delayed) > 0:
		return &exitError{exitUnknown, errors.New("interrupted: what was in hand would come again")}
	case recorder.Record().Stop != nil:
		return fmt.Errorf("the service refuses the credentials: %w\nThe messages would wait", recorder.Record().Stop)
	case failures > 0:
		return fmt.Errorf("%d of %s would come again; RECOMPOSE_LOG_LEVEL=debug tells all of it", failures, count(len(batch.Records), "message"))
	}
	return nil
}

// batch reads the event.
func (f invokeFlags) batch(cmd *cobra.Command, name string) (awsqueue.Batch, error) {
	sample := fmt.Sprintf("what Lambda gives to a function behind SQS, {\"Records\": [{\"messageId\": …, \"body\": …}]}, as in events/sqs/%s.json", name)
	if f.event == "" {
		return awsqueue.Batch{}, fmt.Errorf("-e is missing: a file with %s", sample)
	}
	content, err := readAtMost(cmd, f.event, maxEvent)
	if err != nil {
		return awsqueue.Batch{}, fmt.Errorf("-e: %w", err)
	}
	batch, err := awsqueue.ReadBatch(content)
	if err != nil {
		err = fmt.Errorf("-e: %s %w\nIt must be %s", f.event, err, sample)
	}
	return batch, err
}

// writes are what the messages make a function that writes do, in words.
func (in invocation) writes() []string {
	var all []string
	for _, m := range in.messages {
		e, err := events.Decode(m.Headers, m.Body, m.Bare)
		if err != nil {
			continue // it is refused
		}
		if slices.Contains(in.fn.Reacts, e.Type) {
			command, implied, err := in.fn.React(e)
			if err != nil || !implied {
				continue
			}
			e = command
		}
		if e.Type != in.fn.Type || !writable(in.fn.Name, e) {
			continue
		}
		all = append(all, consequences(in.fn.Name, alone(e.Data)))
	}
	return all
}

// writable reports whether the command is one that the function does not refuse as it stands.
func writable(function string, e events.Envelope) bool {
	i := slices.IndexFunc(sendables, func(s sendable) bool { return s.function == function })
	return i >= 0 && sendables[i].decode(e.Data) == nil
}

// observer is told what a function decides, which the messages that it sends do not tell.
type observer struct {
	why      map[string]string // by message id: why it is delayed
	commands []queue.Command   // of writes
}

// watch is the function, and tells the observer. One message is in hand at a time.
func (o *observer) watch(f queue.Function) queue.Function {
	handle := f.Handle
	f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		said, err := handle(ctx, c)
		if retry, ok := errors.AsType[*queue.RetryError](err); ok && retry.Err != nil {
			id := c.Envelope.ID
			if c.IsReaction() {
				id = c.Event.ID
			}
			o.why[id] = retry.Err.Error()
		}
		if f.Writes {
			o.commands = append(o.commands, c)
		}
		return said, err
	}
	return f
}

// unclear says of which commands nobody knows what became of their call; nil if there is none.
func (o *observer) unclear(ctx context.Context, used once.Options) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var ids []string
	for _, c := range o.commands {
		r, _, err := used.Store.Get(ctx, c.Identity())
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return fmt.Errorf("whether command %s was carried out is not known: %w", foreign(c.Envelope.ID), err)
		case once.StateOf(r) == once.Intent, once.StateOf(r) == once.Looking, r.End != nil && effectUnknown(r.End.Type, r.End.Data):
			ids = append(ids, foreign(c.Envelope.ID))
		}
	}
	_, forgotten := used.Store.(*memledger.Store)
	switch {
	case len(ids) == 0:
		return nil
	case forgotten: // nor a ledger that is kept
		return fmt.Errorf("what became of the call of command %s is not known, and the record of it was in memory: look at the service", strings.Join(ids, ", "))
	default:
		return fmt.Errorf("what became of the call of command %s is not known. The ledger has it: invoke the same event again in a minute, and it is looked for", strings.Join(ids, ", "))
	}
}
