package natsqueue

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"recompose/events"
	"recompose/shared/queue"
)

// origin is where a message comes from.
type origin struct {
	stream     string
	subject    string
	seq        uint64
	stored     time.Time
	deliveries uint64
}

// maxForeignID is the longest id that a sender may give in Nats-Msg-Id. A longer one is ignored.
const maxForeignID = 1024

// delivery converts a message of JetStream for its function.
func (q *Queue) delivery(m *nats.Msg) (queue.Delivery, origin, error) {
	meta, err := m.Metadata()
	if err != nil {
		return queue.Delivery{}, origin{}, fmt.Errorf("read where a message on %s came from: %w", m.Subject, err)
	}
	q.clock.stored(meta.Timestamp)
	from := origin{meta.Stream, m.Subject, meta.Sequence.Stream, meta.Timestamp.UTC(), meta.NumDelivered}
	bare := bareMessage(q.names.bareType(m.Subject), from.stream, from.seq, from.stored, m.Header.Get(headerMsgID))
	headers := m.Header
	if from.stream != q.names.nexts() { // only delayed forms have these headers, and only on that stream
		headers = without(headers, queue.AttemptHeader, queue.FailuresHeader, queue.HeldHeader)
	}
	if from.stream == q.names.commands() { // a sender cannot know the epoch
		headers = without(headers, queue.EpochHeader)
	}
	return queue.Delivery{
		Headers: events.Headers(headers), Body: m.Data, Bare: bare, Type: bare.Type, Deliveries: int(from.deliveries), //nolint:gosec // far below
	}, from, nil
}

// without returns the headers without some, which a sender may have spelled in any letter case.
func without(h nats.Header, names ...string) nats.Header {
	left := h
	for given := range h {
		if !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, given) }) {
			continue
		}
		if len(left) == len(h) {
			left = maps.Clone(h)
		}
		delete(left, given)
	}
	return left
}

// bareMessage describes a message without an envelope: its id is the one that the sender gave, or else is derived
// from where it was stored.
func bareMessage(typ, stream string, seq uint64, stored time.Time, id string) events.Bare {
	bare := events.Bare{Type: typ, Source: "nats/" + stream, ID: id, Time: stored}
	if bare.ID == "" || len(bare.ID) > maxForeignID {
		bare.NoID = true
		bare.ID = events.Derive(events.Identity(bare.Source, strconv.FormatUint(seq, 10)), stored.Format(time.RFC3339Nano))
	}
	return bare
}
