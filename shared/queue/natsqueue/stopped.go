package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"recompose/shared/queue"
)

const (
	checkEvery  = time.Second      // while a worker is stopped; the key decides how often a check really calls the service
	checkWithin = 30 * time.Second // how long a check may take
)

// stopped keeps a worker that a function has stopped from taking messages, until its key may be used.
type stopped struct {
	log *slog.Logger
	now func() time.Time
	key queue.Key

	mu    sync.Mutex
	why   error
	since time.Time
	over  chan struct{} // closed when the worker resumes; nil while it is not stopped

	begun chan struct{}
}

// held returns a function that replaces f while the key does not allow messages to be handled, and f itself
// otherwise. why is the result of the key's check.
func (s *stopped) held(ctx context.Context, f queue.Function) (_ queue.Function, why error) {
	if s.key == nil || f.NoCalls {
		return f, nil
	}
	why = s.check(ctx)
	if why == nil {
		return f, nil
	}
	f.Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) {
		if soon, is := errors.AsType[*queue.RetryError](why); is {
			return nil, queue.Hold(soon.After, soon.Err)
		}
		return nil, queue.Stop(why)
	}
	return f, why
}

// stop stops the worker, unless it is stopped already.
func (s *stopped) stop(ctx context.Context, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		return
	}
	s.why, s.since, s.over = why, s.now(), make(chan struct{})
	s.log.ErrorContext(ctx, "the worker takes no more messages until a probe succeeds; no message is lost", "reason", why)
	select {
	case s.begun <- struct{}{}:
	default:
	}
}

// wait blocks while the worker is stopped. The error is that of ctx.
func (s *stopped) wait(ctx context.Context) error {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if over == nil {
		return nil
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stopped) state() (since time.Time, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.why
}

func (s *stopped) resume(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		return
	}
	s.log.InfoContext(ctx, "the worker resumed", "stopped_for", s.now().Sub(s.since).Round(time.Second))
	close(s.over)
	s.why, s.since, s.over = nil, time.Time{}, nil
}

// checks checks the key repeatedly while the worker is stopped, until ctx ends.
func (s *stopped) checks(ctx context.Context, every time.Duration) {
	for {
		begun := s.begun
		var tick <-chan time.Time
		if _, why := s.state(); why != nil {
			begun, tick = nil, time.After(every)
		}
		select {
		case <-ctx.Done():
			return
		case <-begun:
		case <-tick:
			if err := s.check(ctx); err != nil {
				s.log.DebugContext(ctx, "the worker may not resume yet", "error", err)
			} else {
				s.resume(ctx)
			}
		}
	}
}

func (s *stopped) check(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "panic in the check of the key", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	return s.key.Check(ctx)
}

// halt stops the worker because a function requires it. It reports the reason to the key, unless the reason is the
// result of the key's own check.
func (w *work) halt(ctx context.Context, why, held error) {
	if w.q.o.Key != nil {
		if held == nil {
			w.q.o.Key.Refuse(ctx, why)
		}
		w.q.stopped.stop(ctx, why)
		w.requests.end(false) // a healthy worker can have what they would bring
		return
	}
	w.q.log.ErrorContext(ctx, "the worker stops", "reason", why)
	w.stop(&queue.StopError{Err: why})
}
