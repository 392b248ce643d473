package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/store/memstore"
	"recompose/shared/telemetry/logging"
	"recompose/shared/worker"
)

// maxEvent is the largest event that Lambda invokes a function with.
const maxEvent = 6 << 20

// invokeFlags are the flags of `invoke`.
type invokeFlags struct {
	event   string
	seed    string
	timeout timeLimit
	json    bool
}

func invokeCommand() *cobra.Command {
	f := invokeFlags{timeout: timeLimit(90 * time.Second)}
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION -e FILE",
		Short: "Run a function once on an SQS event against an emulator, and print what it would publish",
		Long: `Run a function once on an event as Lambda passes it to a function behind SQS, with the code that runs on Lambda,
against an emulator in this process. What the function would return, publish and send to its queues is printed, and
nothing is sent.

` + wrapped("", "The functions are "+strings.Join(functions.Names(), ", ")+".", 0, 120) + `

The emulator has the desktops and images that the event names, or the state of --seed. The service, the credentials and
the lists of the settings are not used: use send for a real service. Each invoke has an empty ledger.

Exit codes: 0 all messages are handled, also where a command ends in command.failed or is retried later; 1 a message
would be redelivered; 2 nothing was done; 3 interrupted with unfinished messages.`,
		Example: `  recompose invoke rebuild -e events/sqs/rebuild.json
  recompose invoke watchjob -e events/sqs/watchjob.batch.json --json
  recompose invoke getdesktop -e - < event.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("invoke needs one function: " + strings.Join(functions.Names(), ", "))
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
	f.timeout.define(flags, "time of the invocation, as the function's timeout on Lambda")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	return cmd
}

func (f invokeFlags) invoke(cmd *cobra.Command, name string) error {
	batch, err := f.batch(cmd, name)
	if err != nil {
		return wrongUse(err)
	}
	c := config.Default()
	c.LogLevel = "debug" // the reason of a retry is only in the debug log
	log, err := newLog(cmd.ErrOrStderr(), c, logging.Text)
	if err != nil {
		return err
	}
	world, project, err := f.world(batch)
	if err != nil {
		return wrongUse(err)
	}
	defer world.Close()
	site, err := emulator.Serve(cmd.Context(), "127.0.0.1:0", world)
	if err != nil {
		return err
	}
	defer site.Close(cmd.Context())
	printLine(cmd.ErrOrStderr(), "EMULATOR in this process, with %s and %s",
		chain.Count(len(world.DesktopIDs()), "desktop"), chain.Count(len(world.State().Images), "image"))
	api, err := emulatorClient(site.URL, project, c, nil)
	if err != nil {
		return err
	}
	ctx, cancel := f.timeout.within(cmd.Context())
	defer cancel()
	fns := functions.New(c, api, once.Options{Store: memledger.New(), Rollouts: memstore.New(), Owner: worker.Owner(), Log: log})
	var recorder awsqueue.Recorder
	h, err := awsqueue.New(only(fns, []string{name})[0], recorder.Options(log))
	if err != nil {
		return err
	}
	answer, err := h.Handle(ctx, batch)
	if err != nil {
		return err
	}
	if err := f.print(cmd.OutOrStdout(), answer, &recorder); err != nil {
		return err
	}
	switch failures := len(answer.BatchItemFailures); {
	case cmd.Context().Err() != nil && failures+len(recorder.Delayed) > 0:
		return &exitError{exitUnknown, errors.New("interrupted: unfinished messages would be redelivered")}
	case failures > 0:
		return fmt.Errorf("%d of %s would be redelivered", failures, chain.Count(len(batch.Records), "message"))
	}
	return nil
}

// world makes an emulator with what the messages name, or with the seed.
func (f invokeFlags) world(batch awsqueue.Batch) (world *emulator.Server, project string, err error) {
	bodies := make([]string, len(batch.Records))
	for i, m := range batch.Records {
		bodies[i] = m.Body
	}
	seed, project, err := emulator.SeedFor(bodies...)
	if err == nil && f.seed != "" {
		if seed, err = readSeed(f.seed); err != nil {
			err = fmt.Errorf("--seed: %w", err)
		}
	}
	if err != nil {
		return nil, "", err
	}
	world, err = emulator.New(emulator.Options{ProjectID: project, Seed: seed})
	return world, project, err
}

// batch reads the event.
func (f invokeFlags) batch(cmd *cobra.Command, name string) (awsqueue.Batch, error) {
	sample := "what Lambda passes to a function behind SQS, " +
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
		err = fmt.Errorf("-e: %s %w\nIt must be %s", inputName(f.event), err, sample)
	}
	return batch, err
}

// print prints the result as one JSON object; without --json it is indented and followed by a summary of each event.
func (f invokeFlags) print(w io.Writer, answer awsqueue.Answer, r *awsqueue.Recorder) error {
	result := struct {
		Answer awsqueue.Answer `json:"answer"`
		*awsqueue.Recorder
	}{answer, r}
	if f.json {
		return printJSON(w, result)
	}
	if err := printIndented(w, result); err != nil {
		return err
	}
	for _, e := range r.Events() {
		if !events.IsEvent(e.Type) { // a command of a rollout
			continue
		}
		for _, summary := range chain.Describe(e) {
			printLine(w, "%s", escape(summary))
		}
	}
	printLine(w, "Nothing was sent.")
	return nil
}
