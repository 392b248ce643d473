package main

import (
	"fmt"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/queue/natsqueue"
)

// heldWrites is why workers begin no write.
func heldWrites(workers []natsqueue.WorkerStatus, now time.Time) (why []string) {
	for _, reason := range []func(natsqueue.WorkerStatus) string{
		func(w natsqueue.WorkerStatus) string { // the same for all
			if w.Frozen == nil {
				return ""
			}
			return frozenText(ledger.Freeze{Reason: w.Frozen.Reason, By: w.Frozen.By, At: w.Frozen.At}, now)
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
			if w.Unknown == "" {
				return ""
			}
			return fmt.Sprintf("worker %s begins no write, because it cannot read whether writes are frozen: %s", w.Worker, w.Unknown)
		},
	} {
		why = appendText(why, ofWorkers(workers, reason))
	}
	return why
}

func lostText(reason, accept string) string {
	return fmt.Sprintf("no write begins, because the ledger has lost records: %s. Bring the whole ledger back, or accept the loss: %s", reason, accept)
}

// ofWorkers is the reason of the first worker that has it, and how many more do; "" where none does. A reason that names
// no worker is the same for all.
func ofWorkers(workers []natsqueue.WorkerStatus, reason func(natsqueue.WorkerStatus) string) string {
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

func stoppedText(workers []natsqueue.WorkerStatus, now time.Time) string {
	stopped, text := 0, ""
	for _, w := range workers {
		s := w.Stopped
		if s == nil {
			continue
		}
		stopped++
		what := "it takes no messages"
		if s.KeyRefused {
			what = "the service refuses its access key, and it takes no messages"
		}
		text = fmt.Sprintf("worker %s: %s since %s: %s", w.Worker, what, clockText(s.Since, now), s.Reason)
	}
	if stopped > 1 {
		text += fmt.Sprintf(" (and %d of %d workers in all)", stopped, len(workers))
	}
	return text
}

func throttledText(workers []natsqueue.WorkerStatus, now time.Time) string {
	for _, w := range workers {
		if len(w.Throttled) == 0 {
			continue
		}
		t := w.Throttled[0]
		if t.Until.After(now) {
			return fmt.Sprintf("the service throttles: worker %s makes no %s until %s", w.Worker, t.Calls, t.Until.Local().Format("15:04:05"))
		}
		return fmt.Sprintf("the service throttles: worker %s makes at most %.0f %s a minute", w.Worker, t.PerMinute, t.Calls)
	}
	return ""
}
