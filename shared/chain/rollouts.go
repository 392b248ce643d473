package chain

import (
	"cmp"
	"encoding/json"
	"fmt"
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
			if slices.Contains([]string{"failed", "missing", "unverified", "unknown"}, d.State) {
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
