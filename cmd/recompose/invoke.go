package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/ledger/memledger"
	"recompose/shared/logging"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/workspace"
)

// maxEvent is the largest event that Lambda invokes a function with.
const maxEvent = 6 << 20

// invokeFlags are the flags of `invoke`.
type invokeFlags struct {
	event   string
	seed    string
	timeout time.Duration
	json    bool
}

func invokeCommand() *cobra.Command {
	var f invokeFlags
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION -e FILE",
		Short: "Run a function once on an SQS event against an emulator, and print what it would publish",
		Long: `Run a function once on an event as Lambda gives it to a function behind SQS, with the code that runs on Lambda,
against an emulator of the service. What the function would return, publish and send to its queues is printed, and
nothing of it is sent. The functions are ` + strings.Join(functions.Names(), ", ") + `.

Without a service in the settings it works on an emulator of its own, which has everything that the event names.
RECOMPOSE_WORKSPACE_ENDPOINT may name an emulator on this machine. A real service is refused: use send for it. Each
invoke has an empty ledger, so the same event invoked twice acts twice.

Exit codes: 0 all messages are handled, also where a command ends in command.failed or waits; 1 a message would be
redelivered, or the emulator refuses the credentials; 2 nothing was done; 3 interrupted with messages unfinished.`,
		Example: `  recompose invoke rebuild -e events/sqs/rebuild.json
  recompose invoke watchjob -e events/sqs/watchjob.batch.json --json
  recompose invoke getdesktop -e - < event.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongUse(errors.New("invoke needs one function: " + strings.Join(functions.Names(), ", ")))
			}
			return oneOf("function", functions.Names(), args)
		},
		ValidArgsFunction: functionNames(1),
		RunE:              action(func(cmd *cobra.Command, args []string) error { return f.invoke(cmd, args[0]) }),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.event, "event", "e", "", "`FILE` with the SQS event; - is standard input")
	flags.StringVar(&f.seed, "seed", "", "`FILE` with the state of the emulator, as /_emulator/state returns it")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "time of the invocation, as the function's timeout on Lambda")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	flags.BoolP("yes", "y", false, "ignored; the next release refuses it")
	_ = flags.MarkHidden("yes")
	return cmd
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
	if c.ServiceChosen() && !config.Loopback(c.Endpoint()) {
		return refusedService(c) // whatever else is wrong with the settings
	}
	if err != nil {
		return err
	}
	if c.IsDefault("RECOMPOSE_LOG_LEVEL") {
		c.LogLevel = "error" // every end is printed
	}
	log, err := newLog(cmd.ErrOrStderr(), c, logging.Text)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("yes") {
		say(cmd.ErrOrStderr(), "warning: --yes is ignored: invoke works on emulators only; the next release refuses --yes")
	}
	people := cmd.OutOrStdout()
	if f.json {
		people = cmd.ErrOrStderr()
	}
	api, done, err := f.emulator(cmd.Context(), c, batch, people)
	if err != nil {
		return err
	}
	defer done()
	return f.run(cmd, c, name, batch, api, log)
}

// emulator is a client of the emulator that the settings name, else of one in this process. done ends that.
func (f invokeFlags) emulator(
	ctx context.Context, c *config.Config, batch awsqueue.Batch, people io.Writer,
) (api *workspace.Client, done func(), err error) {
	if !c.ServiceChosen() {
		return f.ownEmulator(ctx, c, batch, people)
	}
	if f.seed != "" {
		return nil, nil, wrongUse(fmt.Errorf("--seed: is for an emulator of its own, and the settings name %s", c.Endpoint()))
	}
	own, err := service.Of(ctx, c.Endpoint(), c.ProjectID)
	if err != nil {
		return nil, nil, nothingDone(err)
	}
	if !own.Emulator() {
		return nil, nil, refusedService(c)
	}
	say(people, "%s", own)
	api, err = newClient(c, nil)
	return api, func() {}, err
}

func refusedService(c *config.Config) error {
	variable := "RECOMPOSE_WORKSPACE_ENDPOINT"
	if c.WorkspaceEndpoint == "" {
		variable = "RECOMPOSE_REGION"
	}
	return nothingDone(fmt.Errorf("%s: must name an emulator on this machine, or nothing; %s is not one, and invoke works "+
		"on emulators only.\nUse recompose send for a real service, or unset %s", variable, foreign(c.Endpoint()), variable))
}

// run gives the batch to the handler of Lambda and prints the results.
func (f invokeFlags) run(
	cmd *cobra.Command, c *config.Config, name string, batch awsqueue.Batch, api *workspace.Client, log *slog.Logger,
) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	lists := safety.New(safety.Options{Files: listFiles(c, log)})
	fns := functions.New(c, api, once.Options{Store: memledger.New(), Owner: owner(), Safety: lists, Log: log})
	why := delayReasons{}
	recorder := &awsqueue.Recorder{}
	h, err := awsqueue.New(why.of(only(fns, []string{name})[0]), recorder.Options(log))
	if err != nil {
		return err
	}
	answer, err := h.Handle(ctx, batch)
	if err != nil {
		return err
	}
	report := newInvoked(answer, recorder, why)
	if f.json {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		report.print(cmd.OutOrStdout())
	}
	switch failures := len(answer.BatchItemFailures); {
	case err != nil:
		return err
	case cmd.Context().Err() != nil && failures+len(report.Delayed) > 0:
		return &exitError{exitUnknown, errors.New("interrupted: unfinished messages would be redelivered")}
	case recorder.Stop != nil:
		return fmt.Errorf("the service refuses the credentials: %w\nThe messages would wait", recorder.Stop)
	case failures > 0:
		return fmt.Errorf("%d of %s would be redelivered; RECOMPOSE_LOG_LEVEL=debug logs the details",
			failures, count(len(batch.Records), "message"))
	}
	return nil
}

// batch reads the event.
func (f invokeFlags) batch(cmd *cobra.Command, name string) (awsqueue.Batch, error) {
	sample := "what Lambda gives to a function behind SQS, " +
		`{"Records": [{"messageId": …, "body": …}]}, as in events/sqs/` + name + ".json"
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

// delayReasons are why messages are delayed, by message id. The delayed messages do not carry it.
type delayReasons map[string]string

// of is the function with its reasons recorded. One message is handled at a time.
func (why delayReasons) of(f queue.Function) queue.Function {
	handle := f.Handle
	f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		outcomes, err := handle(ctx, c)
		if retry, ok := errors.AsType[*queue.RetryError](err); ok && retry.Err != nil {
			id := c.Envelope.ID
			if c.IsReaction() {
				id = c.Event.ID
			}
			why[id] = retry.Err.Error()
		}
		return outcomes, err
	}
	return f
}
