package natsqueue

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"recompose/events"
	"recompose/shared/queue"
)

// How an oversized message is cut.
const (
	maxReason   = 4 * 1024
	maxOriginal = 24 * 1024 // bytes of the headers that came with it
	headroom    = 40 * 1024 // for all headers of a dead letter
)

// deadLetter makes the stored form of a message that was given up on: the same body, and the headers named in
// names.go.
func (q *Queue) deadLetter(l queue.DeadLetter, d origin) *nats.Msg {
	m := &nats.Msg{Subject: q.names.deadLetter(l.Function), Data: l.Delivery.Body, Header: nats.Header{}}
	set := func(name, value string) {
		if value = headerText(value, maxReason); value != "" {
			m.Header.Set(name, value)
		}
	}
	// By the message, not by its command: a command that was redriven and given up on a second time is another dead
	// letter.
	set(headerMsgID, l.ID+"/"+d.stream+"/"+strconv.FormatUint(d.seq, 10))
	set(HeaderDeadID, l.ID)
	set(HeaderFunction, l.Function)
	set(HeaderClass, l.Class)
	set(HeaderReason, l.Reason)
	set(HeaderAttempts, strconv.Itoa(l.Attempts))
	set(HeaderFirst, d.stored.UTC().Format(time.RFC3339Nano))
	set(HeaderLast, q.Now().UTC().Format(time.RFC3339Nano))
	set(HeaderStream, d.stream)
	set(HeaderSequence, strconv.FormatUint(d.seq, 10))
	set(HeaderSubject, d.subject)
	set(HeaderCommandID, l.Envelope.ID)
	set(HeaderCommandType, l.Envelope.Type)
	set(HeaderSource, l.Envelope.Source)
	set(HeaderCorrelation, l.Envelope.Correlation)

	var missing []string
	left := maxOriginal
	for name, values := range l.Delivery.Headers {
		for _, v := range values {
			name, v := HeaderOriginal+headerName(name), headerText(v, maxOriginal)
			if left -= len(name) + len(v) + 4; left < 0 {
				missing = append(missing, "some headers")
				break
			}
			m.Header[name] = append(m.Header[name], v)
		}
		if left < 0 {
			break
		}
	}
	if most := int(q.nc.MaxPayload()) - headroom; most > 0 && len(m.Data) > most {
		missing = append(missing, strconv.Itoa(len(m.Data)-most)+" bytes at the end of the body")
		m.Data = m.Data[:most]
	}
	if len(missing) > 0 {
		set(HeaderCut, strings.Join(missing, " and ")+" could not be kept")
	}
	return m
}

// headerText makes foreign text fit for a header: one line of limited length.
func headerText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return strings.TrimSpace(events.Shorten(s, most))
}

// headerName makes a foreign name fit for a header's name.
func headerName(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == ':' || r >= 0x7f {
			return '_'
		}
		return r
	}, s)
}
