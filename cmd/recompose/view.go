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
	width int // of a line; 0: any

	mu      sync.Mutex
	bar     *progressbar.ProgressBar // nil: plain lines
	told    map[string]int           // job → quarter told last
	calls   map[string]int           // API operation → calls
	handled map[string]int           // function → messages
	ended   bool
}

func newView(out io.Writer, world *emulator.Server) *view {
	v := &view{out: out, world: world, begun: time.Now(), width: widthOf(out), told: map[string]int{}, calls: map[string]int{}, handled: map[string]int{}}
	if isTerminal(out) {
		v.bar = progressbar.NewOptions(100, progressbar.OptionSetWriter(out), progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetWidth(v.barWidth()), progressbar.OptionClearOnFinish())
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
	say(v.out, "%s", wrapped(v.head(who), foreign(text), v.indent(), v.width))
}

// narrowBelow is the width of lines below which texts stand under their names, so that an id of 36 characters is whole.
const narrowBelow = 80

// head is how a line begins: when, and who.
func (v *view) head(who string) string {
	head := fmt.Sprintf("%5.1fs  %-14s  ", time.Since(v.begun).Seconds(), who)
	if !v.narrow() {
		return head
	}
	return strings.TrimRight(head, " ") + "\n" + strings.Repeat(" ", v.indent())
}

func (v *view) narrow() bool { return v.width > 0 && v.width < narrowBelow }

// barWidth leaves room for what is said before the bar and the percents behind it.
func (v *view) barWidth() int {
	if v.narrow() {
		return max(v.width-40, 5)
	}
	return 20
}

func (v *view) indent() int {
	if v.narrow() {
		return 4
	}
	return 24
}

// event prints an event. How far a job is, progress shows more exactly.
func (v *view) event(e events.Envelope) {
	if e.Type == events.TypeJobProgress {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, text := range shortened(e, "") {
		if i == 0 {
			v.print(functionOf(e.Source), text)
			continue
		}
		below := v.indent() + 2
		say(v.out, "%s", wrapped(strings.Repeat(" ", below), foreign(text), below, v.width))
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
	if !v.narrow() {
		what = v.head(events.FnWatchJob) + what
	}
	v.bar.Describe(what)
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
	line := func(head, format string, args ...any) {
		say(v.out, "%s", wrapped(head, fmt.Sprintf(format, args...), len(head), v.width))
	}
	say(v.out, "")
	if r.Image != nil {
		line("image     ", "%s, id %s (%s), from desktop %s",
			foreign(r.Image.ImageName), foreign(r.Image.ImageID), foreign(r.Image.ImageType), golden)
	}
	line("desktops  ", "%d rebuilt, %d verified, %d failed, %d skipped", len(r.Rebuilt), len(r.Verified), len(r.Failed), len(r.Skipped))
	printFailures(v.out, r, "", v.width)
	line("API       ", "%s: %s", count(total(v.calls), "call"), tally(v.calls))
	line("messages  ", "1 command sent, %s said, %s handled: %s",
		count(said, "event"), count(total(v.handled), "message"), tally(v.handled))
	line("time      ", "%.1f s", time.Since(v.begun).Seconds())
	say(v.out, "")
	if r.ok() {
		line("", "Every desktop runs the new image.")
	} else {
		line("", "Not every desktop runs the new image.")
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
