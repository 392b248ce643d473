// Package watchjob follows the job behind a job.accepted until it has really ended.
//
//	recompose.event.job.accepted.v1 ─▶ GET /v2/{project_id}/workspace-sub-jobs
//	                                   GET /v2/{project_id}/images, once an image job has succeeded ─▶ job.completed
//
// On the way it publishes job.progress when the sub-jobs of the job pass a quarter of their work.
//
// It keeps no state between two looks: each look handles the same event, redelivered as a delayed message.
package watchjob

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the calls that this function makes, all of them reads, and the service's clock, by which the acceptance and
// the deadline of a job are measured. The clock is known after the first answer.
type API interface {
	ServiceClock() (now time.Time, known bool)
	ReadsLeft() bool
	ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error)
	ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error)
}

// Waits between two looks: 10 s, 15 s, … up to a minute; while users still save their work, every 10 minutes.
const (
	firstWait = 10 * time.Second
	waitStep  = 5 * time.Second
	longest   = time.Minute
	farWait   = 5 * time.Minute // at most, while the job is expected to go on for longer
	delayWait = 10 * time.Minute
	// appears is how long after its acceptance a job may still be absent from the list of sub-jobs.
	appears = 5 * time.Minute
)

// New makes the function. A second delivery looks at the job once more. The end of a job is recorded before it is
// published, so each later look publishes the same end.
func New(api API, engine *once.Engine) queue.Function {
	w := follow(api, engine)
	return queue.Function{
		Name:   events.FnWatchJob,
		Reacts: []string{events.TypeJobAccepted},
		React: func(e events.Envelope) (events.Envelope, bool, error) {
			_, err := read(e)
			if err != nil {
				return events.Envelope{}, false, err
			}
			command, err := e.Implies(events.FnWatchJob, e.Data)
			return command, true, err
		},
		Handle: w.look,
		GiveUp: func(ctx context.Context, c queue.Command, reason string) ([]queue.Outcome, error) {
			job, err := read(c.Event)
			if err != nil {
				return nil, queue.Permanent(err)
			}
			if _, err := w.engine.EndOf(ctx, job, c.Epoch); err != nil {
				return nil, err
			}
			done := w.done(job, nil, events.Lost)
			done.Error = &events.Failure{Kind: events.KindAttemptsUsedUp, ErrorMsg: reason}
			return w.end(ctx, c, done)
		},
	}
}

func read(e events.Envelope) (events.JobAccepted, error) {
	var job events.JobAccepted
	if err := json.Unmarshal(e.Data, &job); err != nil {
		return job, fmt.Errorf("read %s %s: %w", e.Type, e.ID, err)
	}
	if job.JobID == "" || job.Command.ID == "" || (job.Function != events.FnRebuild && job.Function != events.FnDesktopToImage) {
		return job, fmt.Errorf("read %s %s: job_id, command and function must be given", e.Type, e.ID)
	}
	return job, nil
}

// look reads the state of the job once. It publishes the end, or delays the message until the next look.
func (w *follower) look(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
	job, err := read(c.Event)
	if err != nil {
		return nil, queue.Permanent(err)
	}
	end, err := w.engine.EndOf(ctx, job, c.Epoch)
	switch {
	case err != nil:
		return nil, err
	case c.Attempt == 0:
		wait := w.wait(job, 0)
		w.goesOn(job, 0, wait, 0)
		return nil, queue.RetryAfter(wait, nil)
	case end != nil:
		return []queue.Outcome{*end}, nil
	}
	var done events.JobCompleted
	var subs []workspace.SubJob
	var age time.Duration // of what subs show
	ended, late := false, w.late(job, c)
	switch {
	case late: // its results are read from its own list
	case w.canWait(job, w.ran(job)) && !w.api.ReadsLeft():
		wait := w.engine.Paced(firstWait)
		w.goesOn(job, w.ran(job), wait, w.expected(job))
		return nil, queue.RetryAfter(wait, nil)
	default:
		subs, age, err = w.running(ctx, job, w.ran(job))
	}
	if len(subs) == 0 && err == nil {
		age = 0
		done, subs, ended, err = w.ask(ctx, job)
		late = w.late(job, c) // the answer has shown the service's clock
	}
	if workspace.IsUnauthorized(err) {
		return nil, queue.Stop(err)
	}
	switch {
	case ended:
		w.ended(job, w.ran(job))
		return w.end(ctx, c, done)
	case late:
		w.ended(job, 0)
		done = w.done(job, done.Desktops, events.TimedOut)
		if err != nil {
			failure := verdict.Failure(err)
			done.Error = &failure
		}
		return w.end(ctx, c, done)
	case err != nil: // the job may still run
		w.engine.Log.WarnContext(ctx, "cannot read the state of a job; retrying", "function", events.FnWatchJob, "job_id", job.JobID, "error", err)
	}
	left, exact := w.left(job.Function, w.ran(job)-age, subs)
	if left > 0 {
		left = max(left-age, 1)
	}
	wait := w.until(job, c.Attempt, left, exact)
	w.goesOn(job, w.ran(job), wait, left)
	retry := queue.RetryAfter
	if err != nil {
		retry = queue.RetryFailed
	}
	return w.progress(ctx, c, job, percentOf(job, subs)), retry(wait, err)
}

// ran is how long a job has run, by the service's clock.
func (w *follower) ran(job events.JobAccepted) time.Duration {
	now, _ := w.api.ServiceClock()
	return now.Sub(job.AcceptedAt) - time.Duration(job.DelayTime)*time.Minute
}

// until returns how long the next look at a job waits that is expected to run for the time left: most of that time, so
// that its end is seen soon.
func (w *follower) until(job events.JobAccepted, attempt int, left time.Duration, exact bool) time.Duration {
	if left <= 0 {
		return w.wait(job, attempt)
	}
	near, wait := w.engine.Paced(firstWait), left*4/5
	if exact || left < w.engine.Paced(longest) {
		wait = left + near/10
	}
	now, _ := w.api.ServiceClock()
	return max(min(wait, w.engine.Paced(farWait), job.Deadline.Sub(now)), near)
}

// progress returns the job.progress of a job that has passed another quarter; nil if it has not.
func (w *follower) progress(ctx context.Context, c queue.Command, job events.JobAccepted, percent int) []queue.Outcome {
	quarter := min(percent/25, 3) * 25
	if quarter == 0 {
		return nil
	}
	passed, err := w.engine.JobProgress(ctx, job.Command, quarter)
	if err != nil {
		w.engine.Log.WarnContext(ctx, "the progress of a job is not published: it could not be recorded", "function", events.FnWatchJob,
			"job_id", job.JobID, "error", err)
	}
	if !passed {
		return nil
	}
	return []queue.Outcome{{
		Type: events.TypeJobProgress, ID: events.Derive(c.Event.Identity(), "job.progress", strconv.Itoa(quarter)),
		Data: events.JobProgress{Function: job.Function, Command: job.Command, JobID: job.JobID, Percent: quarter},
	}}
}

// late reports whether the deadline has passed by the service's clock. While that clock is not known, because the
// service does not answer, the sum of the waits after looks without an answer counts as the time that has passed: the
// others may have been as short as the first.
func (w *follower) late(job events.JobAccepted, c queue.Command) bool {
	now, known := w.api.ServiceClock()
	if known {
		return !now.Before(job.Deadline)
	}
	var waited time.Duration
	for i := max(0, c.Attempt-c.Failures); i < c.Attempt; i++ {
		waited += w.wait(job, i)
	}
	return waited >= job.Deadline.Sub(job.AcceptedAt)
}

// wait is how long the next look after this attempt waits.
func (w *follower) wait(job events.JobAccepted, attempt int) time.Duration {
	wait := min(firstWait+time.Duration(attempt)*waitStep, longest)
	now, _ := w.api.ServiceClock()
	delay := time.Duration(job.DelayTime) * time.Minute
	if idle := min(job.AcceptedAt.Add(delay).Sub(now), delay); idle > wait {
		wait = min(idle+firstWait, delayWait)
	}
	return w.engine.Paced(wait)
}

// ask gives the end of the job by its own sub-jobs, or what is known of its desktops so far.
func (w *follower) ask(ctx context.Context, job events.JobAccepted) (done events.JobCompleted, subs []workspace.SubJob, ended bool, err error) {
	list, err := w.api.ListSubJobs(ctx, workspace.SubJobsQuery{JobID: job.JobID, Desktops: len(job.DesktopIDs)})
	if err != nil {
		return events.JobCompleted{}, nil, false, err
	}
	subs = list.Jobs
	w.learn(job.Function, subs)
	results, pending, finished := settle(job, subs)
	w.engine.Log.DebugContext(ctx, "job", "function", events.FnWatchJob, "of", job.Function, "job_id", job.JobID,
		"desktops", len(job.DesktopIDs), "finished", finished, "percent", percentOf(job, subs))
	now, _ := w.api.ServiceClock()
	young := now.Sub(job.AcceptedAt) < w.engine.Paced(appears)+time.Duration(job.DelayTime)*time.Minute
	switch missing := len(job.DesktopIDs) - finished - pending; {
	case slices.ContainsFunc(subs, goesOn), missing > 0 && (young || !list.Complete):
		return events.JobCompleted{Desktops: results}, subs, false, nil
	case finished == 0:
		return w.done(job, results, events.Lost), subs, true, nil
	}
	done = w.done(job, results, outcome(results))
	if job.Function == events.FnRebuild || done.Outcome != events.Succeeded {
		return done, subs, true, nil
	}
	done, ended, err = w.withImage(ctx, job, done)
	return done, subs, ended, err
}

// goesOn reports whether a sub-job has not ended.
func goesOn(s workspace.SubJob) bool {
	return s.State() != workspace.Succeeded && s.State() != workspace.Failed
}

// settle returns the result of each desktop of the call, by its sub-jobs, and how many desktops are pending and
// finished. A desktop has succeeded only if all its sub-jobs have. The letter case of its id does not matter.
func settle(job events.JobAccepted, subs []workspace.SubJob) (results []events.DesktopResult, pending, finished int) {
	byDesktop := make(map[string][]workspace.SubJob, len(job.DesktopIDs))
	for _, s := range subs {
		id := strings.ToLower(s.DesktopID())
		byDesktop[id] = append(byDesktop[id], s)
	}
	for _, id := range job.DesktopIDs {
		r := events.DesktopResult{DesktopID: id, Outcome: events.Missing}
		open := false
		for _, s := range byDesktop[strings.ToLower(id)] {
			switch s.State() {
			case workspace.Succeeded:
				if r.Outcome != events.Failed {
					r.Outcome, r.Message = events.Succeeded, cut(s.Message)
				}
			case workspace.Failed:
				r.Outcome, r.ErrorCode, r.FailReason, r.Message = events.Failed, cut(s.ErrorCode), cut(s.FailReason), cut(s.Message)
			default:
				open = true
			}
		}
		switch {
		case open:
			pending++
			r = events.DesktopResult{DesktopID: id, Outcome: events.Missing}
		case r.Outcome != events.Missing:
			finished++
		}
		results = append(results, r)
	}
	return results, pending, finished
}

// maxResult is how many bytes of each text about a desktop are kept: the end of a job with as many desktops as a call may
// have must fit into a record of the ledger and on a topic of SNS.
const maxResult = 512

func cut(text string) string { return events.Shorten(text, maxResult) }

// outcome summarises the results of the desktops of a call.
func outcome(results []events.DesktopResult) string {
	succeeded := 0
	for _, r := range results {
		if r.Outcome == events.Succeeded {
			succeeded++
		}
	}
	switch succeeded {
	case len(results):
		return events.Succeeded
	case 0:
		return events.Failed
	default:
		return events.Partial
	}
}

// withImage finds the image that the job has made. The job does not contain its id, and names need not be unique, so
// the image is found only if exactly one private image has the name. There was none before the call.
func (w *follower) withImage(ctx context.Context, job events.JobAccepted, done events.JobCompleted) (events.JobCompleted, bool, error) {
	list, err := w.api.ListImages(ctx, workspace.ImagesQuery{ImageType: "private"})
	if err != nil {
		return done, false, err
	}
	var found []workspace.Image
	for _, image := range list.Images {
		if image.Name == job.ImageName && image.ID != "" {
			found = append(found, image)
		}
	}
	switch {
	case len(found) > 1:
		done.Outcome = events.Failed
		done.Error = &events.Failure{
			Kind:     events.KindAmbiguousImage,
			ErrorMsg: fmt.Sprintf("%d private images are named %q; rebuild by image_id with the right one", len(found), job.ImageName),
		}
		return done, true, nil
	case len(found) == 0 || !list.Complete:
		return done, false, nil
	}
	done.Image = &events.Image{ImageID: found[0].ID, ImageName: found[0].Name, ImageType: "private", OSType: found[0].OSType}
	return done, true, nil
}

// done returns the end of the job. Desktops without a result are reported as missing.
func (w *follower) done(job events.JobAccepted, results []events.DesktopResult, outcome string) events.JobCompleted {
	if results == nil {
		results, _, _ = settle(job, nil)
	}
	for _, id := range job.Skipped {
		results = append(results, events.DesktopResult{DesktopID: id, Outcome: events.Skipped})
	}
	if outcome == events.Failed && len(job.Skipped) > 0 {
		outcome = events.Partial
	}
	return events.JobCompleted{
		Function: job.Function, Command: job.Command, JobID: job.JobID, Outcome: outcome,
		ImageID: job.ImageID, ImageType: job.ImageType, Desktops: results, Then: job.Then,
	}
}

// end records the end of the job, and returns the recorded end, which may be that of another worker.
func (w *follower) end(ctx context.Context, c queue.Command, done events.JobCompleted) ([]queue.Outcome, error) {
	end, err := w.engine.EndJob(ctx, done.Command, queue.Outcome{
		ID: events.Derive(c.Event.Identity(), "job.completed"), Source: events.Source(events.FnWatchJob),
		Type: events.TypeJobCompleted, Causation: c.Event.ID, Time: w.engine.Now().UTC(), Data: done,
	})
	if err != nil {
		return nil, err
	}
	return []queue.Outcome{end}, nil
}

// percentOf is how far the job is, by its sub-jobs. A desktop without a sub-job counts as not begun.
func percentOf(job events.JobAccepted, subs []workspace.SubJob) int {
	var sum int64
	for _, s := range subs {
		switch {
		case s.State() == workspace.Succeeded || s.State() == workspace.Failed:
			sum += 100
		case s.Process != nil:
			sum += min(max(*s.Process, 0), 100)
		}
	}
	return int(sum) / max(len(job.DesktopIDs), len(subs), 1)
}
