package natsqueue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/embednats"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/testkit/natstest"
)

const benchConcurrency = 8

// bed is a server with the streams of recompose, for one measurement.
type bed struct {
	nc *nats.Conn
	js jetstream.JetStream
	q  *natsqueue.Queue
	fn queue.Function
	// handled is called for each command that is done.
	handled sync.WaitGroup
}

func newBed(b *testing.B, syncAlways bool) *bed {
	nc := natstest.Start(b, embednats.Options{SyncAlways: syncAlways}).Conn
	js, err := jetstream.New(nc)
	require.NoError(b, err)
	x := &bed{nc: nc, js: js}
	x.q, err = natsqueue.New(nc, natsqueue.Options{Concurrency: benchConcurrency, Observe: func(h natsqueue.Handled) {
		if h.Verdict == "ack" {
			x.handled.Done()
		}
	}})
	require.NoError(b, err)
	x.fn = queue.Function{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return []queue.Outcome{{Type: events.TypeDesktopDescribed, About: []string{"done"}, Data: desktop}}, nil
	}}
	require.NoError(b, x.q.Setup(b.Context(), []queue.Function{x.fn}))
	s, err := js.Stream(b.Context(), "RECOMPOSE_COMMANDS")
	require.NoError(b, err)
	roomy := s.CachedInfo().Config
	roomy.MaxMsgs, roomy.MaxBytes = 10_000_000, -1
	_, err = js.UpdateStream(b.Context(), roomy)
	require.NoError(b, err)
	return x
}

// desktop is the data of an event of usual size.
var desktop = json.RawMessage(fmt.Sprintf(`{"desktop":{"desktop_id":"d1","addresses":%q}}`, make([]byte, 100)))

// fill stores n commands at the entrance.
func (x *bed) fill(b *testing.B, n int) {
	var waiting []jetstream.PubAckFuture
	for i := range n {
		id := fmt.Sprint("c", i)
		body, err := json.Marshal(get(id))
		require.NoError(b, err)
		f, err := x.js.PublishMsgAsync(&nats.Msg{Subject: events.TypeGetDesktop, Data: body, Header: nats.Header{
			"Nats-Msg-Id": {id}, "Content-Type": {events.ContentType},
		}}, jetstream.WithStallWait(10*time.Second))
		require.NoError(b, err)
		waiting = append(waiting, f)
	}
	for _, f := range waiting {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			require.NoError(b, err)
		}
	}
	x.handled.Add(n)
}

// recompose handles the commands with a worker.
func (x *bed) recompose(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.q.Run(ctx, []queue.Function{x.fn}) }()
	x.handled.Wait()
	b.StopTimer()
	cancel()
	require.NoError(b, <-ended)
}

// bare does the same job with the client alone: as many loops as a worker has slots, each of which takes a command,
// publishes an event, waits until that is stored, and acknowledges.
func (x *bed) bare(b *testing.B) {
	c, err := x.js.Consumer(b.Context(), "RECOMPOSE_COMMANDS", "getdesktop")
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	var loops sync.WaitGroup
	slots := make(chan struct{}, benchConcurrency)
	loops.Go(func() {
		for ctx.Err() == nil {
			slots <- struct{}{}
			n := 1
			for n < benchConcurrency {
				select {
				case slots <- struct{}{}:
					n++
					continue
				default:
				}
				break
			}
			batch, err := c.Fetch(n, jetstream.FetchContext(ctx))
			if err != nil {
				return
			}
			for m := range batch.Messages() {
				n--
				loops.Go(func() {
					defer func() { <-slots }()
					body := append([]byte(nil), m.Data()...)
					ack, err := x.js.PublishMsg(ctx, &nats.Msg{Subject: events.TypeDesktopDescribed, Data: body, Header: nats.Header{
						"Nats-Msg-Id": {"e" + m.Headers().Get("Nats-Msg-Id")}, "Content-Type": {events.ContentType},
					}})
					if err == nil && ack != nil && m.Ack() == nil {
						x.handled.Done()
					}
				})
			}
			for range n {
				<-slots
			}
		}
	})
	x.handled.Wait()
	b.StopTimer()
	cancel()
	loops.Wait()
}

// BenchmarkMessagePath measures one job in two ways: take a command, store one event and wait until that is
// acknowledged, acknowledge the command. recompose decodes and encodes envelopes, recovers panics and keeps leases
// besides; bare-nats.go copies bytes. The ratio is bare over recompose, of the same run.
func BenchmarkMessagePath(b *testing.B) {
	for _, sync := range []bool{false, true} {
		name := "/sync=interval"
		if sync {
			name = "/sync=always"
		}
		var bareRate float64
		rate := func(b *testing.B) float64 {
			r := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(r, "msgs/s")
			b.ReportMetric(0, "ns/op")
			return r
		}
		b.Run("bare-nats.go"+name, func(b *testing.B) {
			x := newBed(b, sync)
			x.fill(b, b.N)
			b.ResetTimer()
			x.bare(b)
			bareRate = rate(b)
		})
		b.Run("recompose"+name, func(b *testing.B) {
			x := newBed(b, sync)
			x.fill(b, b.N)
			b.ResetTimer()
			x.recompose(b)
			if r := rate(b); bareRate > 0 {
				b.ReportMetric(bareRate/r, "bare/recompose")
			}
		})
	}
}
