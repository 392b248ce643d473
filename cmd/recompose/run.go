package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/once"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/store/natsstore"
	"recompose/shared/telemetry/logging"
)

func runCommand() *cobra.Command {
	var form, pprof string
	cmd := &cobra.Command{
		Use:   "run [FUNCTION...]",
		Short: "Run a worker on a NATS cluster",
		Long: `Handle the messages of the NATS cluster at NATS_URL with the named functions, or with all: ` + strings.Join(functions.Names(), ", ") + `.
Any number of workers share the work. The settings come from the environment; ` + "`recompose config`" + ` shows them.

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
	if err := checkPprof(pprof); err != nil {
		return err
	}
	c, err := config.Load(config.Options{Service: config.Required, NATS: config.Required})
	if err != nil {
		return err
	}
	log, err := newLog(cmd.ErrOrStderr(), c, form)
	if err != nil {
		return err
	}
	stopPprof, err := servePprof(ctx, pprof, log)
	if err != nil {
		return err
	}
	defer stopPprof()
	w, err := newMonitor(ctx, c, log)
	if err != nil {
		return err
	}
	defer w.close()
	api, err := newClient(c, w)
	if err != nil {
		return err
	}
	own, err := awaitService(ctx, c, log)
	if err != nil {
		return err
	}
	printLine(cmd.OutOrStdout(), "%s", own)
	options := connectOptions(c, "run", log)
	options.Wait = true // a worker may start before its servers
	nc, err := natsqueue.Connect(ctx, options)
	if err != nil {
		return unlessInterrupted(ctx, err)
	}
	defer nc.Close()
	var book ledgerBook
	var q *natsqueue.Queue
	var store *natsledger.Store
	var rollouts *natsstore.Store
	err = natsqueue.Await(ctx, log, func() (err error) { // and the servers may start before their cluster is ready
		if q, err = natsqueue.New(nc, book.hook(w.hooks(queueOptions(c, log)))); err != nil {
			return err
		}
		if err := q.Setup(ctx, functions.Routes()); err != nil {
			return fmt.Errorf("set up streams and consumers: %w", err)
		}
		if store, err = natsledger.New(ctx, nc, ledgerOptions(c, log)); err != nil {
			return fmt.Errorf("set up the ledger: %w", err)
		}
		if rollouts, err = natsstore.Open(ctx, nc, rolloutOptions(c)); err != nil {
			return fmt.Errorf("set up the records of rollouts: %w", err)
		}
		defer q.Answer(ctx, only(functions.Routes(), names))()
		return claim(ctx, store, own, w)
	}, w.waits)
	if err != nil {
		return unlessInterrupted(ctx, err)
	}
	defer book.watch(ctx, store, log)()
	w.key.open(ctx, w, store.Values())
	o := once.Options{
		Store: store, Owner: owner(), Safety: w.safety(once.SharedReads(store.Values()), own), Rollouts: rollouts, Now: q.Now, Log: log,
		OnRecovery: w.metrics.Write,
	}
	w.works(api, q, o.Safety, store)
	w.printLists(ctx, cmd.OutOrStdout())
	if at := w.server.URL(); at != "" {
		printLine(cmd.OutOrStdout(), "health at %s/readyz, metrics at %s/metrics", at, at)
	}
	fns := only(functions.New(c, api, o), names)
	printLine(cmd.OutOrStdout(), "working on %s", strings.Join(namesOf(fns), ", "))
	printLine(cmd.OutOrStdout(), "%s", howToStop)
	defer announceStop(cmd)()
	return stopError(q.Run(ctx, fns))
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
