package awsqueue_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
)

// The ledger's epoch of a message is passed on: to what the function publishes because of it, and to its delayed
// forms and hops. A function that reads the ledger itself publishes the epoch that it reads.
func TestMessagesCarryTheLedger(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in, own, published, delayed string
	}{
		"passed on":           {in: "e1", published: "e1", delayed: "e1"},
		"its own":             {own: "e2", published: "e2", delayed: "e2"},
		"its own, after ours": {in: "e1", own: "e2", published: "e2", delayed: "e1"},
		"not known":           {},
		"blank":               {in: " "}, // the services refuse an empty attribute
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var epochs []string
			now := time.Now()
			b := newBench(t, func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
				epochs = append(epochs, cmd.Epoch)
				if cmd.Attempt == 0 {
					return []queue.Outcome{{Type: events.TypeRebuild, To: "rebuild", Data: 1}, {Type: events.TypeDesktopDescribed, Data: 1}},
						queue.RetryAfter(20*time.Minute, nil) // longer than one hop
				}
				return describes(ctx, cmd)
			}, func(_ *queue.Function, o *awsqueue.Options) {
				o.Concurrency = 1
				o.Now = func() time.Time { return now }
				if c.own != "" {
					o.Stamp = func() map[string]string { return map[string]string{queue.EpochHeader: c.own} }
				}
			})
			attributes := map[string]string{}
			if c.in != "" {
				attributes[queue.EpochHeader] = c.in
			}
			require.Empty(t, b.take(t.Context(), message("c1", command("c1").Body, attributes)))
			for range 2 {
				now = now.Add(10 * time.Minute)
				_, redelivered := b.only(fn)
				require.Empty(t, b.take(t.Context(), redelivered))
			}
			published := b.Published()
			require.Len(t, published, 3)
			for _, m := range published[:2] {
				require.Equal(t, c.published, m.Attributes[queue.EpochHeader])
			}
			require.Equal(t, []string{c.in, c.delayed}, epochs)
		})
	}
}
