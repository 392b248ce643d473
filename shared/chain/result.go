package chain

import (
	"cmp"
	"fmt"
	"slices"

	"recompose/events"
)

// FailedDesktop is a desktop on which the chain did not reach its goal.
type FailedDesktop struct {
	DesktopID  string `json:"desktop_id"`
	Outcome    string `json:"outcome"`
	ErrorCode  string `json:"error_code,omitempty"`
	FailReason string `json:"fail_reason,omitempty"`
}

// Result is the outcome of a chain.
type Result struct {
	Image    *events.Image
	Rebuilt  []string
	Verified []string
	Skipped  []string
	Failed   []FailedDesktop
	Problems []string // commands and jobs whose failure names no single desktop
	ReadOnly bool     // no command of the chain writes, so there is no rebuild to count
	// Counts are the desktops of a rollout that has ended, by state. Failed are those of its batches; Rebuilt, Verified and
	// Skipped are empty.
	Counts map[string]int
}

// OK reports whether nothing failed.
func (r Result) OK() bool { return len(r.Failed) == 0 && len(r.Problems) == 0 }

// fail records a desktop once, with its first reason.
func (r *Result) fail(d FailedDesktop) {
	if !slices.ContainsFunc(r.Failed, func(f FailedDesktop) bool { return f.DesktopID == d.DesktopID }) {
		r.Failed = append(r.Failed, d)
	}
}

// Outcomes of desktops that no event has.
const (
	NotStarted = "not_started" // the chain ended before its rebuild began
	Mismatched = "mismatched"  // it runs another image than the one it was rebuilt from
)

// Result sums up the events of Own.
func (c *Chain) Result() Result {
	own := c.Own()
	if end := endOfRollout(own); end != nil {
		return resultOfRollout(own, *end)
	}
	r := Result{ReadOnly: true}
	for _, e := range own {
		r.ReadOnly = r.ReadOnly && events.CommandOf(FunctionOf(e.Source)).Reads()
		switch e.Type {
		case events.TypeJobCompleted:
			r.jobCompleted(dataOf[events.JobCompleted](e))
		case events.TypeImagesChecked:
			r.imagesChecked(dataOf[events.ImagesChecked](e))
		case events.TypeCommandFailed:
			r.commandFailed(dataOf[events.CommandFailed](e))
		case events.TypeRolloutRejected, events.TypeRolloutAborted:
			r.rolloutEnded(e)
		}
	}
	if r.Image == nil && len(r.Problems) > 0 && len(r.Rebuilt)+len(r.Failed) == 0 {
		for _, id := range c.Fleet {
			r.fail(FailedDesktop{DesktopID: id, Outcome: NotStarted, FailReason: "the chain ended before its rebuild began"})
		}
	}
	return r
}

func (r *Result) jobCompleted(done events.JobCompleted) {
	if done.Image != nil {
		r.Image = done.Image
	}
	explained := false // a desktop names the reason
	for _, d := range done.Desktops {
		switch {
		case done.Function != events.FnRebuild: // the captured desktop
		case d.Outcome == events.Succeeded:
			r.Rebuilt = append(r.Rebuilt, d.DesktopID)
		case d.Outcome == events.Skipped:
			r.Skipped = append(r.Skipped, d.DesktopID)
		default:
			explained = true
			r.fail(failedOf(d))
		}
	}
	if done.Outcome == events.Succeeded {
		return
	}
	if !explained || done.Error != nil {
		job := jobText(done)
		if done.JobID == "" {
			job += ","
		}
		r.Problems = append(r.Problems, fmt.Sprintf("%s: %s ended as %s%s%s", done.Function, job, done.Outcome,
			because(done.Error), captureReasons(done)))
	}
	if done.Then != nil && done.Then.Rebuild != nil {
		for _, id := range done.Then.Rebuild.DesktopIDs {
			r.fail(FailedDesktop{DesktopID: id, Outcome: NotStarted, FailReason: "the chain ended before its rebuild began"})
		}
	}
}

// rolloutEnded records a verb that was rejected, and the start of a rollout that was aborted.
func (r *Result) rolloutEnded(e events.Envelope) {
	if e.Type == events.TypeRolloutRejected || e.Answered().Type == events.TypeRolloutStart {
		r.Problems = append(r.Problems, describeRollout(e)...)
	}
}

func failedOf(d events.DesktopResult) FailedDesktop {
	reason := cmp.Or(d.FailReason, d.Message)
	if d.Kind == events.KindUnknownOutcome {
		reason = cmp.Or(reason,
			"it runs the image; whether it was rebuilt is not known: check at the service before you repeat it")
	}
	return FailedDesktop{d.DesktopID, d.Outcome, d.ErrorCode, reason}
}

// captureReasons lists the reasons that an image job gives for the desktop that it captures.
func captureReasons(done events.JobCompleted) string {
	s := ""
	for _, d := range done.Desktops {
		if done.Function != events.FnRebuild && d.Outcome != events.Succeeded {
			s += "; desktop " + failedOf(d).String()
		}
	}
	return s
}

func (r *Result) imagesChecked(checked events.ImagesChecked) {
	r.Verified = append(r.Verified, checked.Matched...)
	if checked.Expected == nil {
		for _, id := range checked.Missing {
			r.fail(FailedDesktop{DesktopID: id, Outcome: events.Missing, FailReason: "the service reports no image for it"})
		}
		return
	}
	for _, id := range checked.Mismatched {
		r.fail(FailedDesktop{DesktopID: id, Outcome: Mismatched,
			FailReason: "does not run image " + checked.Expected.ImageID})
	}
}

func (r *Result) commandFailed(failed events.CommandFailed) {
	// The captured desktop is not listed as failed: the list of failed desktops is input for a rebuild.
	if failed.Command.Type == events.TypeDesktopToImage || len(failed.DesktopIDs) == 0 {
		r.Problems = append(r.Problems, failedText(failed))
		return
	}
	reason := failed.Error.ErrorMsg
	refused := failed.NotAllowed()
	if failed.Effect == events.EffectUnknown {
		reason += " (whether the service did it is unknown: check at the service before you repeat it)"
	}
	for _, id := range failed.DesktopIDs {
		d := FailedDesktop{id, failed.Error.Kind, failed.Error.ErrorCode, reason}
		if slices.Contains(refused, id) {
			d.FailReason = "the lists of desktops exclude it"
		}
		r.fail(d)
	}
}
