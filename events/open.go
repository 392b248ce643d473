package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Root is the command at which a chain begins.
type Root struct{ ID string }

// Pending is something a chain still waits for.
type Pending struct {
	ID       string // of the command, or of the job.accepted event of a job
	Function string // of a command that is implied or split off, or the one that began a job; "" for the root
	JobID    string // of a job
}

func (p Pending) String() string {
	switch {
	case p.JobID != "":
		return fmt.Sprintf("job %s of %s", p.JobID, p.Function)
	case p.Function != "":
		return fmt.Sprintf("%s command %s", p.Function, p.ID)
	default:
		return "command " + p.ID
	}
}

// Open tells what a chain still waits for; nothing means that it has ended. It is the one definition of an end:
//
//   - a command (the root, a part of a split, or one that an event implies) is open until an event has its id as its
//     causation;
//   - a job is open from job.accepted until an event has that event's id as its causation;
//   - a succeeded image job with a rebuild in then implies that rebuild; a rebuild in which any desktop succeeded
//     implies the check of its images.
//
// The events may come in any order, more than once, and mixed with those of other chains. The result does not depend
// on the order. Events whose data cannot be read imply nothing, and notices answer nothing.
func Open(root Root, events []Envelope) []Pending {
	caused := make(map[string][]int, len(events)) // causation → the events that have it
	seen := make(map[string]bool, len(events))
	for i, e := range events {
		if IsNotice(e.Type) {
			continue // whatever causation a sender gave it
		}
		if key := e.Identity(); !seen[key] {
			seen[key] = true
			caused[e.Causation] = append(caused[e.Causation], i)
		}
	}
	var open []Pending
	asked := map[string]bool{}
	todo := []Pending{{ID: root.ID}}
	for len(todo) > 0 {
		p := todo[0]
		todo = todo[1:]
		if asked[p.ID] {
			continue
		}
		asked[p.ID] = true
		if len(caused[p.ID]) == 0 {
			open = append(open, p)
		}
		for _, i := range caused[p.ID] {
			todo = append(todo, implied(events[i])...)
		}
	}
	slices.SortFunc(open, func(a, b Pending) int { return strings.Compare(a.ID, b.ID) })
	return open
}

// implied is what an event opens.
func implied(e Envelope) []Pending {
	switch e.Type {
	case TypeJobAccepted:
		var a JobAccepted
		_ = json.Unmarshal(e.Data, &a) // what cannot be read is still an accepted job
		return []Pending{{ID: e.ID, Function: a.Function, JobID: a.JobID}}
	case TypeCommandSplit:
		var s CommandSplit
		if json.Unmarshal(e.Data, &s) != nil {
			return nil
		}
		parts := make([]Pending, len(s.Parts))
		for i, part := range s.Parts {
			parts[i] = Pending{ID: part.ID, Function: FnRebuild}
		}
		return parts
	case TypeJobCompleted:
		var c JobCompleted
		if json.Unmarshal(e.Data, &c) != nil {
			return nil
		}
		switch {
		case c.ImpliesRebuild():
			return []Pending{{ID: ReactionID(e, FnRebuild), Function: FnRebuild}}
		case c.ImpliesCheck():
			return []Pending{{ID: ReactionID(e, FnCheckImages), Function: FnCheckImages}}
		}
	}
	return nil
}

// ImpliesRebuild reports whether the rebuild in then follows.
func (c JobCompleted) ImpliesRebuild() bool {
	return c.Function == FnDesktopToImage && c.Outcome == Succeeded && c.Image != nil && c.Then != nil && c.Then.Rebuild != nil
}

// ImpliesCheck reports whether the images of the rebuilt desktops are checked next.
func (c JobCompleted) ImpliesCheck() bool { return c.Function == FnRebuild && len(c.Rebuilt()) > 0 }

// Rebuilt are the desktops whose rebuild succeeded, in the order asked.
func (c JobCompleted) Rebuilt() []string {
	var ids []string
	for _, d := range c.Desktops {
		if d.Outcome == Succeeded {
			ids = append(ids, d.DesktopID)
		}
	}
	return ids
}
