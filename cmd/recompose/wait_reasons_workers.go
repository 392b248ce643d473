package main

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"recompose/shared/chain"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
)

// heldWriteReasons returns why workers begin no write.
func heldWriteReasons(workers []natsqueue.WorkerStatus, now time.Time) (why []string) {
	for _, reason := range []func(natsqueue.WorkerStatus) string{
		func(w natsqueue.WorkerStatus) string { // the same for all
			if w.Frozen == nil {
				return ""
			}
			return frozenText(safety.Freeze{Reason: w.Frozen.Reason, By: w.Frozen.By, At: w.Frozen.At}, now)
		},
		func(w natsqueue.WorkerStatus) string { // the same for all
			if w.Ledger == nil || w.Ledger.Accept == "" {
				return ""
			}
			return lostText(w.Ledger.Reason, w.Ledger.Accept)
		},
		func(w natsqueue.WorkerStatus) string {
			if w.Ledger == nil || w.Ledger.Accept != "" {
				return ""
			}
			return fmt.Sprintf("worker %s begins no write, because it does not know whether the ledger has all its records: %s",
				w.Worker, w.Ledger.Reason)
		},
		func(w natsqueue.WorkerStatus) string {
			if w.Lists == "" {
				return ""
			}
			return fmt.Sprintf("worker %s begins no write, because it cannot read a list of desktops: %s", w.Worker, w.Lists)
		},
		func(w natsqueue.WorkerStatus) string {
			if w.Service == "" {
				return ""
			}
			return fmt.Sprintf("worker %s begins no write: %s", w.Worker, w.Service)
		},
		func(w natsqueue.WorkerStatus) string {
			if w.Unknown == "" {
				return ""
			}
			return fmt.Sprintf("worker %s begins no write, because it cannot read whether writes are frozen: %s", w.Worker,
				w.Unknown)
		},
	} {
		why = appendText(why, firstReason(workers, reason))
	}
	return why
}

func lostText(reason, accept string) string {
	return fmt.Sprintf("no write begins, because the ledger has lost records: %s. Bring the whole ledger back, or "+
		"accept the loss: %s", reason, accept)
}

// firstReason returns the reason of the first worker that has one, with the number of workers that have one; "" if none
// has. A reason that names no worker is the same for all.
func firstReason(workers []natsqueue.WorkerStatus, reason func(natsqueue.WorkerStatus) string) string {
	text, n, same := "", 0, true
	for _, w := range workers {
		r := reason(w)
		if r == "" {
			continue
		}
		if n++; text == "" {
			text = r
		}
		same = same && r == text
	}
	if n > 1 && !same {
		text += fmt.Sprintf(" (and %d of %d workers in all)", n, len(workers))
	}
	return text
}

// waiting returns why workers have delayed commands of the chain: one text for each function and reason.
func (q openWork) waiting(workers []natsqueue.WorkerStatus) (why []string) {
	type group struct{ function, reason string }
	var groups []group
	next, commands := map[group]time.Time{}, map[group]map[string]bool{}
	for _, worker := range workers {
		for _, w := range worker.Waiting {
			if !q.waitsFor(w) {
				continue
			}
			g := group{chain.FunctionOf(w.Command.Type), w.Reason}
			if commands[g] == nil {
				groups, commands[g], next[g] = append(groups, g), map[string]bool{}, w.Next
			}
			commands[g][w.Command.ID] = true
			if w.Next.Before(next[g]) {
				next[g] = w.Next
			}
		}
	}
	for _, g := range groups {
		subject := g.function + " waits"
		if n := len(commands[g]); n > 1 {
			subject = chain.Count(n, g.function+" command") + " wait"
		}
		why = append(why, fmt.Sprintf("%s until %s: %s", subject, next[g].Local().Format("15:04:05"), g.reason))
	}
	return why
}

// waitsFor reports whether the chain waits for a delayed message.
func (q openWork) waitsFor(w natsqueue.WorkerWait) bool {
	if q.first.Digest != "" && w.Message == q.first.ID && w.Command.Digest != q.first.Digest {
		return false // other data under the same id
	}
	return q.root && q.first.ID == "" || slices.Contains(q.open, w.Message) || slices.Contains(q.open, w.Command.ID)
}

func stoppedText(workers []natsqueue.WorkerStatus, now time.Time) string {
	return firstReason(workers, func(w natsqueue.WorkerStatus) string {
		s := w.Stopped
		if s == nil {
			return ""
		}
		what := "it takes no messages"
		if s.KeyRefused {
			what = "the service refuses its credentials, and it takes no messages"
		}
		return fmt.Sprintf("worker %s: %s since %s: %s", w.Worker, what, chain.Clock(s.Since, now), s.Reason)
	})
}

// throttledText returns how the service slows calls down.
func throttledText(workers []natsqueue.WorkerStatus, now time.Time) string {
	return firstReason(workers, func(w natsqueue.WorkerStatus) string {
		if len(w.Throttled) == 0 {
			return ""
		}
		t, why := w.Throttled[0], "the service slows calls down"
		switch t.Status {
		case http.StatusTooManyRequests:
			why = "the service throttles"
		case http.StatusServiceUnavailable:
			why = "the service is not available (503)"
		}
		if t.Until.After(now) {
			return fmt.Sprintf("%s: worker %s makes no %s until %s", why, w.Worker, t.Calls, t.Until.Local().Format("15:04:05"))
		}
		return fmt.Sprintf("%s: worker %s makes at most %.0f %s a minute, and some wait", why, w.Worker, t.PerMinute, t.Calls)
	})
}
