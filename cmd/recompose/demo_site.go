package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/embednats"
	"recompose/shared/emulator"
	"recompose/shared/once"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/telemetry/logging"
	"recompose/shared/worker"
)

// demoSite is what a demo runs on: an emulator, NATS and all functions in this process.
type demoSite struct {
	ctx     context.Context
	world   *emulator.Server
	ids     []string // of all desktops
	queue   *natsqueue.Queue
	view    *view
	closers []func() // in the order in which they were opened
}

// openDemo starts everything. Close it in any case but an error.
func openDemo(cmd *cobra.Command, desktops int) (site *demoSite, err error) {
	s := &demoSite{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	parent, cancel := context.WithTimeout(cmd.Context(), demoWithin)
	s.defers(cancel)
	ctx, stop := context.WithCancelCause(parent)
	s.defers(func() { stop(nil) })
	s.ctx = ctx

	c := config.Default()
	c.Pace = demoSpeed
	s.world, err = emulator.New(emulator.Options{Desktops: desktops, Speed: demoSpeed, SignatureWindow: c.SignatureWindow})
	if err != nil {
		return nil, err
	}
	s.defers(func() { s.world.Close() })
	s.ids = s.world.DesktopIDs()
	served, err := emulator.Serve(ctx, "127.0.0.1:0", s.world)
	if err != nil {
		return nil, err
	}
	s.defers(func() { served.Close(ctx) })

	dir, err := os.MkdirTemp("", "recompose-demo-")
	if err != nil {
		return nil, err
	}
	s.defers(func() { _ = os.RemoveAll(dir) })
	server, err := embednats.Start(embednats.Options{StoreDir: dir})
	if err != nil {
		return nil, err
	}
	s.defers(func() { server.Close() })
	nc, err := server.Connect()
	if err != nil {
		return nil, err
	}
	s.defers(nc.Close)

	s.view = newView(cmd.OutOrStdout(), s.world)
	api, err := emulatorClient(served.URL, emulator.DefaultProjectID, c, s.view.call)
	if err != nil {
		return nil, err
	}
	parts, err := deployment.SetUp(ctx, nc, deployment.SetupOptions{
		Config: c, Queue: natsqueue.Options{Concurrency: c.Concurrency, Observe: s.view.message}, Routes: functions.Routes(),
		Log: logging.Silent(),
	})
	if err != nil {
		return nil, err
	}
	s.queue = parts.Queue
	s.defers(parts.WatchLedger(ctx, logging.Silent()))
	fns := functions.New(c, api, once.Options{Store: parts.Ledger, Rollouts: parts.Rollouts, Owner: worker.Owner()})
	s.view.line("", "EMULATOR: %s, NATS and %s in this process; jobs run %d times as fast", chain.Count(len(s.ids), "desktop"),
		chain.Count(len(fns), "function"), demoSpeed)
	var working sync.WaitGroup
	working.Go(func() {
		if err := s.queue.Run(ctx, fns); err != nil {
			stop(stopError(err))
		}
	})
	working.Go(func() { s.view.follow(ctx) })
	s.defers(func() { stop(nil); working.Wait() })
	return s, nil
}

func (s *demoSite) defers(closer func()) { s.closers = append(s.closers, closer) }

func (s *demoSite) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// read passes on all events, until each returns false.
func (s *demoSite) read(each func(events.Envelope) (bool, error)) error {
	err := s.queue.Read(s.ctx, natsqueue.Since{}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
		return each(e)
	})
	s.view.end()
	switch cause := context.Cause(s.ctx); {
	case err == nil || cause == nil:
		return err
	case errors.Is(cause, context.Canceled):
		return errors.New("interrupted")
	default:
		return cause
	}
}
