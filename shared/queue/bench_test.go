package queue_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

func BenchmarkProcess(b *testing.B) {
	function := queue.Function{
		Name: events.FnRebuild, Types: []string{events.TypeRebuild}, Writes: true,
		Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			_, err := events.DecodeRebuild(c.Envelope.Data)
			return accepted(), err
		},
	}
	body, err := json.Marshal(command())
	require.NoError(b, err)
	d := queue.Delivery{Headers: events.Headers{"Content-Type": {events.ContentType}}, Body: body, Deliveries: 1}
	b.ReportAllocs()
	for b.Loop() {
		if r := (queue.Processor{}).Process(b.Context(), function, d); r.Retry != nil || len(r.Events) != 1 {
			b.Fatal(r)
		}
	}
}
