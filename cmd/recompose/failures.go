package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"recompose/events"
)

// Limits of what is printed for people of failures that have the same reason. --json prints all of them.
const (
	maxDetails  = 5  // lines about single desktops
	maxReasons  = 20 // lines of a summary about reasons and single desktops
	maxAlike    = 3  // commands that failed for the same reason
	allFailures = "--failed-to FILE writes all of them, with reasons; --json prints every event"
)

// reason is why some desktops failed.
type reason struct {
	desktops []failedDesktop
	texts    map[string]bool // reasons that differ in nothing but ids
}

// reasonsOf groups desktops by why they failed, the largest group first.
func reasonsOf(failed []failedDesktop) []*reason {
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

// lines are each desktop, or where there are many, the reason with some of them.
func (r *reason) lines() []string {
	var lines []string
	if len(r.desktops) <= maxDetails {
		for _, d := range r.desktops {
			lines = append(lines, d.String())
		}
		return lines
	}
	line := count(len(r.desktops), "desktop") + ": " + r.desktops[0].why()
	if len(r.texts) > 1 {
		line += fmt.Sprintf(" (one of %d reasons that differ in ids alone)", len(r.texts))
	}
	var ids []string
	for _, d := range r.desktops[:maxAlike] {
		ids = append(ids, d.DesktopID)
	}
	return []string{line, fmt.Sprintf("  %s and %d more", strings.Join(ids, ", "), len(r.desktops)-maxAlike)}
}

// failureLines are the failures of a chain for people: a large fleet that was refused is summed up, with a line on where
// all of them are.
func failureLines(r result, all string) []string {
	var lines []string
	left := 0
	cut := false
	for _, why := range reasonsOf(r.Failed) {
		if len(lines) >= maxReasons {
			left += len(why.desktops)
			continue
		}
		cut = cut || len(why.desktops) > maxDetails
		lines = append(lines, why.lines()...)
	}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("and %s for other reasons", count(left, "desktop")))
	}
	if all != "" && (cut || left > 0) {
		lines = append(lines, "  "+all)
	}
	return append(lines, r.Problems...)
}

// printFailures prints them below a summary, each line at most so wide; 0: as it comes.
func printFailures(w io.Writer, r result, all string, width int) {
	for _, line := range failureLines(r, all) {
		head := "  FAILED  "
		if rest, more := strings.CutPrefix(line, "  "); more {
			head, line = "          ", rest
		}
		say(w, "%s", wrapped(head, foreign(line), len(head), width))
	}
}

// shortened are the lines of an event without most of those about single desktops that failed. all is where all are;
// "" for nowhere.
func shortened(e events.Envelope, all string) []string {
	lines := describe(e)
	if e.Type == events.TypeImagesChecked {
		var c events.ImagesChecked
		if json.Unmarshal(e.Data, &c) != nil || c.Expected == nil { // the lines are the answer
			return lines
		}
	}
	if more := len(lines) - 1 - maxDetails; more > 0 {
		lines = append(lines[:1+maxDetails:1+maxDetails], fmt.Sprintf("and %d more%s", more, all))
	}
	return lines
}

// alike counts commands that failed for the same reason and had no effect, of which only some are printed.
type alike map[string]int

// hides reports whether an event is one of too many.
func (a alike) hides(e events.Envelope) bool {
	var f events.CommandFailed
	if e.Type != events.TypeCommandFailed || json.Unmarshal(e.Data, &f) != nil || f.Effect != events.EffectNone {
		return false
	}
	key := fmt.Sprintf("%s failed (%s)", functionOf(f.Command.Type), strings.TrimSpace(f.Error.Kind+" "+f.Error.ErrorCode))
	a[key]++
	return a[key] > maxAlike
}

// print prints how many were not printed.
func (a alike) print(w io.Writer) {
	for _, key := range slices.Sorted(maps.Keys(a)) {
		if more := a[key] - maxAlike; more > 0 {
			say(w, "%*s  %s: %d more, not shown; --json shows each", len("15:04:05"), "", foreign(key), more)
		}
	}
}
