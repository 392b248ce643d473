// Package reasons finds out why a chain is quiet: writes are frozen, no worker runs, the service throttles and the like.
//
// A [Work] describes what the chain waits for; [NATS] and [AWS] find the reasons on the two transports.
package reasons

import (
	"context"
	"fmt"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/safety"
)

// Finder finds out why a chain is quiet. A lookup that fails is reported too, with the right that is missing.
type Finder interface {
	Why(ctx context.Context, q Work) []string
}

// Timeout bounds a lookup of reasons.
const Timeout = 5 * time.Second

// Work describes what a quiet chain waits for.
type Work struct {
	Correlation string
	First       events.Root // without ID if not known
	Functions   []string    // those that the first command may be for
	Number      uint64      // of the first command in the stream of commands; 0 if not known

	Open       []string // ids of commands and events that are not answered
	Whole      bool     // everything of the chain that waits counts, whatever is open
	Unanswered bool     // the first command has no answer yet
	Write      bool     // what it waits for may be a write that has not begun
}

// Add adds what the chain waits for. writes are the functions that write.
func (q *Work) Add(open []events.Pending, writes []string) {
	for _, p := range open {
		q.Open = append(q.Open, p.ID)
		isWrite := func(function string) bool { return slices.Contains(writes, function) }
		switch {
		case p.JobID != "":
		case p.Function == "": // the first command
			q.Unanswered = true
			q.Write = q.Write || slices.ContainsFunc(q.Functions, isWrite)
		default:
			q.Write = q.Write || isWrite(p.Function)
		}
	}
}

// Latest are the reasons that a person was shown last.
type Latest []string

// New returns those of the reasons that were not shown last. All of them take their place.
func (l *Latest) New(why []string) (fresh []string) {
	for _, text := range why {
		if !slices.Contains(*l, text) {
			fresh = append(fresh, text)
		}
	}
	*l = why
	return fresh
}

func frozenText(f safety.Freeze, now time.Time) string {
	return fmt.Sprintf("writes are frozen since %s by %s: %s", chain.Clock(f.At, now), f.By, f.Reason)
}
