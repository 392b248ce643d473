package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
	"recompose/shared/queue"
)

// publishWithin is how long an acknowledgement of the server may take.
const publishWithin = 5 * time.Second

// message makes the stored form of an envelope. It has only the headers set here: headers of a received message are
// never passed on, because JetStream interprets some headers.
func message(subject string, e events.Envelope, id string) (*nats.Msg, error) {
	body, err := events.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write envelope %s: %w", e.ID, err)
	}
	return &nats.Msg{Subject: subject, Data: body, Header: nats.Header{
		headerContentType: {events.ContentType},
		headerMsgID:       {id},
	}}, nil
}

// parcel holds the messages that store a result, in steps: each step is acknowledged before the next begins.
type parcel struct {
	steps [][]*nats.Msg
	later []*delayed // commands that the first step stores, too
	delay *delayed
	dead  *nats.Msg
}

// pack makes the messages of a result. A retry does not cure its errors.
func (q *Queue) pack(r queue.Result, d origin) (parcel, error) {
	var p parcel
	var next, published []*nats.Msg
	for _, n := range r.Next {
		m, err := message(q.names.next(n.Function), n.Envelope, n.Envelope.Identity())
		if err != nil {
			return p, err
		}
		if q.stamp(m); n.After > 0 {
			p.later = append(p.later, q.later(m, events.Derive(n.Envelope.Identity(), n.Function, "after"), n.After))
			continue
		}
		next = append(next, m)
	}
	for _, e := range r.Events {
		if !publishable(e.Type) {
			return p, fmt.Errorf("event type %q cannot be a subject", e.Type)
		}
		m, err := message(q.names.subject(e.Type), e, e.ID)
		if err != nil {
			return p, err
		}
		q.stamp(m)
		published = append(published, m)
	}
	p.steps = [][]*nats.Msg{next, published}
	if r.Delay != nil {
		var err error
		if p.delay, err = q.delayed(*r.Delay, d); err != nil {
			return p, err
		}
	}
	if r.Dead != nil {
		p.dead = q.deadLetter(*r.Dead, d)
	}
	for _, step := range append(p.steps, []*nats.Msg{p.dead}) {
		for _, m := range step {
			if m != nil && int64(m.Size()) > q.nc.MaxPayload() {
				return p, fmt.Errorf("%s has %d bytes: %w", m.Subject, m.Size(), nats.ErrMaxPayload)
			}
		}
	}
	return p, nil
}

// stamp adds the headers that describe the ledger.
func (q *Queue) stamp(m *nats.Msg) {
	for name, value := range q.o.Stamp() {
		m.Header.Set(name, value)
	}
}

// store stores a parcel. Within the duplicate window a repeated call stores nothing twice; after it, what is stored
// twice does no harm.
func (q *Queue) store(ctx context.Context, p parcel) error {
	for i, step := range p.steps {
		if i == 0 {
			for _, d := range p.later {
				step = append(step, d.message(q.Now()))
			}
		}
		if _, err := q.publish(ctx, step...); err != nil {
			return err
		}
	}
	if p.delay != nil {
		if err := q.storeDelayed(ctx, p.delay); err != nil {
			return err
		}
	}
	if p.dead != nil {
		_, err := q.publish(ctx, p.dead)
		return err
	}
	return nil
}

// Publish stores an event of the program itself, such as ledger.accepted, and blocks until the server has stored it. It
// may be repeated: readers count an event once.
func (q *Queue) Publish(ctx context.Context, e events.Envelope) error {
	if !events.IsEvent(e.Type) || !publishable(e.Type) {
		return fmt.Errorf("publish: %q is not the type of an event", e.Type)
	}
	m, err := message(q.names.subject(e.Type), e, e.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	_, err = q.publish(ctx, m)
	return err
}

// publish sends messages at once and waits until each is acknowledged. Without an error it returns their
// acknowledgements.
func (q *Queue) publish(ctx context.Context, ms ...*nats.Msg) (acks []*jetstream.PubAck, err error) {
	var faults []error
	var waiting []jetstream.PubAckFuture
	for _, m := range ms {
		f, err := q.js.PublishMsgAsync(copyOf(m))
		if err != nil {
			faults = append(faults, fmt.Errorf("store %s: %w", m.Subject, q.explain(err)))
			break
		}
		waiting = append(waiting, f)
	}
	for _, f := range waiting {
		ack, err := q.await(ctx, f)
		if err != nil {
			faults = append(faults, fmt.Errorf("store %s: %w", f.Msg().Subject, q.explain(err)))
		}
		acks = append(acks, ack)
	}
	return acks, errors.Join(faults...)
}

func (q *Queue) await(ctx context.Context, f jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	select {
	case ack := <-f.Ok():
		if ack.Duplicate {
			q.log.DebugContext(ctx, "duplicate, not stored", "subject", f.Msg().Subject, "id", f.Msg().Header.Get(headerMsgID))
		}
		return ack, nil
	case err := <-f.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// copyOf makes a message that can be published once more: the client keeps the reply subject of the first time in the
// original.
func copyOf(m *nats.Msg) *nats.Msg {
	return &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}
}

// delayed is a message to be delivered later, in its two forms.
type delayed struct {
	due     time.Time
	timer   *nats.Msg // until due
	next    *nats.Msg // when due has passed
	reissue string    // id for the case that the form must be stored a second time
}

// delayed makes the delayed form of a message. Its id consists of the command, the function and the number of the
// form, so that a second delivery of the same message makes the same form. The command is identified by its source
// and its id: two senders may use one id.
func (q *Queue) delayed(d queue.Delay, from origin) (*delayed, error) {
	number := strconv.Itoa(d.Attempt)
	id := d.Identity + "/" + number
	m, err := message(q.names.next(d.Function), d.Envelope, id)
	if err != nil {
		return nil, err
	}
	q.stamp(m)
	if d.Epoch != "" {
		m.Header.Set(queue.EpochHeader, d.Epoch)
	}
	m.Header.Set(queue.AttemptHeader, number)
	if d.Failures > 0 {
		m.Header.Set(queue.FailuresHeader, strconv.Itoa(d.Failures))
	}
	if d.Held > 0 {
		m.Header.Set(queue.HeldHeader, strconv.Itoa(d.Held))
	}
	form := q.later(m, events.Derive(d.Identity, d.Function, number), d.After)
	form.reissue = id + "/" + from.stream + "/" + strconv.FormatUint(from.seq, 10) + "/" + strconv.FormatUint(from.deliveries, 10)
	return form, nil
}

// later makes the two forms of a message that is delivered later. The id names its timer.
func (q *Queue) later(next *nats.Msg, id string, after time.Duration) *delayed {
	d := &delayed{due: q.Now().Add(after).UTC(), next: next, timer: copyOf(next)}
	d.timer.Subject, d.timer.Header = q.names.timer(id), maps.Clone(next.Header)
	// Formatted here, because the client's own option truncates the time to whole seconds, and so fires early.
	d.timer.Header.Set(headerSchedule, "@at "+d.due.Format(time.RFC3339Nano))
	d.timer.Header.Set(headerScheduleTarget, next.Subject)
	return d
}

// message is the form to store at this time.
func (d *delayed) message(now time.Time) *nats.Msg {
	if d.due.After(now) {
		return d.timer
	}
	return d.next
}

// storeDelayed stores the delayed form of a message. If the server reports a duplicate, storeDelayed checks that the
// first copy still exists: after a redrive, which numbers the forms anew, it may be gone. Then it stores the form under
// another id.
func (q *Queue) storeDelayed(ctx context.Context, d *delayed) error {
	m := d.message(q.Now())
	acks, err := q.publish(ctx, m)
	if err != nil || !acks[0].Duplicate {
		return err
	}
	ack := acks[0]
	stream, err := q.js.Stream(ctx, ack.Stream)
	if err != nil {
		return fmt.Errorf("check that a delayed message is stored: %w", err)
	}
	if _, err = stream.GetMsg(ctx, ack.Sequence); err == nil {
		return nil
	}
	if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("check that a delayed message is stored: %w", err)
	}
	m = copyOf(m)
	m.Header = maps.Clone(m.Header)
	m.Header.Set(headerMsgID, d.reissue)
	_, err = q.publish(ctx, m)
	return err
}
