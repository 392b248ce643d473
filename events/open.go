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
	Source string // "": any source
	Digest string // of its data; "": any data
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

// Open returns what a chain still waits for; an empty result means that it has ended. It is the one definition of an
// end:
//
//   - a command (the root, a part of a split, or one that an event implies) is open until an event answers it: one that
//     has its id as its causation, and the digest of its data. An event about other data under the same id, or about a
//     command of the same id from another source, is not its answer;
//   - of a list in several pages, only the page with last true is an answer;
//   - a job is open from job.accepted until an event has that event's id as its causation;
//   - a rollout is open from rollout.planned, unless only a plan was asked for, until it is completed, aborted or rolled
//     back;
//   - a succeeded image job with a rebuild in then implies that rebuild; a rebuild in which at least one desktop
//     succeeded implies the check of its images.
//
// Data that cannot be decoded has no digest. Its command.failed (invalid) answers the command of its id and source
// only as long as no event has that command's digest: the undecodable data may belong to this command or to another
// one. It does not answer a root with a digest and an unknown source. Events of earlier versions have no digest
// either. Such an event answers a root without a digest, and what follows from that answer; when the command is
// delivered once more, the functions publish the event a second time with the digest. Of two copies of an event, the
// one with a digest counts.
//
// The events may come in any order, more than once, and mixed with those of other chains. The result does not depend
// on the order. Events whose data cannot be read imply nothing, and notices answer nothing.
func Open(root Root, events []Envelope) []Pending {
	open, _ := walk(root, events)
	return open
}

// Chain returns the events that belong to the chain of the root, each once, in the order given: those that Open
// follows, and the notices (and other events without a causation) about a command of the chain.
func Chain(root Root, events []Envelope) []Envelope {
	_, in := walk(root, events)
	return in
}

// wanted is a command or a job that waits for an answer.
type wanted struct {
	Pending
	source string
	digest string
	// derived means that the id is derived, so that no sender chose it: only events of earlier versions answer it
	// without a digest.
	derived bool
}

// matches reports whether an event that names the command, by its causation or in its data, is about this command and
// data.
func (w wanted) matches(e Envelope) bool {
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

// answers returns those of the events with these indexes that answer the command or job. If one of them has the
// digest of the command, the failure of data that could not be decoded belongs to other data.
func (w wanted) answers(all []Envelope, numbers []int) []int {
	var exact, undecoded []int
	for _, i := range numbers {
		switch e := all[i]; {
		case e.isNoEnd() || !w.matches(e):
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

// isNoEnd reports whether an event answers nothing: a notice, or a page of a list that is not the last one.
func (e Envelope) isNoEnd() bool {
	if !IsPage(e.Type) {
		return IsNotice(e.Type)
	}
	var page struct{ Last bool }
	return json.Unmarshal(e.Data, &page) != nil || !page.Last
}

// isInvalid reports whether an event ends a command because its data is refused.
func isInvalid(e Envelope) bool {
	var failed CommandFailed
	return e.Type == TypeCommandFailed && json.Unmarshal(e.Data, &failed) == nil && failed.Error.Kind == KindInvalid
}

// walk follows a chain from its root. It returns what is open, and the events of the chain.
func walk(root Root, all []Envelope) (open []Pending, in []Envelope) {
	caused := make(map[string][]int, len(all)) // causation → the events that have it
	copies := make(map[string]int, len(all))
	best := make([]Envelope, 0, len(all))
	for _, e := range all {
		cause := e.Causation
		if e.isNoEnd() {
			cause = "" // a sender may have set one
		}
		key := e.Identity()
		i, known := copies[key]
		switch {
		case !known:
			copies[key] = len(best)
			caused[cause] = append(caused[cause], len(best))
			best = append(best, e)
		case best[i].Answered().Digest == "" && e.Answered().Digest != "":
			best[i].Data = e.Data
		}
	}
	visited := map[string]wanted{}
	member := make([]bool, len(best))
	todo := []wanted{{Pending: Pending{ID: root.ID}, source: root.Source, digest: root.Digest}}
	for len(todo) > 0 {
		w := todo[0]
		todo = todo[1:]
		if _, seen := visited[w.ID]; seen {
			continue
		}
		visited[w.ID] = w
		answers := w.answers(best, caused[w.ID])
		for _, i := range answers {
			member[i] = true
			todo = append(todo, implied(best[i])...)
		}
		if len(answers) == 0 {
			open = append(open, w.Pending)
		}
	}
	for _, i := range caused[""] { // notices answer nothing, whatever the root is
		w, about := visited[best[i].Answered().ID]
		member[i] = about && w.ID != "" && w.matches(best[i])
	}
	for i, e := range best {
		if member[i] {
			in = append(in, e)
		}
	}
	slices.SortFunc(open, func(a, b Pending) int { return strings.Compare(a.ID, b.ID) })
	return open, in
}

// implied returns what an event opens.
func implied(e Envelope) []wanted {
	switch e.Type {
	case TypeJobAccepted:
		var a JobAccepted
		_ = json.Unmarshal(e.Data, &a) // an event that cannot be read still stands for an accepted job
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
	case TypeRolloutPlanned:
		var r Rollout
		if json.Unmarshal(e.Data, &r) != nil || r.Command == nil || r.Command.Type != TypeRolloutStart || r.PlanOnly {
			return nil
		}
		return []wanted{{Pending: Pending{ID: RolloutEnd(Identity(r.Command.Source, r.Command.ID)), Function: FnRollout}}}
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

// Rebuilt returns the desktops whose rebuild succeeded, in the order of the command.
func (c JobCompleted) Rebuilt() []string {
	var ids []string
	for _, d := range c.Desktops {
		if d.Outcome == Succeeded {
			ids = append(ids, d.DesktopID)
		}
	}
	return ids
}
