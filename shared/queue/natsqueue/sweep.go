package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
	"recompose/shared/queue"
)

// sweeps looks for late timers, again and again until ctx ends.
func (q *Queue) sweeps(ctx context.Context) {
	s := &sweeper{q: q, due: map[string]time.Time{}}
	wait := rand.N(q.o.SweepEvery) //nolint:gosec // no secret: workers that start together look one after the other
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = q.o.SweepEvery
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			q.log.DebugContext(ctx, "late timers could not be looked for", "error", err)
		}
	}
}

// sweeper remembers when timers are due, so that each is read once.
type sweeper struct {
	q   *Queue
	due map[string]time.Time // by subject
}

// sweep moves each timer that is late to where the server should have moved it. Several workers may do it at once: a
// timer is moved under an id of its own, which the stream takes once.
func (s *sweeper) sweep(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.q.log.ErrorContext(ctx, "panic while looking for late timers", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	stream, err := s.q.js.Stream(ctx, s.q.names.nexts())
	if err != nil {
		return err
	}
	asked := s.q.o.Now()
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(s.q.names.timers()))
	if err != nil {
		return err
	}
	s.q.clock.learn(asked, info.TimeStamp)
	for subject := range s.due {
		if _, there := info.State.Subjects[subject]; !there {
			delete(s.due, subject)
		}
	}
	// By the server's clock: it is the one that timers fire by.
	now := info.TimeStamp
	if now.IsZero() {
		now = s.q.Now()
	}
	for subject := range info.State.Subjects {
		at, known := s.due[subject]
		if known && now.Sub(at) <= s.q.o.Late {
			continue
		}
		m, err := stream.GetLastMsgForSubject(ctx, subject) // read again: it may have been replaced by a later one
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		due, ok := dueAt(m)
		if !ok {
			due = now.Add(24 * time.Hour) // not a timer, and nothing that could fire; it is looked at again tomorrow
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

// move stores the message of a timer where it should have gone, and then removes that very timer: one that has taken
// its place meanwhile stays.
func (s *sweeper) move(ctx context.Context, stream jetstream.Stream, m *jetstream.RawStreamMsg, due time.Time) error {
	target := m.Header.Get(headerScheduleTarget)
	if !strings.HasPrefix(target, s.q.names.subject("recompose.next.")) || !publishable(target) {
		return nil
	}
	seq := strconv.FormatUint(m.Sequence, 10)
	again := &nats.Msg{Subject: target, Data: m.Data, Header: nats.Header{
		headerContentType: {events.ContentType},
		headerMsgID:       {"late/" + m.Subject + "/" + seq},
	}}
	for _, ours := range []string{queue.AttemptHeader, queue.FailuresHeader, queue.EpochHeader} {
		if n := m.Header.Get(ours); n != "" {
			again.Header.Set(ours, n)
		}
	}
	if err := s.q.publish(ctx, again); err != nil {
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
