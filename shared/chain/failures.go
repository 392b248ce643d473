package chain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"recompose/events"
)

// Limits of what is shown of failures that have the same reason.
const (
	MaxDetails = 5  // lines about single desktops
	maxReasons = 20 // lines of a summary about reasons and single desktops
	MaxAlike   = 3  // commands that failed for the same reason
)

// reason groups desktops that failed for the same reason.
type reason struct {
	desktops []FailedDesktop
	texts    map[string]bool // they differ in ids only
}

// reasonsOf groups desktops by reason, the largest group first.
func reasonsOf(failed []FailedDesktop) []*reason {
	ids := make(map[string]bool, len(failed))
	for _, d := range failed {
		ids[d.DesktopID] = true
	}
	byKey := map[string]*reason{}
	var all []*reason
	for _, d := range failed {
		words := strings.Fields(d.FailReason)
		for i, w := range words {
			if ids[strings.Trim(w, `.,:;"'()[]`)] {
				words[i] = ""
			}
		}
		key := strings.Join(append(words, d.Outcome, d.ErrorCode), "\n")
		r := byKey[key]
		if r == nil {
			r = &reason{texts: map[string]bool{}}
			byKey[key], all = r, append(all, r)
		}
		r.desktops, r.texts[d.FailReason] = append(r.desktops, d), true
	}
	slices.SortStableFunc(all, func(a, b *reason) int { return len(b.desktops) - len(a.desktops) })
	return all
}

// lines returns one line for each desktop, or a summary if there are more than MaxDetails.
func (r *reason) lines() []string {
	var lines []string
	if len(r.desktops) <= MaxDetails {
		for _, d := range r.desktops {
			lines = append(lines, d.String())
		}
		return lines
	}
	line := Count(len(r.desktops), "desktop") + ": " + r.desktops[0].why()
	if len(r.texts) > 1 {
		line += fmt.Sprintf(" (one of %d reasons that differ only in ids)", len(r.texts))
	}
	var ids []string
	for _, d := range r.desktops[:MaxAlike] {
		ids = append(ids, d.DesktopID)
	}
	return []string{line, fmt.Sprintf("  %s and %d more", strings.Join(ids, ", "), len(r.desktops)-MaxAlike)}
}

// FailureLines describes the failures, with a summary for many desktops that failed for the same reason. A line that
// begins with two spaces continues the one before. The text all is added if desktops are left out; it names where all
// of them are.
func (r Result) FailureLines(all string) []string {
	var lines []string
	left := 0
	cut := false
	for _, why := range reasonsOf(r.Failed) {
		if len(lines) >= maxReasons {
			left += len(why.desktops)
			continue
		}
		cut = cut || len(why.desktops) > MaxDetails
		lines = append(lines, why.lines()...)
	}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("and %s for other reasons", Count(left, "desktop")))
	}
	if all != "" && (cut || left > 0) {
		lines = append(lines, "  "+all)
	}
	return append(lines, r.Problems...)
}

// Shortened is Describe with at most MaxDetails lines about desktops that failed. The text all follows the number of
// lines left out.
func Shortened(e events.Envelope, all string) []string {
	lines := Describe(e)
	if e.Type == events.TypeImagesChecked {
		var c events.ImagesChecked
		if json.Unmarshal(e.Data, &c) != nil || c.Expected == nil { // the lines are the result
			return lines
		}
	}
	if more := len(lines) - 1 - MaxDetails; more > 0 {
		lines = append(lines[:1+MaxDetails:1+MaxDetails], fmt.Sprintf("and %d more%s", more, all))
	}
	return lines
}

// Alike counts commands that failed for the same reason without effect, of which only MaxAlike are shown.
type Alike map[string]int

// Hides counts an event and reports whether it is not shown.
func (a Alike) Hides(e events.Envelope) bool {
	var f events.CommandFailed
	if e.Type != events.TypeCommandFailed || json.Unmarshal(e.Data, &f) != nil || f.Effect != events.EffectNone {
		return false
	}
	key := fmt.Sprintf("%s failed (%s)", FunctionOf(f.Command.Type), strings.TrimSpace(f.Error.Kind+" "+f.Error.ErrorCode))
	a[key]++
	return a[key] > MaxAlike
}

// Lines reports how many commands were not shown, one line a reason.
func (a Alike) Lines() (lines []string) {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if more := a[key] - MaxAlike; more > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d more, not shown; --json shows each", key, more))
		}
	}
	return lines
}
