package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/chain/reasons"
)

// Times while a chain is followed.
const (
	stillOpen    = 30 * time.Second // period of reports that a quiet chain is still open
	quietFor     = 2 * time.Second  // time without an event until reasons are looked up
	whyEvery     = 5 * time.Second  // period of further lookups
	unknownAfter = 5 * time.Second  // time until a chain without an event counts as unknown
)

// errNoEvent means that a chain has no event yet.
var errNoEvent = fmt.Errorf("no event of it within %v", unknownAfter)

// resumeFunc returns the command line that continues to follow a chain; forEver is for a chain without an event.
type resumeFunc func(forEver bool) string

// waiting reports why a followed chain is quiet. Its mutex protects the chain and the output, which the reader of
// events shares.
type waiting struct {
	target
	f   *followFlags
	cmd *cobra.Command

	mu      sync.Mutex
	begun   time.Time
	last    time.Time // of an event
	reasons reasons.Latest
}

// watch reports why the chain is quiet, until ctx ends. It cancels the reading of a chain that must have an event and
// has none.
func (w *waiting) watch(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	lookedUp, reminded := time.Time{}, w.begun
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			w.mu.Lock()
			quiet, known := now.Sub(w.last), len(w.chain.Own()) > 0
			w.mu.Unlock()
			if quiet >= quietFor && now.Sub(lookedUp) >= whyEvery {
				w.reportReasons(ctx)
				lookedUp = time.Now()
			}
			if !known && w.f.mustBeKnown && now.Sub(w.begun) >= unknownAfter {
				w.reportReasons(ctx)
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

// reportReasons looks up why the chain is quiet, and prints new reasons.
func (w *waiting) reportReasons(ctx context.Context) {
	why, ok := w.lookUp(ctx)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	printReasons(w.f.people(w.cmd), w.reasons.New(why))
}

// printReasons prints why nothing moves.
func printReasons(out io.Writer, why []string) {
	for _, text := range why {
		printLine(out, "          waiting: %s", escape(text))
	}
}

// lookUp returns why the chain is quiet; false if it ran out of time.
func (w *waiting) lookUp(ctx context.Context) ([]string, bool) {
	w.mu.Lock()
	open := w.chain.Open()
	why, _ := w.chain.Progress(open, time.Now())
	q := w.work(open)
	w.mu.Unlock()
	if w.why == nil || len(open) == 0 {
		return why, true
	}
	ctx, cancel := context.WithTimeout(ctx, reasons.Timeout)
	defer cancel()
	why = append(why, w.why.Why(ctx, q)...)
	return why, ctx.Err() == nil
}

// work returns what the chain waits for.
func (w *waiting) work(open []events.Pending) reasons.Work {
	q := reasons.Work{Correlation: w.chain.Correlation, First: w.chain.Root, Functions: sendableNames(), Number: w.number}
	if w.function != "" {
		q.Functions = []string{w.function}
	}
	q.Add(open, writers())
	return q
}

func (w *waiting) remind(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	printLine(w.f.people(w.cmd), "          still open after %v: %s%s", now.Sub(w.begun).Round(time.Second),
		escape(chain.OpenText(w.chain.Open())), w.because(now))
}

// because returns the latest reasons, or the progress of the jobs; "" if nothing is known.
func (w *waiting) because(now time.Time) string {
	why := w.reasons
	if len(why) == 0 {
		_, why = w.chain.Progress(w.chain.Open(), now)
	}
	return becauseOf(why)
}

// becauseOf puts reasons behind a text; "" without any.
func becauseOf(why []string) string {
	if len(why) == 0 {
		return ""
	}
	return " (" + escape(strings.Join(why, "; ")) + ")"
}

// doubt describes why a chain that another process began may have no event.
func (w *waiting) doubt() string {
	if len(w.chain.Events()) == 0 {
		return "\nIts command may still wait, its events may be older than 30 days, or the id may be wrong."
	}
	return "\nThe chain has events, but none of this command with this data: it may still wait, " +
		"or --command or --digest is wrong.\n" +
		"To see them: " + programName() + " trace " + quoted(w.chain.Correlation) + kept(w.cmd, placeFlags...)
}

// unknown returns the error of a chain whose end is not known, with the reason and the way to continue.
func (w *waiting) unknown(open []events.Pending, err error) error {
	interrupted := w.cmd.Context().Err() != nil
	timedOut := w.f.timeout > 0 && errors.Is(err, context.DeadlineExceeded)
	if timedOut && !interrupted {
		if reasons, ok := w.lookUp(w.cmd.Context()); ok {
			w.reasons = reasons
		}
	}
	reason, hint, more := "reading its events ended", "", ""
	if err != nil {
		reason = err.Error()
	}
	switch {
	case interrupted && len(w.chain.Own()) == 0 && w.function == "": // it may be no chain at all
		reason, hint = "interrupted", w.doubt()
	case interrupted:
		reason = "interrupted"
		more = "\nThe chain continues without this program. To stop further writes: " + programName() +
			" freeze --reason WHY" + kept(w.cmd, placeFlags...)
	case errors.Is(err, errNoEvent):
		hint = w.doubt()
	case timedOut && len(w.chain.Own()) == 0:
		reason = fmt.Sprintf("no event after %v", w.f.timeout)
		if w.function == "" { // the command was not sent by this process
			hint = w.doubt()
		}
	case timedOut:
		reason = fmt.Sprintf("still running after %v", w.f.timeout)
	}
	return &exitError{exitUnknown,
		fmt.Errorf("how chain %s ended is not known: %s%s%s\nStill open: %s\nTo continue waiting: %s%s",
			w.chain.Correlation, reason, w.because(time.Now()), hint, escape(chain.OpenText(open)),
			w.resume(len(w.chain.Own()) == 0), more)}
}
