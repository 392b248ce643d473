package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/embednats"
	"recompose/shared/emulator"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/once"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/store/natsstore"
	"recompose/shared/telemetry/logging"
)

// demoSpeed divides the durations of jobs: 20 minutes for an image become 6 seconds, 10 minutes for a rebuild 3
// seconds.
const demoSpeed = 200

// demoWithin ends a demo that hangs.
const demoWithin = 3 * time.Minute

func demoCommand() *cobra.Command {
	var desktops, fail int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole workflow on this machine, without settings",
		Long: `Capture a desktop as an image, rebuild a fleet from it and check every desktop: with NATS, all functions and an
emulator of the Workspace API in this process. It needs no settings and no network, and leaves no files.

Exit code 0, or 1 if a desktop failed.`,
		Example: `  recompose demo
  recompose demo --desktops 250 --fail 3`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			switch {
			case desktops < 1 || desktops > events.MaxDesktops:
				return wrongUse(fmt.Errorf("--desktops: must be 1 to %d; got %d", events.MaxDesktops, desktops))
			case fail < 0 || fail > desktops:
				return wrongUse(fmt.Errorf("--fail: must be 0 to the number of desktops, %d; got %d", desktops, fail))
			}
			return demo(cmd, desktops, fail)
		}),
	}
	cmd.Flags().IntVar(&desktops, "desktops", 12, "desktops to rebuild, besides the captured one")
	cmd.Flags().IntVar(&fail, "fail", 0, "number of desktops whose rebuild fails")
	return cmd
}

func demo(cmd *cobra.Command, desktops, fail int) error {
	parent, cancel := context.WithTimeout(cmd.Context(), demoWithin)
	defer cancel()
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)

	c := config.Default()
	c.Pace = demoSpeed
	world, err := emulator.New(emulator.Options{Desktops: desktops + 1, Speed: demoSpeed,
		SignatureWindow: c.SignatureWindow})
	if err != nil {
		return err
	}
	defer world.Close()
	ids := world.DesktopIDs()
	golden, fleet := ids[0], ids[1:]
	if err := world.SetFaults(demoFaults(fleet, fail)); err != nil {
		return err
	}
	site, err := serve(ctx, "127.0.0.1:0", world)
	if err != nil {
		return err
	}
	defer site.Close(ctx)

	dir, err := os.MkdirTemp("", "recompose-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := embednats.Start(embednats.Options{StoreDir: dir})
	if err != nil {
		return err
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()

	v := newView(cmd.OutOrStdout(), world)
	api, err := emulatorClient(site.URL, c, v.call)
	if err != nil {
		return err
	}
	var book ledgerBook
	q, err := natsqueue.New(nc, book.hook(natsqueue.Options{Concurrency: c.Concurrency, Observe: v.message}))
	if err != nil {
		return err
	}
	fns := functions.Routes()
	if err := q.Setup(ctx, fns); err != nil {
		return fmt.Errorf("set up streams and consumers: %w", err)
	}
	store, err := natsledger.New(ctx, nc, natsledger.Options{})
	if err != nil {
		return fmt.Errorf("set up the ledger: %w", err)
	}
	rollouts, err := natsstore.Open(ctx, nc, natsstore.Options{Bucket: natsstore.Rollouts})
	if err != nil {
		return fmt.Errorf("set up the records of rollouts: %w", err)
	}
	defer book.watch(ctx, store, logging.Silent())()
	fns = functions.New(c, api, once.Options{Store: store, Rollouts: rollouts, Owner: owner()})

	v.line("", "EMULATOR: %s, NATS and %s in this process; jobs run %d times as fast", chain.Count(len(ids), "desktop"),
		chain.Count(len(fns), "function"), demoSpeed)
	e, err := demoCommandEnvelope(golden, fleet)
	if err != nil {
		return err
	}
	var working sync.WaitGroup
	working.Go(func() {
		if err := q.Run(ctx, fns); err != nil {
			stop(stopError(err))
		}
	})
	working.Go(func() { v.follow(ctx) })
	defer func() { stop(nil); working.Wait() }()
	if _, err := q.Send(ctx, e); err != nil {
		return fmt.Errorf("send the command: %w", err)
	}
	v.line("send", "desktoptoimage command %s: capture desktop %s, then rebuild %s", e.ID, golden,
		chain.Count(len(fleet), "other desktop"))

	watched := chain.New(e.Correlation, rootOf(e))
	watched.Fleet = fleet
	err = q.Read(ctx, natsqueue.Since{}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
		if watched.Add(e) {
			v.event(e)
		}
		return len(watched.Open()) > 0, nil
	})
	v.end()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
		return &exitError{exitUnknown, fmt.Errorf("the demo did not end: %w; still open: %s", err,
			chain.OpenText(watched.Open()))}
	}
	v.summary(watched.Result(), golden, len(watched.Events()))
	if !watched.Result().OK() {
		return &exitError{exitFailed, nil}
	}
	return nil
}

// demoCommandEnvelope returns the command that starts the demo.
func demoCommandEnvelope(golden string, fleet []string) (events.Envelope, error) {
	now := time.Now().UTC()
	data, err := json.Marshal(events.DesktopToImage{
		ImageName: "golden-" + now.Format("20060102-150405"), DesktopID: golden, ExecuteSysprep: true,
		Then: &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: fleet}},
	})
	id := uuid.NewString()
	return events.Envelope{ID: id, Source: "recompose/demo", Type: events.TypeDesktopToImage, Time: now, Correlation: id,
		Data: data}, err
}

// demoFaults lets the last of the fleet fail.
func demoFaults(fleet []string, fail int) []emulator.Fault {
	faults := make([]emulator.Fault, 0, fail)
	for _, id := range fleet[len(fleet)-fail:] {
		faults = append(faults, emulator.Fault{Call: emulator.CallRebuild, DesktopID: id, Do: emulator.Do{
			Job: "fail", ErrorCode: "WKS.00010050", ErrorMsg: "The system disk could not be attached (made up by recompose " +
				"demo --fail)",
		}})
	}
	return faults
}
