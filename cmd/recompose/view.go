package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/workspace"
)

// view shows a demo as it goes: lines for what is said, and how far the jobs are. On a terminal that is a bar.
type view struct {
	out   io.Writer
	world *emulator.Server
	begun time.Time

	mu      sync.Mutex
	bar     *progressbar.ProgressBar // nil: plain lines
	told    map[string]int           // job → quarter told last
	calls   map[string]int           // API operation → calls
	handled map[string]int           // function → messages
	ended   bool
}

func newView(out io.Writer, world *emulator.Server) *view {
	v := &view{out: out, world: world, begun: time.Now(), told: map[string]int{}, calls: map[string]int{}, handled: map[string]int{}}
	if isTerminal(out) {
		v.bar = progressbar.NewOptions(100, progressbar.OptionSetWriter(out), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetWidth(20), progressbar.OptionClearOnFinish())
	}
	return v
}

// call counts an API call.
func (v *view) call(info workspace.CallInfo) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls[info.Operation]++
}

// message counts a message that a function handled.
func (v *view) message(h natsqueue.Handled) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.handled[h.Function]++
}

// line prints a line with the time since the beginning and who says it.
func (v *view) line(who, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.print(who, fmt.Sprintf(format, args...))
}

func (v *view) print(who, text string) {
	if v.bar != nil {
		_ = v.bar.Clear()
	}
	say(v.out, "%5.1fs  %-14s  %s", time.Since(v.begun).Seconds(), who, foreign(text))
}

// event prints an event. How far a job is, progress shows more exactly.
func (v *view) event(e events.Envelope) {
	if e.Type == events.TypeJobProgress {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, text := range describe(e) {
		if i > 0 {
			text = "  " + text
		}
		v.print(functionOf(e.Source), text)
	}
}

// follow looks at the emulator's jobs until ctx ends. It asks the emulator itself, so that no call is counted.
func (v *view) follow(ctx context.Context) {
	each := time.NewTicker(100 * time.Millisecond)
	defer each.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-each.C:
			v.progress(v.world.State().Jobs)
		}
	}
}

// progress tells how far the jobs are: each at every quarter, or all that run in one bar.
func (v *view) progress(jobs []emulator.Job) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	var running, sum, ended int
	what := ""
	for _, j := range jobs {
		percent, over := jobProgress(j)
		if percent == 100 {
			continue
		}
		running += len(j.SubJobs)
		sum += percent * len(j.SubJobs)
		ended += over
		what = jobKind(j, len(j.SubJobs)-over)
		if quarter := percent / 25; v.bar == nil && quarter > v.told[j.ID] {
			v.told[j.ID] = quarter
			v.print(events.FnWatchJob, fmt.Sprintf("job %s: %d %%, %s", j.ID, percent, what))
		}
	}
	if v.bar == nil {
		return
	}
	if running == 0 {
		_ = v.bar.Clear()
		return
	}
	if running > 1 {
		what = fmt.Sprintf("rebuilding %s", count(running-ended, "desktop"))
	}
	v.bar.Describe(fmt.Sprintf("%5.1fs  %-14s  %s", time.Since(v.begun).Seconds(), events.FnWatchJob, what))
	_ = v.bar.Set(min(sum/running, 99)) // a full bar would be finished for good
}

// jobProgress is how far a job is, and how many of its sub-jobs are over.
func jobProgress(j emulator.Job) (percent, over int) {
	for _, s := range j.SubJobs {
		if s.EndTime != "" || s.Status == "FAILED" || s.Status == "SUCCESS" {
			over++
			percent += 100
		} else {
			percent += s.Process
		}
	}
	return percent / max(len(j.SubJobs), 1), over
}

func jobKind(j emulator.Job, left int) string {
	if len(j.SubJobs) == 1 && j.SubJobs[0].JobType == "desktopToImage" {
		return "capturing the desktop"
	}
	return "rebuilding " + count(left, "desktop")
}

// end takes the bar away.
func (v *view) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
	if v.bar != nil {
		_ = v.bar.Clear()
	}
}

// summary prints what came of it.
func (v *view) summary(r result, golden string, said int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	say(v.out, "")
	if r.Image != nil {
		say(v.out, "image     %s, id %s (%s), from desktop %s", foreign(r.Image.ImageName), foreign(r.Image.ImageID), foreign(r.Image.ImageType), golden)
	}
	say(v.out, "desktops  %d rebuilt, %d verified, %d failed, %d skipped", len(r.Rebuilt), len(r.Verified), len(r.Failed), len(r.Skipped))
	for _, d := range r.Failed {
		say(v.out, "  FAILED  %s", foreign(d.String()))
	}
	for _, p := range r.Problems {
		say(v.out, "  FAILED  %s", foreign(p))
	}
	say(v.out, "API       %s: %s", count(total(v.calls), "call"), tally(v.calls))
	say(v.out, "messages  1 command sent, %s said, %s handled: %s", count(said, "event"), count(total(v.handled), "message"), tally(v.handled))
	say(v.out, "time      %.1f s", time.Since(v.begun).Seconds())
	if r.ok() {
		say(v.out, "\nEvery desktop runs the new image.")
	} else {
		say(v.out, "\nNot every desktop runs the new image.")
	}
}

func total(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

func tally(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
