package natsqueue

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/queue"
)

// WorkerWait is a message that a worker has delayed, and why.
type WorkerWait struct {
	Message string            `json:"message"` // id of the command, or of the event that implies it
	Command events.CommandRef `json:"command"`
	Next    time.Time         `json:"next"` // when it is handled next, by the server's clock
	Reason  string            `json:"reason"`
}

const (
	mostWaits    = 10000 // the most delayed messages that are kept
	mostAnswered = 20    // the most messages of one chain in an answer
	mostReason   = 400   // bytes of a reason
)

// statusRequest is the request to the workers; an empty one names no chain.
type statusRequest struct {
	Correlation string `json:"correlationid,omitempty"`
}

func requestedChain(data []byte) string {
	var r statusRequest
	if json.Unmarshal(data, &r) != nil {
		return ""
	}
	return r.Correlation
}

// waits keeps why the messages that this worker has delayed wait, each until its time.
type waits struct {
	mu sync.Mutex
	of map[string]wait // by the identity of the command with its data
}

type wait struct {
	WorkerWait
	correlation string
}

// note records a delayed message and its reason, or removes its record if there is no reason.
func (w *waits) note(d *queue.Delay, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.Reason == "" {
		delete(w.of, d.Identity)
		return
	}
	if len(w.of) >= mostWaits {
		for id, old := range w.of {
			if old.Next.Before(now) {
				delete(w.of, id)
			}
		}
	}
	if _, known := w.of[d.Identity]; !known && len(w.of) >= mostWaits {
		return
	}
	w.of[d.Identity] = wait{
		WorkerWait:  WorkerWait{Message: d.Envelope.ID, Command: d.Command, Next: now.Add(d.After).UTC(), Reason: events.Shorten(d.Reason, mostReason)},
		correlation: d.Envelope.Correlation,
	}
}

// in returns the delayed messages of a chain whose time has not come, the next one first.
func (w *waits) in(correlation string, now time.Time) []WorkerWait {
	if correlation == "" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []WorkerWait
	for _, wait := range w.of {
		if wait.correlation == correlation && wait.Next.After(now) {
			found = append(found, wait.WorkerWait)
		}
	}
	slices.SortFunc(found, func(a, b WorkerWait) int { return a.Next.Compare(b.Next) })
	return found[:min(len(found), mostAnswered)]
}
