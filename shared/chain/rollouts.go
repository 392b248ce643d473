package chain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"recompose/events"
)

// describeRollout describes an event of a rollout; nil if its data cannot be read.
func describeRollout(e events.Envelope) []string {
	var r events.Rollout
	if json.Unmarshal(e.Data, &r) != nil {
		return nil
	}
	what := strings.TrimSuffix(strings.TrimPrefix(e.Type, "recompose.event.rollout."), ".v1")
	words := strings.NewReplacer("_", " ", ".", " ").Replace(strings.TrimPrefix(what, "wave."))
	line := fmt.Sprintf("rollout %s: %s", r.Name, words)
	if w := r.Wave; w != nil {
		line = fmt.Sprintf("rollout %s, wave %d of %d (%s): %s", r.Name, w.Number, w.Of, w.Kind, words)
	}
	if b := r.Batch; b != nil {
		counts := map[string]int{}
		for _, d := range b.Desktops {
			counts[d.State]++
		}
		line += fmt.Sprintf(" (batch %d, attempt %d): %s", b.Number, b.Attempt, CountsText(counts))
	}
	counts := ": "
	if r.Reason != "" { // what a person needs first
		line, counts = line+": "+r.Reason, "; "
	}
	if r.By != "" {
		line += ", by " + r.By
	}
	if r.Batch == nil && len(r.Counts) > 0 {
		line += counts + CountsText(r.Counts)
	}
	if r.Digest != "" && strings.HasPrefix(what, "planned") {
		line += "; plan " + r.Digest
	}
	lines := []string{line}
	failed := r.Desktops
	if r.Batch != nil {
		failed = nil
		for _, d := range r.Batch.Desktops {
			if slices.Contains(failedStates, d.State) {
				failed = append(failed, d)
			}
		}
	}
	for _, d := range failed {
		why := strings.TrimSpace(d.Code + " " + d.Reason)
		lines = append(lines, strings.TrimRight(fmt.Sprintf("desktop %s: %s: %s", d.DesktopID, d.State, why), ": "))
	}
	return lines
}

// failedStates are those of desktops that count as failed.
var failedStates = []string{"failed", "missing", "unverified", "unknown"}

// endOfRollout is the last event in which a rollout has ended; nil if there is none.
func endOfRollout(own []events.Envelope) *events.Envelope {
	for i := range slices.Backward(own) {
		e := &own[i]
		switch e.Type {
		case events.TypeRolloutCompleted, events.TypeRolloutAborted, events.TypeRolloutRolledBack:
			if e.Answered().Type == events.TypeRolloutStart {
				return e
			}
		}
	}
	return nil
}

// resultOfRollout is the result of a rollout that has ended, by its own events: its batches are retried and rolled back, so
// what their commands have ended in is not the result.
func resultOfRollout(own []events.Envelope, end events.Envelope) Result {
	var ended events.Rollout
	_ = json.Unmarshal(end.Data, &ended) // without counts there is nothing to show
	r := Result{Counts: ended.Counts}
	batches := slices.Clone(own)
	slices.SortStableFunc(batches, func(a, b events.Envelope) int { return a.Time.Compare(b.Time) })
	last := map[string]events.RolloutDesktop{}
	for _, e := range batches {
		var of events.Rollout
		if e.Type == events.TypeRolloutBatchCompleted && json.Unmarshal(e.Data, &of) == nil && of.Batch != nil {
			for _, d := range of.Batch.Desktops {
				last[d.DesktopID] = d
			}
		}
		var job events.JobCompleted
		if e.Type == events.TypeJobCompleted && json.Unmarshal(e.Data, &job) == nil && job.Image != nil {
			r.Image = job.Image
		}
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		if d := last[id]; slices.Contains(failedStates, d.State) {
			r.fail(FailedDesktop{id, d.State, d.Code, d.Reason})
		}
	}
	more := -len(r.Failed)
	for _, state := range failedStates {
		more += ended.Counts[state]
	}
	if more > 0 {
		r.Problems = append(r.Problems, fmt.Sprintf("rollout %s: %s failed whose events are not stored any more; recompose rollout "+
			"status %s names them", ended.Name, Count(more, "desktop"), ended.Name))
	}
	if end.Type == events.TypeRolloutAborted {
		r.rolloutEnded(end)
	}
	return r
}

// states are the states of desktops in the order in which texts name them.
var states = []string{
	"done", "rolled_back", "sent", "pending", "deferred", "failed", "missing", "unverified", "unknown", "skipped", "refused", "excluded",
}

// CountsText describes numbers of desktops by state: "9 done, 1 failed".
func CountsText(counts map[string]int) string {
	var parts []string
	for _, state := range states {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(state, "_", " ")))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "no desktop")
}
