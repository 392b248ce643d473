package reasons

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"recompose/shared/chain"
	"recompose/shared/queue/natsqueue"
)

// heldWriteReasons returns why workers begin no write, one text for each kind of reason.
func heldWriteReasons(workers []natsqueue.WorkerStatus, now time.Time) (why []string) {
	byKind := [6][]string{}
	for _, w := range workers {
		for kind, text := range heldWrites(w, now) {
			byKind[kind] = append(byKind[kind], text)
		}
	}
	for _, texts := range byKind {
		why = appendText(why, firstReason(texts))
	}
	return why
}

// heldWrites returns why a worker begins no write, with "" for each kind of reason that it does not have.
func heldWrites(w natsqueue.WorkerStatus, now time.Time) (texts [6]string) {
	noWrite := fmt.Sprintf("worker %s begins no write", w.Worker)
	if w.Frozen != nil {
		texts[0] = frozenText(*w.Frozen, now)
	}
	if w.Ledger != nil && w.Ledger.Accept != "" {
		texts[1] = lostText(w.Ledger.Reason, w.Ledger.Accept)
	} else if w.Ledger != nil {
		texts[2] = noWrite + ", because it does not know whether the ledger has all its records: " + w.Ledger.Reason
	}
	if w.Lists != "" {
		texts[3] = noWrite + ", because it cannot read a list of desktops: " + w.Lists
	}
	if w.Service != "" {
		texts[4] = noWrite + ": " + w.Service
	}
	if w.FreezeUnknown != "" {
		texts[5] = noWrite + ", because it cannot read whether writes are frozen: " + w.FreezeUnknown
	}
	return texts
}

func lostText(reason, accept string) string {
	return fmt.Sprintf("no write begins, because the ledger has lost records: %s. Bring the whole ledger back, or "+
		"accept the loss: %s", reason, accept)
}

// firstReason returns the first of the reasons of workers, with the number of workers that have one; "" if none has. A
// reason that names no worker is the same for all.
func firstReason(texts []string) string {
	first, n, same := "", 0, true
	for _, text := range texts {
		if text == "" {
			continue
		}
		n++
		first = cmp.Or(first, text)
		same = same && text == first
	}
	if n > 1 && !same {
		first += fmt.Sprintf(" (and %d of %d workers in all)", n, len(texts))
	}
	return first
}

// waiting returns why workers have delayed commands of the chain: one text for each function and reason.
func (q Work) waiting(workers []natsqueue.WorkerStatus) (why []string) {
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
			subject = commandsWait(n, g.function)
		}
		why = append(why, fmt.Sprintf("%s until %s: %s", subject, next[g].Local().Format("15:04:05"), g.reason))
	}
	return why
}

// commandsWait returns "1 rebuild command waits", "2 rebuild commands wait".
func commandsWait(n int, function string) string {
	text := chain.Count(n, function+" command") + " wait"
	if n == 1 {
		return text + "s"
	}
	return text
}

// waitsFor reports whether the chain waits for a delayed message.
func (q Work) waitsFor(w natsqueue.WorkerWait) bool {
	if q.Whole {
		return true
	}
	if q.First.Digest != "" && w.Message == q.First.ID && w.Command.Digest != q.First.Digest {
		return false // other data under the same id
	}
	return q.Unanswered && q.First.ID == "" || slices.Contains(q.Open, w.Message) || slices.Contains(q.Open, w.Command.ID)
}

func stoppedText(workers []natsqueue.WorkerStatus, now time.Time) string {
	texts := make([]string, len(workers))
	for i, w := range workers {
		if w.Stopped == nil {
			continue
		}
		what := "it takes no messages"
		if w.Stopped.KeyRefused {
			what = "the service refuses its credentials, and it takes no messages"
		}
		since := chain.Clock(w.Stopped.Since, now)
		texts[i] = fmt.Sprintf("worker %s: %s since %s: %s", w.Worker, what, since, w.Stopped.Reason)
	}
	return firstReason(texts)
}

// unreachedText returns which worker the service does not answer.
func unreachedText(workers []natsqueue.WorkerStatus, now time.Time) string {
	texts := make([]string, len(workers))
	for i, w := range workers {
		if u := w.Unreached; u != nil {
			texts[i] = fmt.Sprintf("worker %s cannot reach the Workspace service since %s: %s", w.Worker,
				chain.Clock(u.Since, now), u.Reason)
		}
	}
	return firstReason(texts)
}

// throttledText returns how the service slows calls down.
func throttledText(workers []natsqueue.WorkerStatus, now time.Time) string {
	texts := make([]string, len(workers))
	for i, w := range workers {
		if len(w.Throttled) == 0 {
			continue
		}
		t, why := w.Throttled[0], "the service slows calls down"
		switch t.Status {
		case http.StatusTooManyRequests:
			why = "the service throttles"
		case http.StatusServiceUnavailable:
			why = "the service is not available (503)"
		}
		texts[i] = fmt.Sprintf("%s: worker %s makes at most %.0f %s a minute, and some wait", why, w.Worker, t.PerMinute, t.Calls)
		if t.Until.After(now) {
			texts[i] = fmt.Sprintf("%s: worker %s makes no %s until %s", why, w.Worker, t.Calls, t.Until.Local().Format("15:04:05"))
		}
	}
	return firstReason(texts)
}
