package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/service"
	"recompose/shared/telemetry/logging"
	"recompose/shared/telemetry/profiles"
	"recompose/shared/worker"
)

func runCommand() *cobra.Command {
	var form, pprof string
	cmd := &cobra.Command{
		Use:   "run [FUNCTION...]",
		Short: "Run a worker on a NATS cluster",
		Long: `Handle the messages of the NATS cluster at NATS_URL with the named functions, or with all. Any number of
workers share the work. The settings come from the environment; ` + "`recompose config`" + ` shows them.

` + wrapped("", "The functions are "+strings.Join(functions.Names(), ", ")+".", 0, 120) + `

On Ctrl-C or SIGTERM it takes no more messages, finishes those it has within 45 seconds, and ends with exit code 0. A
message that it does not finish is redelivered. A second Ctrl-C ends it at once.`,
		Example: `  recompose run
  NATS_URL=tls://nats.example.org NATS_CREDS=worker.creds recompose run watchjob checkimages`,
		Args:              func(_ *cobra.Command, args []string) error { return oneOf("function", functions.Names(), args) },
		ValidArgsFunction: functionNames(len(functions.Names())),
		RunE:              action(func(cmd *cobra.Command, args []string) error { return runWorker(cmd, args, form, pprof) }),
	}
	cmd.Flags().StringVar(&form, "log-format", logging.Text, "text or json")
	cmd.Flags().StringVar(&pprof, "pprof", "", "serve profiles at this loopback address, such as 127.0.0.1:6060")
	_ = cmd.Flags().Float64("pace", 1, "")
	_ = cmd.Flags().MarkDeprecated("pace", "it has no effect: an emulator reports how fast it runs")
	return cmd
}

func runWorker(cmd *cobra.Command, names []string, form, pprof string) error {
	ctx := cmd.Context()
	if err := profiles.Check(pprof); err != nil {
		return wrongUse(fmt.Errorf("--pprof: %w", err))
	}
	c, err := config.Load(config.Options{Service: config.Required, NATS: config.Required})
	if err != nil {
		return err
	}
	log, err := newLog(cmd.ErrOrStderr(), c, form)
	if err != nil {
		return err
	}
	stopPprof, err := profiles.Serve(ctx, pprof, log)
	if err != nil {
		return fmt.Errorf("--pprof: %w", err)
	}
	defer stopPprof()
	w, err := newWorker(ctx, c, log)
	if err != nil {
		return err
	}
	defer w.Close()
	api, err := w.Client()
	if err != nil {
		return nothingDone(err)
	}
	own, err := awaitService(ctx, c, log)
	if err != nil {
		return err
	}
	printLine(cmd.OutOrStdout(), "%s", own)
	options := deployment.ConnectOptions(c, "run", log)
	options.Wait = true // a worker may start before its servers
	nc, err := natsqueue.Connect(ctx, options)
	if err != nil {
		return unlessInterrupted(ctx, err)
	}
	defer nc.Close()
	err = natsqueue.Await(ctx, log, func() error { // and the servers may start before their cluster is ready
		if err := w.SetUp(ctx, nc); err != nil {
			return err
		}
		return claim(ctx, w, own, only(functions.Routes(), names))
	}, w.Waits)
	if err != nil {
		return unlessInterrupted(ctx, err)
	}
	fns := only(functions.New(c, api, w.Start(ctx, own)), names)
	printLine(cmd.OutOrStdout(), "%s", escape(w.Desktops(ctx)))
	if at := w.URL(); at != "" {
		printLine(cmd.OutOrStdout(), "health at %s/readyz, metrics at %s/metrics", at, at)
	}
	printLine(cmd.OutOrStdout(), "working on %s", strings.Join(namesOf(fns), ", "))
	printLine(cmd.OutOrStdout(), "%s", howToStop)
	defer announceStop(cmd)()
	return stopError(w.Run(ctx, fns))
}

// newWorker returns a worker that serves health and metrics.
func newWorker(ctx context.Context, c *config.Config, log *slog.Logger) (*worker.Worker, error) {
	w, err := worker.New(ctx, worker.Options{Config: c, Routes: functions.Routes(), Version: thisBuild().Version, Log: log})
	if err != nil {
		return nil, nothingDone(err)
	}
	return w, nil
}

// newLog returns the log of a worker.
func newLog(w io.Writer, c *config.Config, form string) (*slog.Logger, error) {
	log, err := logging.New(w, c.LogLevel, form)
	if err != nil { // the level has been checked
		return nil, wrongUse(fmt.Errorf("--log-format: %w", err))
	}
	for _, r := range config.Retired() {
		log.Warn(r.Variable + " " + r.Problem)
	}
	return log, nil
}

// awaitService returns the service of the configuration as service.Await does.
func awaitService(ctx context.Context, c *config.Config, log *slog.Logger) (events.Service, error) {
	s, err := service.Await(ctx, c, log)
	if err != nil && !errors.Is(err, service.ErrNoAnswer) {
		err = nothingDone(err)
	}
	return s, err
}

// claim records the service of a worker for the deployment.
func claim(ctx context.Context, w *worker.Worker, own events.Service, fns []queue.Function) error {
	err := w.Claim(ctx, own, fns)
	if other, ok := errors.AsType[*service.OtherError](err); ok {
		err = nothingDone(fmt.Errorf("%w\nNothing was done", other))
	}
	return err
}

// only returns the functions with these names, or all if there are no names.
func only(fns []queue.Function, names []string) []queue.Function {
	if len(names) == 0 {
		return fns
	}
	return slices.DeleteFunc(fns, func(f queue.Function) bool { return !slices.Contains(names, f.Name) })
}

func namesOf(fns []queue.Function) []string {
	names := make([]string, len(fns))
	for i, f := range fns {
		names[i] = f.Name
	}
	return names
}

// stopError explains why a worker ended.
func stopError(err error) error {
	if stop, ok := errors.AsType[*queue.StopError](err); ok {
		return fmt.Errorf("the worker stopped to protect its access key: %w\nNo message is lost; fix it and restart",
			stop.Err)
	}
	return err
}

// unlessInterrupted returns the error, or nil if the worker was interrupted meanwhile.
func unlessInterrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// howToStop is what Ctrl-C does to a worker.
const howToStop = "Ctrl-C ends it: it takes no more messages and finishes those in hand. " +
	"A second Ctrl-C ends it at once."

// announceStop prints a notice when the program is interrupted, unless ended is called before.
func announceStop(cmd *cobra.Command) (ended func()) {
	printed := make(chan struct{})
	stop := context.AfterFunc(cmd.Context(), func() {
		defer close(printed)
		printLine(cmd.OutOrStdout(),
			"stopping: no more messages are taken, and calls in flight are finished, for at most 45s. "+
				"A message that is not finished is redelivered. A second Ctrl-C ends at once: "+
				"then the outcome of a call in flight is searched for later.")
	})
	return func() {
		if !stop() {
			<-printed
		}
	}
}

// divisor checks the value of a flag that waits are divided by.
func divisor(flag string, value float64) error {
	if !(value > 0 && value <= 1e6) { // NaN is neither
		return wrongUse(fmt.Errorf("%s: must be more than 0 and at most 1000000; got %v", flag, value))
	}
	return nil
}
