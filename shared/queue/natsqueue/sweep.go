package natsqueue

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
	"recompose/shared/queue"
)

// sweeps looks for late timers every SweepEvery, until ctx ends.
func (q *Queue) sweeps(ctx context.Context) {
	s := &sweeper{q: q, due: map[string]time.Time{}}
	wait := rand.N(q.o.SweepEvery) //nolint:gosec // spreads the sweeps of workers that start together
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = q.o.SweepEvery
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			q.log.DebugContext(ctx, "looking for late timers failed", "error", err)
		}
	}
}

// sweeper keeps when timers are due, so that each is read once.
type sweeper struct {
	q   *Queue
	due map[string]time.Time // by subject
}

// sweep moves each late timer to the subject to which the server should have moved it. Several workers may do it at
// once: the message id is derived from the timer, so the stream stores it once.
func (s *sweeper) sweep(ctx context.Context) (err error) {
	defer s.q.recovered(ctx, "looking for late timers", &err)
	stream, err := s.q.js.Stream(ctx, s.q.names.nexts())
	if err != nil {
		return err
	}
	requested := s.q.o.Now()
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(s.q.names.timers()))
	if err != nil {
		return err
	}
	s.q.clock.learn(requested, info.TimeStamp)
	for subject := range s.due {
		if _, there := info.State.Subjects[subject]; !there {
			delete(s.due, subject)
		}
	}
	// The server's clock: timers fire by it.
	now := info.TimeStamp
	if now.IsZero() {
		now = s.q.Now()
	}
	for subject := range info.State.Subjects {
		at, known := s.due[subject]
		if known && now.Sub(at) <= s.q.o.Late {
			continue
		}
		m, err := stream.GetLastMsgForSubject(ctx, subject) // read anew: a later timer may have replaced it
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		due, ok := dueAt(m)
		if !ok {
			due = now.Add(24 * time.Hour) // not a timer, so it cannot fire; it is read once more tomorrow
		}
		s.due[subject] = due
		if ok && now.Sub(due) > s.q.o.Late {
			if err := s.move(ctx, stream, m, due); err != nil {
				return err
			}
			delete(s.due, subject)
		}
	}
	return nil
}

// dueAt reads when a timer fires.
func dueAt(m *jetstream.RawStreamMsg) (time.Time, bool) {
	at, ok := strings.CutPrefix(m.Header.Get(headerSchedule), "@at ")
	if !ok {
		return time.Time{}, false
	}
	due, err := events.ParseTime(at)
	return due, err == nil
}

// move stores the message of a timer on its target subject, and then removes the timer by its sequence number: a timer
// that has replaced it stays.
func (s *sweeper) move(ctx context.Context, stream jetstream.Stream, m *jetstream.RawStreamMsg, due time.Time) error {
	target := m.Header.Get(headerScheduleTarget)
	if !strings.HasPrefix(target, s.q.names.subject("recompose.next.")) || !publishable(target) {
		return nil
	}
	seq := strconv.FormatUint(m.Sequence, 10)
	late := &nats.Msg{Subject: target, Data: m.Data, Header: nats.Header{
		headerContentType: {events.ContentType},
		headerMsgID:       {"late/" + m.Subject + "/" + seq},
	}}
	for _, ours := range []string{queue.AttemptHeader, queue.FailuresHeader, queue.HeldHeader, queue.EpochHeader} {
		if n := m.Header.Get(ours); n != "" {
			late.Header.Set(ours, n)
		}
	}
	if _, err := s.q.publish(ctx, late); err != nil {
		return err
	}
	s.q.log.WarnContext(ctx, "a delayed message was late and was moved by this worker; was the storage of the server full?",
		"subject", m.Subject, "due", due)
	s.q.o.OnLate()
	if err := stream.DeleteMsg(ctx, m.Sequence); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		s.q.log.DebugContext(ctx, "a late timer could not be removed", "subject", m.Subject, "error", err)
	}
	return nil
}
