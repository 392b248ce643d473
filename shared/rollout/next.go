package rollout

import (
	"fmt"
	"strings"
)

// NextCommand is a command of the program that makes sense now: its words, and what it does.
type NextCommand struct {
	Words []string `json:"words"` // behind the name of the program
	Does  string   `json:"does"`
}

// next are the commands that make sense now, the most likely one first.
func (h *Head) next() []NextCommand {
	var all []NextCommand
	add := func(does, verb string, flags ...string) {
		all = append(all, NextCommand{append([]string{"rollout", verb, h.Name}, flags...), does})
	}
	counts := h.Counts()
	switch {
	case h.Offer != nil:
		add("approves the "+verbOf(h.Offer.Verb)+" that waits", "approve", "--plan-sha256", h.Offer.Digest)
	case h.Phase == Planned && h.PlanOnly:
		all = append(all, NextCommand{[]string{"rollout", "start", "-f", "FILE"}, "plans anew and runs it"})
		return all
	case h.Phase == Planned:
		add("approves this plan", "approve", "--plan-sha256", h.Digest)
	}
	failed := counts[Failed] + counts[Missing] + counts[Unverified]
	free := h.Offer == nil && h.Queued == nil
	switch h.Phase {
	case Running, RollingBack:
		if w := h.Spec.Window; w != nil && h.NeedsPerson() {
			flags := []string{"--window-from", w.From, "--window-to", "HH:MM", "--window-timezone", w.Timezone}
			if len(w.Days) > 0 {
				flags = append(flags, "--window-days", strings.Join(w.Days, ","))
			}
			add("makes the window longer", "set", flags...)
		}
		if wave := h.current(); wave >= 0 && !h.Waves[wave].Ended.IsZero() {
			add("ends the soak of the wave", "promote")
		}
		add("begins no further batch until resume", "pause", "--reason", "TEXT")
	case Paused:
		if h.Queued == nil {
			add("goes on", "resume")
		}
	case Halted:
		if failed > 0 && free {
			add("rebuilds the desktops that failed once more", "retry")
		}
		if h.Why == "no_room" { // those that are accepted use it up all the same
			more := h.Spec.Strategy.MaxUnavailable + counts[Failed] + counts[Unverified] + counts[Unknown]
			add("makes room beside the desktops that failed; resume goes on then", "set", "--max-unavailable", fmt.Sprint(more))
		}
		add("accepts the failures so far and goes on", "resume", "--accept-failed", fmt.Sprint(counts.failed()))
	case Completed:
		if failed > 0 && free {
			add("rebuilds the desktops that failed once more", "retry")
		}
	}
	if counts[Done] > 0 && h.Phase != RollingBack && h.Phase != Aborting && free {
		add("brings each desktop back to its earlier image", "rollback")
	}
	if !Over(h.Phase) && h.Phase != Aborting {
		add("ends it; what was rebuilt stays so", "abort", "--reason", "TEXT")
	}
	return all
}
