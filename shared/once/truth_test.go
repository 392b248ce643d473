package once_test

import (
	"encoding/json"
	"slices"

	"recompose/events"
)

// check compares the end of a command with what the service did.
func (w *world) check(c *command) {
	if c.ended == nil {
		w.broken("command %s has no end", c.id)
		return
	}
	data := c.ended.Data.(json.RawMessage)
	var err error
	switch c.ended.Type {
	case events.TypeCommandFailed:
		var failed events.CommandFailed
		if err = json.Unmarshal(data, &failed); err == nil {
			w.checkFailed(c, failed)
		}
	case events.TypeJobCompleted:
		var done events.JobCompleted
		if err = json.Unmarshal(data, &done); err == nil {
			w.checkCompleted(c, done)
		}
	case events.TypeCommandSplit:
		var split events.CommandSplit
		if err = json.Unmarshal(data, &split); err == nil {
			w.checkSplit(c, split)
		}
	default:
		w.broken("command %s ended as %s", c.id, c.ended.Type)
	}
	if err != nil {
		w.broken("command %s ended in data that cannot be read: %v", c.id, err)
	}
}

// checkFailed: no effect is claimed that the service did not have.
func (w *world) checkFailed(c *command, failed events.CommandFailed) {
	for _, id := range c.ids {
		switch accepted := w.desktops[id].accepted > 0; {
		case failed.Effect == events.EffectNone && accepted:
			w.broken("command %s ended as %s without effect, and desktop %s was rebuilt", c.id, failed.Error.Kind, id)
		case failed.Effect == events.EffectAccepted && !accepted:
			w.broken("command %s ended as %s and accepted, and no call for desktop %s was", c.id, failed.Error.Kind, id)
		case !slices.Contains([]string{events.EffectNone, events.EffectUnknown, events.EffectAccepted}, failed.Effect):
			w.broken("command %s ended with the effect %q", c.id, failed.Effect)
		}
	}
}

// checkCompleted: each desktop has one result. It succeeded only if it was rebuilt; it was skipped only if no call
// named it, and it had the image.
func (w *world) checkCompleted(c *command, done events.JobCompleted) {
	var ids []string
	all := true
	for _, d := range done.Desktops {
		ids = append(ids, d.DesktopID)
		desktop := w.desktops[d.DesktopID]
		switch d.Outcome {
		case events.Succeeded:
			w.checkRebuilt(c, done.JobID, d)
		case events.Skipped:
			if desktop.sent > 0 || !slices.Contains(desktop.made, wantedImage) {
				w.broken("command %s skipped desktop %s, which %d calls named and which was rebuilt with %v", c.id, d.DesktopID, desktop.sent, desktop.made)
			}
		default:
			all = false
		}
	}
	slices.Sort(ids)
	if !slices.Equal(ids, slices.Sorted(slices.Values(c.ids))) {
		w.broken("command %s of %v has the results of %v", c.id, c.ids, ids)
	}
	if (done.Outcome == events.Succeeded) != all {
		w.broken("command %s ended as %s with %v", c.id, done.Outcome, done.Desktops)
	}
}

// checkRebuilt: the job that is named has rebuilt the desktop, with the image; without a job, some job has.
//
// A list of jobs shows no image. So a job of other people that rebuilds exactly the desktops of a lost call is taken for
// the job of the call, whatever its image. The check of the images, which follows each success, finds that.
func (w *world) checkRebuilt(c *command, jobID string, d events.DesktopResult) {
	if jobID == "" {
		if made := w.desktops[d.DesktopID].made; !slices.Contains(made, wantedImage) || d.Kind != events.KindUnknownOutcome {
			w.broken("command %s reports desktop %s as rebuilt by no job (%s), which was rebuilt with %v", c.id, d.DesktopID, d.Kind, made)
		}
		return
	}
	i := slices.IndexFunc(w.jobs, func(job *modelJob) bool { return job.id == jobID })
	if i < 0 || !w.jobs[i].ended || !slices.Contains(w.jobs[i].ids, d.DesktopID) {
		w.broken("command %s reports desktop %s as rebuilt by job %s, which did not", c.id, d.DesktopID, jobID)
		return
	}
	if job := w.jobs[i]; job.ours && job.image != wantedImage {
		w.broken("command %s reports desktop %s as rebuilt by its job %s with image %s", c.id, d.DesktopID, jobID, job.image)
	}
}

// checkSplit: the parts have the desktops of the command, each once.
func (w *world) checkSplit(c *command, split events.CommandSplit) {
	var ids []string
	for _, part := range split.Parts {
		ids = append(ids, part.DesktopIDs...)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, slices.Sorted(slices.Values(c.ids))) {
		w.broken("command %s of %v is divided into %v", c.id, c.ids, split.Parts)
	}
}

// way is in which way a command ended, for the count of what random runs reach.
func (c *command) way() string {
	var data struct {
		JobID    string                 `json:"job_id"`
		Effect   string                 `json:"effect"`
		Desktops []events.DesktopResult `json:"desktops"`
	}
	if c.ended == nil {
		return "none"
	}
	_ = json.Unmarshal(c.ended.Data.(json.RawMessage), &data)
	switch {
	case c.ended.Type != events.TypeJobCompleted:
		return c.ended.Type + " " + data.Effect
	case data.JobID != "":
		return "a job"
	case slices.ContainsFunc(data.Desktops, func(d events.DesktopResult) bool { return d.Kind != "" }):
		return "no job is known"
	default:
		return "all skipped"
	}
}
