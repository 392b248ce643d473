package chain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"recompose/events"
)

// describeRollout puts an event of a rollout into words.
func describeRollout(typ string, r events.Rollout) []string {
	what := strings.TrimSuffix(strings.TrimPrefix(typ, "recompose.event.rollout."), ".v1")
	text := "rollout " + r.Name + " "
	switch typ {
	case events.TypeRolloutTargetsKept:
		return []string{"a page of the targets of rollout " + r.Name + " is kept"}
	case events.TypeRolloutRejected:
		return []string{text + "rejected: " + r.Reason}
	case events.TypeRolloutBatchCompleted:
		return describeBatch(r)
	case events.TypeRolloutWaveStarted, events.TypeRolloutWaveCompleted:
		return []string{text + describeWave(r.Wave, what == "wave.started")}
	case events.TypeRolloutPlanned:
		text += "planned: " + stateCounts(r.Counts)
		if !r.Until.IsZero() {
			text += "; it waits for approval until " + r.Until.Local().Format("2006-01-02 15:04")
		}
		text += "; digest " + r.Digest
	case events.TypeRolloutHalted:
		text += fmt.Sprintf("halted (%s): %s", r.Why, r.Reason)
		lines := []string{text}
		for _, d := range r.Desktops {
			lines = append(lines, "desktop "+rolloutDesktop(d))
		}
		return lines
	case events.TypeRolloutCompleted, events.TypeRolloutAborted, events.TypeRolloutRolledBack:
		text += strings.ReplaceAll(what, "_", " ") + ": " + stateCounts(r.Counts)
	default:
		text += what
	}
	if r.Reason != "" {
		text += "; " + r.Reason
	}
	if r.By != "" {
		text += " (by " + r.By + ")"
	}
	if r.Wave != nil {
		text += fmt.Sprintf(" (wave %d)", r.Wave.Number)
	}
	return []string{text}
}

func describeWave(w *events.RolloutWave, started bool) string {
	if w == nil {
		return "a wave"
	}
	name := fmt.Sprintf("wave %d of %d (%s, %s) ", w.Number, w.Of, w.Kind, Count(w.Size, "desktop"))
	if started {
		return name + "started"
	}
	return name + "completed: " + stateCounts(w.Counts)
}

// describeBatch has a line for the batch, and one for each desktop that failed or whose outcome is not known.
func describeBatch(r events.Rollout) []string {
	if r.Batch == nil {
		return []string{"rollout " + r.Name + " a batch ended"}
	}
	counts := map[string]int{}
	lines := []string{""}
	for _, d := range r.Batch.Desktops {
		counts[d.State]++
		if d.State == "failed" || d.State == "missing" || d.State == "unverified" || d.State == "unknown" {
			lines = append(lines, "desktop "+rolloutDesktop(d))
		}
	}
	lines[0] = fmt.Sprintf("rollout %s batch %d ended: %s", r.Name, r.Batch.Number, stateCounts(counts))
	return lines
}

func rolloutDesktop(d events.RolloutDesktop) string {
	text := d.DesktopID + ": " + strings.ReplaceAll(d.State, "_", " ")
	for _, part := range []string{d.Code, d.Reason} {
		if part != "" {
			text += ", " + part
		}
	}
	return text
}

// stateCounts lists numbers of desktops by state, the greatest first.
func stateCounts(counts map[string]int) string {
	states := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
	var parts []string
	for _, s := range states {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], strings.ReplaceAll(s, "_", " ")))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "no desktop")
}
