package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"recompose/events"
)

// chain is what has been said so far under one correlation id.
type chain struct {
	correlation string
	root        events.Root // the first command; no ID where only the correlation id is known
	fleet       []string    // desktops that the first command wants rebuilt after its image; where it is known
	function    string      // that the first command is for; "" where it is not known
	number      uint64      // of the first command at the entrance; 0 where it is not known
	said        []events.Envelope
	seen        map[string]int // where in said
}

func newChain(correlation string, root events.Root) *chain {
	return &chain{correlation: correlation, root: root, seen: map[string]int{}}
}

// add takes an event. It is false for one of another chain, and for a copy. An event of an earlier version may be
// published once more with the digest of its command: then that copy counts.
func (c *chain) add(e events.Envelope) bool {
	if e.Correlation != c.correlation {
		return false
	}
	i, before := c.seen[e.Identity()]
	switch {
	case !before:
		c.seen[e.Identity()] = len(c.said)
		c.said = append(c.said, e)
	case e.Answered().Digest == "" || c.said[i].Answered().Digest != "":
		return false
	default:
		c.said[i] = e
	}
	return true
}

// own are the events that follow from the first command with its data, where that is known. The correlation id may be
// that of other commands too, and the id may have been used before for other data.
func (c *chain) own() []events.Envelope {
	if c.root.ID == "" {
		return c.said
	}
	return events.Chain(c.root, c.said)
}

// open is what the chain still waits for.
func (c *chain) open() []events.Pending {
	var open []events.Pending
	for _, root := range c.roots() {
		for _, p := range events.Open(root, c.said) {
			if !slices.Contains(open, p) {
				open = append(open, p)
			}
		}
	}
	return open
}

// roots are the commands at which the chain began. Several may share a correlation id that their senders chose, and
// several data an id: they are the causes that nothing in the chain implies. A correlation id that was not chosen is
// the id of the first command.
func (c *chain) roots() []events.Root {
	if c.root.ID != "" {
		return []events.Root{c.root}
	}
	implied := map[string]bool{}
	for _, e := range c.said {
		switch e.Type {
		case events.TypeJobAccepted:
			implied[e.ID] = true
		case events.TypeJobCompleted:
			implied[events.ReactionID(e, events.FnRebuild)] = true
			implied[events.ReactionID(e, events.FnCheckImages)] = true
		case events.TypeCommandSplit:
			var split events.CommandSplit
			_ = json.Unmarshal(e.Data, &split)
			for _, part := range split.Parts {
				implied[part.ID] = true
			}
		}
	}
	var roots []events.Root
	for _, e := range c.said {
		if events.IsNotice(e.Type) || e.Causation == "" || implied[e.Causation] { // it ends nothing, or what is implied
			continue
		}
		named := e.Answered()
		root := events.Root{ID: e.Causation, Source: named.Source, Digest: named.Digest}
		if !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	if len(roots) == 0 {
		return []events.Root{{ID: c.correlation}}
	}
	return roots
}

// failedDesktop is a desktop that is not as the chain should have left it.
type failedDesktop struct {
	DesktopID  string `json:"desktop_id"`
	Outcome    string `json:"outcome"`
	ErrorCode  string `json:"error_code,omitempty"`
	FailReason string `json:"fail_reason,omitempty"`
}

// result is what came of a chain.
type result struct {
	Image    *events.Image
	Rebuilt  []string
	Verified []string
	Skipped  []string
	Failed   []failedDesktop
	Problems []string // commands and jobs that failed without a word about single desktops
}

func (r result) ok() bool { return len(r.Failed) == 0 && len(r.Problems) == 0 }

// fail notes a desktop once, by the first reason.
func (r *result) fail(d failedDesktop) {
	if !slices.ContainsFunc(r.Failed, func(f failedDesktop) bool { return f.DesktopID == d.DesktopID }) {
		r.Failed = append(r.Failed, d)
	}
}

// Outcomes of desktops that only this program says.
const (
	outcomeNotStarted = "not_started" // the chain ended before its rebuild began
	outcomeMismatched = "mismatched"  // runs another image than the one it was rebuilt from
)

// result sums the chain up.
func (c *chain) result() result {
	var r result
	for _, e := range c.own() {
		switch e.Type {
		case events.TypeJobCompleted:
			var done events.JobCompleted
			_ = json.Unmarshal(e.Data, &done)
			r.jobCompleted(done)
		case events.TypeImagesChecked:
			var checked events.ImagesChecked
			_ = json.Unmarshal(e.Data, &checked)
			r.imagesChecked(checked)
		case events.TypeCommandFailed:
			var failed events.CommandFailed
			_ = json.Unmarshal(e.Data, &failed)
			r.commandFailed(failed)
		}
	}
	if r.Image == nil && len(r.Problems) > 0 && len(r.Rebuilt)+len(r.Failed) == 0 {
		for _, id := range c.fleet {
			r.fail(failedDesktop{DesktopID: id, Outcome: outcomeNotStarted, FailReason: "the chain ended before its rebuild began"})
		}
	}
	return r
}

func (r *result) jobCompleted(done events.JobCompleted) {
	if done.Image != nil {
		r.Image = done.Image
	}
	told := false // why it did not succeed, desktop by desktop
	for _, d := range done.Desktops {
		switch {
		case done.Function != events.FnRebuild: // the desktop of an image
		case d.Outcome == events.Succeeded:
			r.Rebuilt = append(r.Rebuilt, d.DesktopID)
		case d.Outcome == events.Skipped:
			r.Skipped = append(r.Skipped, d.DesktopID)
		default:
			told = true
			r.fail(failedOf(d))
		}
	}
	if done.Outcome == events.Succeeded {
		return
	}
	if !told || done.Error != nil {
		job := jobText(done)
		if done.JobID == "" {
			job += ","
		}
		r.Problems = append(r.Problems, fmt.Sprintf("%s: %s ended as %s%s%s", done.Function, job, done.Outcome, because(done.Error), reasons(done)))
	}
	if done.Then != nil && done.Then.Rebuild != nil {
		for _, id := range done.Then.Rebuild.DesktopIDs {
			r.fail(failedDesktop{DesktopID: id, Outcome: outcomeNotStarted, FailReason: "the chain ended before its rebuild began"})
		}
	}
}

func failedOf(d events.DesktopResult) failedDesktop {
	reason := or(d.FailReason, d.Message)
	if d.Kind == events.KindUnknownOutcome {
		reason = or(reason, "it runs the image; whether it was rebuilt is not known: look before you send it again")
	}
	return failedDesktop{d.DesktopID, d.Outcome, d.ErrorCode, reason}
}

// reasons are those that an image job gives for the desktop that it was to capture.
func reasons(done events.JobCompleted) string {
	s := ""
	for _, d := range done.Desktops {
		if done.Function != events.FnRebuild && d.Outcome != events.Succeeded {
			s += "; desktop " + failedOf(d).String()
		}
	}
	return s
}

func (r *result) imagesChecked(checked events.ImagesChecked) {
	r.Verified = append(r.Verified, checked.Matched...)
	if checked.Expected == nil {
		for _, id := range checked.Missing {
			r.fail(failedDesktop{DesktopID: id, Outcome: events.Missing, FailReason: "the service tells no image for it"})
		}
		return
	}
	for _, id := range checked.Mismatched {
		r.fail(failedDesktop{DesktopID: id, Outcome: outcomeMismatched, FailReason: "does not run image " + checked.Expected.ImageID})
	}
}

func (r *result) commandFailed(failed events.CommandFailed) {
	// The desktop that an image was to be made of is none that a rebuild may be sent to.
	if failed.Command.Type == events.TypeDesktopToImage || len(failed.DesktopIDs) == 0 {
		r.Problems = append(r.Problems, failedText(failed))
		return
	}
	reason := failed.Error.ErrorMsg
	if failed.Effect == events.EffectUnknown {
		reason += " (whether the service did it is unknown: look before you send it again)"
	}
	for _, id := range failed.DesktopIDs {
		r.fail(failedDesktop{id, failed.Error.Kind, failed.Error.ErrorCode, reason})
	}
}

// failedText says why a command failed, and whether it may be sent again.
func failedText(failed events.CommandFailed) string {
	what := functionOf(failed.Command.Type) + " failed" + because(&failed.Error)
	switch failed.Effect {
	case events.EffectUnknown:
		return what + ". Whether the service did it is unknown: look before you send it again"
	case events.EffectAccepted:
		return what + ". The service accepted it"
	default:
		return what + ". Nothing was done at the service"
	}
}

func because(f *events.Failure) string {
	if f == nil {
		return ""
	}
	s := " (" + f.Kind
	if f.HTTPStatus != 0 {
		s += fmt.Sprintf(", status %d", f.HTTPStatus)
	}
	if f.ErrorCode != "" {
		s += ", " + f.ErrorCode
	}
	s += ")"
	if f.ErrorMsg != "" {
		s += ": " + f.ErrorMsg
	}
	if f.RequestID != "" {
		s += " [request " + f.RequestID + "]"
	}
	return s
}
