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

// DeadLetter is a message that was given up on, as it is kept. What came from others is as it came: escape it before
// it is printed.
type DeadLetter struct {
	ID       string // names it; command.failed has the same. A command given up on twice has two letters of one id
	Number   uint64 // of this very letter on the stream of dead letters
	Function string // that gave up
	Class    string // unreadable, permanent, attempts_used_up
	Reason   string // in words
	Attempts int    // deliveries of the message
	First    time.Time
	Last     time.Time // when it was given up; First is when the message was stored
	Stream   string    // where it was
	Sequence uint64    // its number there
	Subject  string
	// Command is the command that the message was, or that an event implied; zero where it could not be read. So is
	// Correlation.
	Command     events.CommandRef
	Correlation string
	Cut         string // what could not be kept of it; "" where it is whole

	Headers events.Headers // of the message itself
	Size    int            // of its body
	Body    []byte         // nil in lists

	bareType string // of the command that it is without an envelope
}

// DeadFilter chooses dead letters. The zero value chooses all.
type DeadFilter struct {
	ID       string // this id, or ids that begin so
	Class    string
	Function string
	Since    time.Time // given up then or later
}

func (f DeadFilter) takes(l DeadLetter) bool {
	return strings.HasPrefix(l.ID, f.ID) && (f.Class == "" || f.Class == l.Class) &&
		(f.Function == "" || f.Function == l.Function) && !l.Last.Before(f.Since)
}

// ErrNoDeadLetter says that there is no such dead letter, or no longer.
var ErrNoDeadLetter = errors.New("no such dead letter")

// ErrManyDeadLetters says that the beginning of an id is that of several.
var ErrManyDeadLetters = errors.New("several ids begin so")

// answersWithin is how long the server may take for the next message of a list.
const answersWithin = 10 * time.Second

// DeadLetters lists the dead letters that are kept now, oldest first, without their bodies. It blocks until all are
// read. The error is ErrNotSetUp by errors.Is where there are no streams.
func (q *Queue) DeadLetters(ctx context.Context, f DeadFilter) ([]DeadLetter, error) {
	var letters []DeadLetter
	err := q.eachDead(ctx, func(l DeadLetter) {
		if f.takes(l) {
			letters = append(letters, l)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", q.explain(err))
	}
	return letters, nil
}

func (q *Queue) eachDead(ctx context.Context, each func(DeadLetter)) error {
	stream, err := q.js.Stream(ctx, q.names.dead())
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	if stream.CachedInfo().State.Msgs == 0 {
		return nil
	}
	c, err := q.js.OrderedConsumer(ctx, q.names.dead(), jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, HeadersOnly: true})
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
		if seq > last { // given up meanwhile
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

// DeadLettersOf reads the dead letters of one id, whole, oldest first: one, or several where a command was given up on
// more than once. Instead of an id the beginning of one will do, if no other id begins so.
//
// The error is ErrNoDeadLetter, ErrManyDeadLetters or ErrNotSetUp by errors.Is.
func (q *Queue) DeadLettersOf(ctx context.Context, id string) ([]DeadLetter, error) {
	if id == "" {
		return nil, errors.New("read a dead letter: an id must be given")
	}
	listed, err := q.DeadLetters(ctx, DeadFilter{ID: id})
	if err != nil {
		return nil, err
	}
	var ids []string
	meant := map[string][]DeadLetter{}
	for _, l := range listed {
		if meant[l.ID] == nil {
			ids = append(ids, l.ID)
		}
		meant[l.ID] = append(meant[l.ID], l)
	}
	if meant[id] == nil && len(ids) > 1 {
		return nil, fmt.Errorf("read dead letter %q: %w: %s; give more of it", id, ErrManyDeadLetters, few(ids))
	}
	if meant[id] == nil && len(ids) == 1 {
		id = ids[0]
	}
	var letters []DeadLetter
	for _, l := range meant[id] {
		l, err := q.DeadLetter(ctx, l)
		if errors.Is(err, ErrNoDeadLetter) { // gone meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		letters = append(letters, l)
	}
	if len(letters) == 0 {
		return nil, fmt.Errorf("read dead letter %q: %w", id, ErrNoDeadLetter)
	}
	return letters, nil
}

func few(ids []string) string {
	const most = 4
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return strings.Join(ids, ", ")
}

// DeadLetter reads a letter of a list with its body. The error is ErrNoDeadLetter by errors.Is if it is gone.
func (q *Queue) DeadLetter(ctx context.Context, l DeadLetter) (DeadLetter, error) {
	stream, err := q.js.Stream(ctx, q.names.dead())
	if err != nil {
		return l, fmt.Errorf("read dead letter %s: %w", l.ID, q.explain(err))
	}
	m, err := stream.GetMsg(ctx, l.Number)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		err = ErrNoDeadLetter
	}
	if err != nil {
		return l, fmt.Errorf("read dead letter %s: %w", l.ID, q.explain(err))
	}
	read := q.letter(m.Subject, m.Sequence, m.Time.UTC(), m.Header, m.Data)
	if read.ID != l.ID { // the stream was made anew
		return l, fmt.Errorf("read dead letter %s: %w", l.ID, ErrNoDeadLetter)
	}
	return read, nil
}

// Drop removes a dead letter for good. It may be repeated: one that is gone is dropped. It blocks until the server has
// removed it.
func (q *Queue) Drop(ctx context.Context, l DeadLetter) error {
	switch _, err := q.DeadLetter(ctx, l); { // nothing else with this number
	case errors.Is(err, ErrNoDeadLetter):
		return nil
	case err != nil:
		return err
	}
	return q.remove(ctx, l)
}

func (q *Queue) remove(ctx context.Context, l DeadLetter) error {
	stream, err := q.js.Stream(ctx, q.names.dead())
	if err == nil {
		err = stream.DeleteMsg(ctx, l.Number)
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("remove dead letter %s: %w", l.ID, q.explain(err))
	}
	return nil
}

// letter reads a dead letter as deadLetter wrote it. What somebody else put on the stream has at least an id and a
// function, so that it can be shown and dropped.
func (q *Queue) letter(subject string, number uint64, stored time.Time, h nats.Header, body []byte) DeadLetter {
	l := DeadLetter{
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
		l.bareType = q.names.bareType(l.Subject)
	}
	return l
}

func timeOr(text string, otherwise time.Time) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t
	}
	return otherwise
}

// bare is what the message is if it has no envelope, as delivery made it.
func (l DeadLetter) bare() events.Bare {
	return bareMessage(l.bareType, l.Stream, l.Sequence, l.First, l.Headers.Get(headerMsgID))
}

// isLetterOf reports whether a dead letter of this class and function names the command with this identity.
func (l DeadLetter) isLetterOf(identity string) bool {
	return l.ID == queue.DeadLetterID(identity, l.Function, l.Class)
}
