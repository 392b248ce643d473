package natsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"recompose/events"
	"recompose/shared/queue"
)

// envelopeOf returns the message as its function reads it: with the same id and source, so that its ledger record
// still applies, and with the same age. The error is an *events.UnreadableError if the message has no id.
func envelopeOf(l queue.Letter) (events.Envelope, error) {
	e, err := events.Decode(l.Headers, l.Body, events.Bare{Time: l.First})
	if _, unreadable := errors.AsType[*events.UnreadableError](err); unreadable && l.BareType != "" {
		e, err = events.Decode(l.Headers, l.Body, bareMessage(l.BareType, l.Stream, l.Sequence, l.First, l.Headers.Get(headerMsgID)))
	}
	return queue.Dated(e, l.First), err
}

// Redrive implements queue.Letters. The message gets a new Nats-Msg-Id. Its bytes are unchanged, unless the transport
// supplied attributes that the bytes do not contain: then an envelope with these attributes is stored.
func (q *Queue) Redrive(ctx context.Context, l queue.Letter) error {
	l, err := q.DeadLetter(ctx, l)
	if err != nil {
		return err
	}
	m, _, err := q.redriven(l)
	if err != nil {
		return fmt.Errorf("redrive dead letter %s: %w", l.ID, err)
	}
	if _, err := q.publish(ctx, m); err != nil {
		return fmt.Errorf("redrive dead letter %s: %w", l.ID, err)
	}
	return q.remove(ctx, l)
}

// CheckRedrive implements queue.Letters.
func (q *Queue) CheckRedrive(l queue.Letter) (events.Envelope, error) {
	_, e, err := q.redriven(l)
	return e, err
}

// redriven is the message that a dead letter becomes.
func (q *Queue) redriven(l queue.Letter) (*nats.Msg, events.Envelope, error) {
	m := &nats.Msg{Subject: q.names.next(l.Function), Data: l.Body, Header: nats.Header{
		headerMsgID: {"redrive/" + l.ID + "/" + strconv.FormatUint(l.Number, 10)},
	}}
	if c := l.Headers.Get(headerContentType); c != "" {
		m.Header.Set(headerContentType, c)
	}
	if epoch := l.Headers.Get(queue.EpochHeader); epoch != "" {
		m.Header.Set(queue.EpochHeader, epoch)
	}
	e, err := envelopeOf(l)
	if err != nil {
		if l.Cut != "" {
			return nil, events.Envelope{}, fmt.Errorf("it was too large to be stored completely (%s); send the command once more", l.Cut)
		}
		return m, events.Envelope{}, nil
	}
	decoded, err := events.Decode(events.Headers{headerContentType: {events.ContentType}}, l.Body, events.Bare{})
	unchanged := err == nil && decoded.Identity() == e.Identity() && decoded.Time.Equal(e.Time)
	if !unchanged {
		if l.Cut != "" {
			return nil, e, fmt.Errorf("it was too large to be stored completely (%s); send the command once more", l.Cut)
		}
		// The dead letter of a reaction names the command that the event implies.
		if !isLetterOf(l, e.Identity()) && !isLetterOf(l, events.Identity(events.Source(l.Function), events.ReactionID(e, l.Function))) {
			return nil, e, errors.New("the stored copy does not give its identity, so that it could be carried out twice; send the command once more if it was not carried out")
		}
		if m.Data, err = json.Marshal(e); err != nil {
			return nil, e, err
		}
	}
	m.Header.Set(headerContentType, events.ContentType)
	// The delayed forms are numbered anew. Attempt 1 exempts the message from the size limit, which it met at the
	// entrance.
	if len(m.Data) > events.MaxMessage && (!unchanged || l.Headers.Get(queue.AttemptHeader) != "") {
		m.Header.Set(queue.AttemptHeader, "1")
	}
	return m, e, nil
}
