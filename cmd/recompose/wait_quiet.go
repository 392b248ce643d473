package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
)

// Times of waiting for a chain.
const (
	stillOpen    = 30 * time.Second // a quiet chain is reported so often
	quietFor     = 2 * time.Second  // after so long without an event it is asked why
	whyEvery     = 5 * time.Second  // and so often from then on
	unknownAfter = 5 * time.Second  // a chain that has no event by then is taken for unknown
)

// errNoEvent means that a chain has no event.
var errNoEvent = fmt.Errorf("no event of it within %v", unknownAfter)

// resumeFunc is the command line that goes on following a chain; forEver has it wait also where it has no event yet.
type resumeFunc func(forEver bool) string

// waiting is somebody who waits for a chain. The chain and the terminal are shared with the reader of events.
type waiting struct {
	target
	f   *followFlags
	cmd *cobra.Command

	mu      sync.Mutex
	begun   time.Time
	last    time.Time // of an event
	reasons []string  // found last
}

// watch reports why nothing moves, until ctx ends. Where a chain that must be known has no event, it ends the reading.
func (w *waiting) watch(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	asked, reminded := time.Time{}, w.begun
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			w.mu.Lock()
			quiet, known := now.Sub(w.last), len(w.chain.Own()) > 0
			w.mu.Unlock()
			if quiet >= quietFor && now.Sub(asked) >= whyEvery {
				w.ask(ctx)
				asked = time.Now()
			}
			if !known && w.f.mustBeKnown && now.Sub(w.begun) >= unknownAfter {
				w.ask(ctx)
				end(errNoEvent)
				return
			}
			if quiet >= stillOpen && now.Sub(reminded) >= stillOpen {
				reminded = now
				w.remind(now)
			}
		}
	}
}

// ask finds out why nothing moves, and reports what is new.
func (w *waiting) ask(ctx context.Context) {
	reasons, ok := w.find(ctx)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range reasons {
		if !slices.Contains(w.reasons, r) {
			printLine(w.f.people(w.cmd), "          waiting: %s", escape(r))
		}
	}
	w.reasons = reasons
}

// find finds out why nothing moves; false where there was no time for it.
func (w *waiting) find(ctx context.Context) ([]string, bool) {
	w.mu.Lock()
	open := w.chain.Open()
	reasons, _ := w.chain.Standing(open, time.Now())
	q := w.openWork(open)
	w.mu.Unlock()
	if w.why == nil || len(open) == 0 {
		return reasons, true
	}
	ctx, cancel := context.WithTimeout(ctx, reasonsTimeout)
	defer cancel()
	reasons = append(reasons, w.why(ctx, q)...)
	return reasons, ctx.Err() == nil
}

func (w *waiting) remind(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	printLine(w.f.people(w.cmd), "          still open after %v: %s%s", now.Sub(w.begun).Round(time.Second), escape(chain.OpenText(w.chain.Open())), w.because(now))
}

// because is the reasons found last, or how far the jobs are; "" where nothing is known.
func (w *waiting) because(now time.Time) string {
	reasons := w.reasons
	if len(reasons) == 0 {
		_, reasons = w.chain.Standing(w.chain.Open(), now)
	}
	if len(reasons) == 0 {
		return ""
	}
	return " (" + escape(strings.Join(reasons, "; ")) + ")"
}

// unknown is the error of a chain whose end is not known: why, and how to go on.
func (w *waiting) unknown(open []events.Pending, err error) error {
	interrupted := w.cmd.Context().Err() != nil
	over := err == nil || errors.Is(err, context.DeadlineExceeded)
	if over && !interrupted {
		if reasons, ok := w.find(w.cmd.Context()); ok {
			w.reasons = reasons
		}
	}
	what, perhaps, more := "the connection was lost", "", ""
	switch {
	case interrupted:
		what = "interrupted"
		more = "\nThe chain goes on without this program. To let no further write begin: " + programName() + " freeze --reason WHY" + kept(w.cmd, placeFlags...)
	case errors.Is(err, errNoEvent) && len(w.chain.Events()) > 0:
		perhaps = "\nThe chain has events, and none of this command with this data: it may still wait, or --command or --digest is wrong.\n" +
			"What there is: " + programName() + " trace " + quoted(w.chain.Correlation) + kept(w.cmd, placeFlags...)
	case errors.Is(err, errNoEvent):
		perhaps = "\nIts command may still wait, its events may be older than 30 days, or its id may be another."
	case over:
		what = fmt.Sprintf("still running after %v", w.f.timeout)
	}
	if err != nil && !interrupted && !over {
		what = err.Error()
	}
	return &exitError{exitUnknown, fmt.Errorf("how chain %s ended is not known: %s%s%s\nStill open: %s\nTo go on waiting: %s%s",
		w.chain.Correlation, what, w.because(time.Now()), perhaps, escape(chain.OpenText(open)), w.resume(len(w.chain.Own()) == 0), more)}
}
