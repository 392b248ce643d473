package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
	"recompose/shared/queue"
)

var _ queue.Letters = (*Queue)(nil)

// answersWithin is how long the server may take to deliver the next message of a list.
const answersWithin = 10 * time.Second

// resetAttempts is how often the client tries to create a consumer that it lost. It tries without regard to the context
// of its caller, and without limit unless one is set.
const resetAttempts = 1

// DeadLetters implements queue.Letters. The error is ErrNotSetUp by errors.Is if the streams do not exist.
func (q *Queue) DeadLetters(ctx context.Context, f queue.LetterFilter) ([]queue.Letter, error) {
	var letters []queue.Letter
	err := q.eachDead(ctx, func(l queue.Letter) {
		if f.Matches(l) {
			letters = append(letters, l)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", q.explain(err))
	}
	return letters, nil
}

func (q *Queue) eachDead(ctx context.Context, each func(queue.Letter)) error {
	stream, err := q.js.Stream(ctx, q.names.dead())
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	if stream.CachedInfo().State.Msgs == 0 {
		return nil
	}
	c, err := q.js.OrderedConsumer(ctx, q.names.dead(), jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: true, MaxResetAttempts: resetAttempts,
	})
	if err != nil {
		return err
	}
	if info := c.CachedInfo(); info != nil && info.NumPending == 0 {
		return nil
	}
	ms, err := c.Messages()
	if err != nil {
		return err
	}
	defer ms.Stop()
	for {
		m, err := nextWithin(ctx, ms)
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		seq := meta.Sequence.Stream
		if seq > last { // given up after the list was begun
			return nil
		}
		each(q.letter(m.Subject(), seq, meta.Timestamp.UTC(), m.Headers(), nil))
		if seq == last || meta.NumPending == 0 {
			return nil
		}
	}
}

func nextWithin(ctx context.Context, ms jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	return ms.Next(jetstream.NextContext(ctx))
}

// DeadLetter implements queue.Letters.
func (q *Queue) DeadLetter(ctx context.Context, l queue.Letter) (queue.Letter, error) {
	stream, err := q.js.Stream(ctx, q.names.dead())
	if err != nil {
		return l, fmt.Errorf("read dead letter %s: %w", l.ID, q.explain(err))
	}
	m, err := stream.GetMsg(ctx, l.Number)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = queue.ErrNoLetter
	}
	if err != nil {
		return l, fmt.Errorf("read dead letter %s: %w", l.ID, q.explain(err))
	}
	read := q.letter(m.Subject, m.Sequence, m.Time.UTC(), m.Header, m.Data)
	if read.ID != l.ID { // the stream was created anew
		return l, fmt.Errorf("read dead letter %s: %w", l.ID, queue.ErrNoLetter)
	}
	return read, nil
}

// Hidden implements queue.Letters: all dead letters on NATS can be read.
func (q *Queue) Hidden() int { return 0 }

// Drop implements queue.Letters.
func (q *Queue) Drop(ctx context.Context, l queue.Letter) error {
	switch _, err := q.DeadLetter(ctx, l); { // another message may have this number now
	case errors.Is(err, queue.ErrNoLetter):
		return nil
	case err != nil:
		return err
	}
	return q.remove(ctx, l)
}

func (q *Queue) remove(ctx context.Context, l queue.Letter) error {
	stream, err := q.js.Stream(ctx, q.names.dead())
	if err == nil {
		err = stream.DeleteMsg(ctx, l.Number)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("remove dead letter %s: %w", l.ID, q.explain(err))
	}
	return nil
}

// letter reads a dead letter as deadLetter wrote it. A message that another program put on the stream gets at least
// an id and a function, so that it can be listed and dropped.
func (q *Queue) letter(subject string, number uint64, stored time.Time, h nats.Header, body []byte) queue.Letter {
	l := queue.Letter{
		ID: h.Get(HeaderDeadID), Number: number, Class: h.Get(HeaderClass), Reason: h.Get(HeaderReason),
		Function: strings.TrimPrefix(q.names.bare(subject), "recompose.dead."),
		Stream:   h.Get(HeaderStream), Subject: h.Get(HeaderSubject), Correlation: h.Get(HeaderCorrelation), Cut: h.Get(HeaderCut),
		Command: events.CommandRef{ID: h.Get(HeaderCommandID), Type: h.Get(HeaderCommandType), Source: h.Get(HeaderSource)},
		First:   timeOr(h.Get(HeaderFirst), stored), Last: timeOr(h.Get(HeaderLast), stored), Headers: events.Headers{}, Body: body, Size: len(body),
	}
	if l.ID == "" {
		l.ID = "unnamed-" + strconv.FormatUint(number, 10)
	}
	l.Attempts, _ = strconv.Atoi(h.Get(HeaderAttempts))
	l.Sequence, _ = strconv.ParseUint(h.Get(HeaderSequence), 10, 64)
	if n, err := strconv.Atoi(h.Get("Nats-Msg-Size")); err == nil && body == nil {
		l.Size = n
	}
	for name, values := range h {
		if original, ok := strings.CutPrefix(name, HeaderOriginal); ok {
			l.Headers[original] = values
		}
	}
	if l.Stream == q.names.commands() {
		l.BareType = q.names.bareType(l.Subject)
	}
	return l
}

func timeOr(text string, otherwise time.Time) time.Time {
	if t, err := events.ParseTime(text); err == nil {
		return t
	}
	return otherwise
}

// isLetterOf reports whether a dead letter of this class and function names the command with this identity.
func isLetterOf(l queue.Letter, identity string) bool {
	return l.ID == queue.DeadLetterID(identity, l.Function, l.Class)
}
