package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Root is the command at which a chain begins.
type Root struct {
	ID     string
	Source string // "": whichever
	Digest string // of its data; "": whichever
}

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
//   - a command (the root, a part of a split, or one that an event implies) is open until an event answers it: one that
//     has its id as its causation, and the digest of its data. An event about other data under the same id, or about a
//     command of the same id from another source, is not its answer;
//   - a job is open from job.accepted until an event has that event's id as its causation;
//   - a succeeded image job with a rebuild in then implies that rebuild; a rebuild in which any desktop succeeded
//     implies the check of its images.
//
// Data that cannot be decoded has no digest. Its command.failed (invalid) answers the command of its id and source only
// as long as no event has that command's digest: data that a worker cannot decode may be this command's, or that of
// another one. It does not answer a root with a digest whose source is not known. What earlier versions published has
// no digest either. It answers a root without one, and what follows from such an answer; the functions publish it once
// more, with the digest, when the command comes once more. Of two copies of an event the one with a digest counts.
//
// The events may come in any order, more than once, and mixed with those of other chains. The result does not depend
// on the order. Events whose data cannot be read imply nothing, and notices answer nothing.
func Open(root Root, events []Envelope) []Pending {
	open, _ := walk(root, events)
	return open
}

// Chain is those of the events that belong to the chain of the root, each once, in the order in which they are given:
// what Open follows, and notices (and whatever else has no causation) about a command in it.
func Chain(root Root, events []Envelope) []Envelope {
	_, in := walk(root, events)
	return in
}

// wanted is a command or a job that is to be answered.
type wanted struct {
	Pending
	source string
	digest string
	// derived is an id that nobody chooses: only what earlier versions published answers it without a digest.
	derived bool
}

// takes reports whether an event that names the command, by its causation or in its data, is about this very command.
func (w wanted) takes(e Envelope) bool {
	if w.source == "" && w.digest == "" {
		return true
	}
	named := e.Answered()
	switch {
	case w.source != "" && named.Source != "" && named.Source != w.source:
		return false
	case w.digest == "" || named.Digest == w.digest:
		return true
	}
	return named.Digest == "" && (w.derived || w.source != "" && isInvalid(e))
}

// answers are those of the events with these numbers that answer the command or job. Where one has the digest of the
// command, the failure of data that could not be decoded is that of other data.
func (w wanted) answers(all []Envelope, numbers []int) []int {
	var exact, undecoded []int
	for _, i := range numbers {
		switch e := all[i]; {
		case IsNotice(e.Type) || !w.takes(e):
		case w.digest != "" && e.Answered().Digest == "" && isInvalid(e):
			undecoded = append(undecoded, i)
		default:
			exact = append(exact, i)
		}
	}
	if len(exact) > 0 {
		return exact
	}
	return undecoded
}

// isInvalid reports whether an event ends a command because its data is refused.
func isInvalid(e Envelope) bool {
	var failed CommandFailed
	return e.Type == TypeCommandFailed && json.Unmarshal(e.Data, &failed) == nil && failed.Error.Kind == KindInvalid
}

// walk follows a chain from its root: what is open, and the events in it.
func walk(root Root, all []Envelope) (open []Pending, in []Envelope) {
	caused := make(map[string][]int, len(all)) // causation → the events that have it
	copies := make(map[string]int, len(all))
	best := make([]Envelope, 0, len(all))
	for _, e := range all {
		cause := e.Causation
		if IsNotice(e.Type) {
			cause = "" // whatever causation a sender gave it
		}
		key := e.Identity()
		i, again := copies[key]
		switch {
		case !again:
			copies[key] = len(best)
			caused[cause] = append(caused[cause], len(best))
			best = append(best, e)
		case best[i].Answered().Digest == "" && e.Answered().Digest != "":
			best[i].Data = e.Data
		}
	}
	asked := map[string]wanted{}
	member := make([]bool, len(best))
	todo := []wanted{{Pending: Pending{ID: root.ID}, source: root.Source, digest: root.Digest}}
	for len(todo) > 0 {
		w := todo[0]
		todo = todo[1:]
		if _, twice := asked[w.ID]; twice {
			continue
		}
		asked[w.ID] = w
		answers := w.answers(best, caused[w.ID])
		for _, i := range answers {
			member[i] = true
			todo = append(todo, implied(best[i])...)
		}
		if len(answers) == 0 {
			open = append(open, w.Pending)
		}
	}
	for _, i := range caused[""] { // no ends, whatever the root is
		w, about := asked[best[i].Answered().ID]
		member[i] = about && w.ID != "" && w.takes(best[i])
	}
	for i, e := range best {
		if member[i] {
			in = append(in, e)
		}
	}
	slices.SortFunc(open, func(a, b Pending) int { return strings.Compare(a.ID, b.ID) })
	return open, in
}

// implied is what an event opens.
func implied(e Envelope) []wanted {
	switch e.Type {
	case TypeJobAccepted:
		var a JobAccepted
		_ = json.Unmarshal(e.Data, &a) // what cannot be read is still an accepted job
		return []wanted{{Pending: Pending{ID: e.ID, Function: a.Function, JobID: a.JobID}}}
	case TypeCommandSplit:
		var s CommandSplit
		if json.Unmarshal(e.Data, &s) != nil {
			return nil
		}
		parts := make([]wanted, len(s.Parts))
		for i, part := range s.Parts {
			parts[i] = wanted{Pending: Pending{ID: part.ID, Function: FnRebuild}, digest: part.Digest, derived: true}
		}
		return parts
	case TypeJobCompleted:
		var c JobCompleted
		if json.Unmarshal(e.Data, &c) != nil {
			return nil
		}
		switch {
		case c.ImpliesRebuild():
			return []wanted{reaction(e, FnRebuild, c.Then.Rebuild.WithImage(c.Image.ImageID, c.Image.ImageType))}
		case c.ImpliesCheck():
			return []wanted{reaction(e, FnCheckImages, CheckImages{DesktopIDs: c.Rebuilt()})}
		}
	}
	return nil
}

// reaction is the command for a function that an event implies.
func reaction(e Envelope, function string, data any) wanted {
	p := Pending{ID: ReactionID(e, function), Function: function}
	return wanted{Pending: p, digest: Digest(data), derived: true}
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
