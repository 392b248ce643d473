package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/embednats"
	"recompose/shared/emulator"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/once"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/testkit/natstest"
	"recompose/shared/workspace"
)

// TestAChainOfWhateverClocks captures, rebuilds and verifies with a worker and a service whose clocks are off from that of
// the NATS server, each by more than a job, a deadline or a command may last.
func TestAChainOfWhateverClocks(t *testing.T) {
	t.Parallel()
	for _, off := range []struct{ worker, service time.Duration }{
		{worker: -3 * time.Hour}, {worker: 3 * time.Hour}, {worker: -8 * time.Hour, service: 20 * time.Minute},
		{worker: 8 * time.Hour, service: -50 * time.Minute},
	} {
		t.Run(fmt.Sprintf("worker %v, service %v", off.worker, off.service), func(t *testing.T) {
			t.Parallel()
			world, err := emulator.New(emulator.Options{Desktops: 4, Speed: demoSpeed, ClockSkew: off.service})
			require.NoError(t, err)
			site := httptest.NewServer(world)
			t.Cleanup(func() { site.Close(); require.NoError(t, world.Close()) })
			nc := natstest.Start(t, embednats.Options{}).Conn

			now := func() time.Time { return time.Now().Add(off.worker) }
			api, err := workspace.New(workspace.Options{
				Endpoint: site.URL, ProjectID: emulator.DefaultProjectID, Now: now, ReadsPerMinute: -1, WritesPerMinute: -1,
				SignatureWindow: config.SignatureWindow,
				Auth:            workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
			})
			require.NoError(t, err)
			q, err := natsqueue.New(nc, natsqueue.Options{Now: now})
			require.NoError(t, err)
			require.NoError(t, q.Setup(t.Context(), functions.Routes()))
			store, err := natsledger.New(t.Context(), nc, natsledger.Options{})
			require.NoError(t, err)
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			c := config.Default()
			c.Pace = demoSpeed
			go func() {
				ended <- q.Run(ctx, functions.New(c, api, once.Options{Store: store, Owner: "skewed", Now: q.Now}))
			}()
			t.Cleanup(func() { stop(); require.NoError(t, <-ended) })

			ids := world.DesktopIDs()
			e, err := demoCommandEnvelope(ids[0], ids[1:])
			require.NoError(t, err)
			_, err = q.Send(t.Context(), e)
			require.NoError(t, err)
			reading, enough := context.WithTimeout(t.Context(), within)
			defer enough()
			var chain []events.Envelope
			require.NoError(t, q.Read(reading, natsqueue.Since{}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
				chain = append(chain, e)
				return len(events.Open(events.Root{ID: chain[0].Correlation}, chain)) > 0, nil
			}), "%v", chain)

			var types []string
			for _, e := range chain {
				types = append(types, e.Type)
				require.NotEqual(t, events.TypeCommandFailed, e.Type, "%s", e.Data)
			}
			require.Equal(t, events.TypeImagesChecked, types[len(types)-1], "%v", types)
			polls := 0
			for _, r := range world.Requests(0, 0) {
				if r.Call == emulator.CallListSubJobs {
					polls++
				}
			}
			require.Less(t, polls, 60)
		})
	}
}
