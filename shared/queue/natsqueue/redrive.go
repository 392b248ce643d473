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

// Redriven is what a redrive did.
type Redriven struct {
	Envelope  events.Envelope // what the function will read; zero where it cannot be read
	Subject   string
	Duplicate bool // it was redriven within the last two minutes, and this time only removed
}

// envelopeOf is the message as its function reads it: the same id and source, so that the ledger still holds, and as old
// as it was when it came in. The error is an *events.UnreadableError where the message names no id.
func envelopeOf(l queue.Letter) (events.Envelope, error) {
	e, err := events.Decode(l.Headers, l.Body, events.Bare{Time: l.First})
	if _, unreadable := errors.AsType[*events.UnreadableError](err); unreadable && l.BareType != "" {
		e, err = events.Decode(l.Headers, l.Body, bareOf(l))
	}
	return queue.Dated(e, l.First), err
}

// Redrive gives a dead letter to its function once more: it stores the message where functions send to functions, and
// removes the dead letter once that is acknowledged. The message keeps its identity, so a write that was done is not
// done again, and its age; it goes by a Nats-Msg-Id of its own. Its bytes are those that came, except where the
// transport had told something that the bytes do not: then an envelope tells it.
//
// It blocks until both are stored, and may be repeated. The error is queue.ErrNoLetter by errors.Is if the letter is gone,
// or says why the letter cannot be redriven. After any other error it may have been.
func (q *Queue) Redrive(ctx context.Context, l queue.Letter) (Redriven, error) {
	l, err := q.DeadLetter(ctx, l)
	if err != nil {
		return Redriven{}, err
	}
	m, e, err := q.redriven(l)
	if err != nil {
		return Redriven{}, fmt.Errorf("redrive dead letter %s: %w", l.ID, err)
	}
	ack, err := q.publishOne(ctx, m)
	if err != nil {
		return Redriven{}, fmt.Errorf("redrive dead letter %s: %w", l.ID, err)
	}
	return Redriven{Envelope: e, Subject: m.Subject, Duplicate: ack.Duplicate}, q.remove(ctx, l)
}

// CheckRedrive tells whether a whole dead letter can be redriven, and what its function will read then. The envelope is
// zero, and the error nil, where the letter cannot be read: such a one goes back as the bytes that it is.
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
			return nil, events.Envelope{}, fmt.Errorf("it was too large to be kept whole (%s); send the command again", l.Cut)
		}
		return m, events.Envelope{}, nil
	}
	again, err := events.Decode(events.Headers{headerContentType: {events.ContentType}}, l.Body, events.Bare{})
	asItCame := err == nil && again.Identity() == e.Identity() && again.Time.Equal(e.Time)
	if !asItCame {
		if l.Cut != "" {
			return nil, e, fmt.Errorf("it was too large to be kept whole (%s); send the command again", l.Cut)
		}
		// A reaction's letter names the command that the event implies.
		if !isLetterOf(l, e.Identity()) && !isLetterOf(l, events.Identity(events.Source(l.Function), events.ReactionID(e, l.Function))) {
			return nil, e, errors.New("what is kept of it does not give its identity, so that it could be done twice; send the command again if it was not done")
		}
		if m.Data, err = json.Marshal(e); err != nil {
			return nil, e, err
		}
	}
	m.Header.Set(headerContentType, events.ContentType)
	// Its delayed forms are counted anew. But what had its size measured at the entrance must not fail by it now.
	if len(m.Data) > events.MaxMessage && (!asItCame || l.Headers.Get(queue.AttemptHeader) != "") {
		m.Header.Set(queue.AttemptHeader, "1")
	}
	return m, e, nil
}
