package events_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func BenchmarkDecodeEnvelope(b *testing.B) {
	body := mustJSON(samples()[events.TypeRebuild])
	h := events.Headers{"Content-Type": {events.ContentType}, "Nats-Msg-Id": {"x"}}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		_, err := events.Decode(h, body, bare)
		require.NoError(b, err)
	}
}

func benchmarkRebuild(b *testing.B, n int) {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("f77db5cd-c020-47d4-bbbe-9b979a38%04d", i)
	}
	data := mustJSON(events.Rebuild{DesktopIDs: ids, ImageType: "private", ImageID: newImage})
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, err := events.DecodeRebuild(data)
		require.NoError(b, err)
	}
}

func BenchmarkDecodeRebuild100(b *testing.B)  { benchmarkRebuild(b, 100) }
func BenchmarkDecodeRebuild5000(b *testing.B) { benchmarkRebuild(b, 5000) }

func BenchmarkMarshalEnvelope(b *testing.B) {
	e := samples()[events.TypeRebuild]
	b.ReportAllocs()
	for b.Loop() {
		_, err := json.Marshal(e)
		require.NoError(b, err)
	}
}

func BenchmarkOpen(b *testing.B) {
	root, published := goldenChain()
	var chain []events.Envelope
	for _, e := range published {
		chain = append(chain, e)
	}
	b.ReportAllocs()
	for b.Loop() {
		require.Empty(b, events.Open(events.Root{ID: root.ID}, chain))
	}
}
