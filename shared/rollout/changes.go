package rollout

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
)

// Change is something that happened to a rollout: an event with its data, or a text.
type Change struct {
	At   time.Time
	Type string
	Data json.RawMessage
	Text string
}

// Changes finds what is new in each view of one rollout.
type Changes struct {
	Since int // events up to this revision are not new

	seen    map[string]bool
	waiting string
	last    time.Time // of the newest change
}

// Of returns what is new, the oldest first.
func (c *Changes) Of(v *View) []Change {
	first := c.seen == nil
	if first {
		c.seen = map[string]bool{}
	}
	var changes []Change
	isNew := func(key string) bool {
		was := c.seen[key]
		c.seen[key] = true
		return !was
	}
	// The batches come first: what ends with them in the same step follows them.
	for _, b := range v.Batches {
		if b == nil || b.State != Ended {
			continue
		}
		if isNew(fmt.Sprint(b.N, b.Attempt, b.Since.UnixNano())) && !first {
			data := events.Rollout{Name: v.Name, Batch: &events.RolloutBatch{Number: b.N + 1, Attempt: b.Attempt}}
			for _, r := range b.Rows {
				if r.State == moved && strings.HasPrefix(r.By, deferredMove) {
					r.State = Deferred // as the batch ended
				}
				data.Batch.Desktops = append(data.Batch.Desktops, r.desktop())
			}
			raw, _ := json.Marshal(data) // our own types
			changes = append(changes, Change{At: b.Since, Type: events.TypeRolloutBatchCompleted, Data: raw})
		}
	}
	for _, e := range v.Log {
		var data events.Rollout
		_ = json.Unmarshal(e.Data, &data) // without a revision it counts as new
		if isNew(e.ID) && (data.Revision == 0 || data.Revision > c.Since) {
			changes = append(changes, Change{At: e.Time, Type: e.Type, Data: e.Data})
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return a.At.Compare(b.At) })
	if n := len(changes); n > 0 && changes[n-1].At.After(c.last) {
		c.last = changes[n-1].At
	}
	if w := v.Waiting; w != nil && w.Text != c.waiting {
		text := "waits: " + w.Text
		if !w.Until.IsZero() {
			text += ", until " + w.Until.Local().Format("2006-01-02 15:04:05")
		}
		at := w.Since // a batch that is waited for may have begun before what was shown last
		if c.last.After(at) {
			at = c.last
		}
		changes = append(changes, Change{At: at, Text: strings.TrimSpace(text)})
	}
	if c.waiting = ""; v.Waiting != nil {
		c.waiting = v.Waiting.Text
	}
	return changes
}
