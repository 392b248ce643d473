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
	"recompose/shared/chain"
	"recompose/shared/emulator"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/workspace"
)

// view prints the events and the progress of jobs of a demo. On a terminal the progress is a bar.
type view struct {
	out   io.Writer
	world *emulator.Server
	begun time.Time
	width int // of a line; 0: unlimited

	mu      sync.Mutex
	bar     *progressbar.ProgressBar // nil: plain lines
	quarter map[string]int           // job → latest quarter printed
	calls   map[string]int           // API operation → calls
	handled map[string]int           // function → messages
	ended   bool
}

func newView(out io.Writer, world *emulator.Server) *view {
	v := &view{out: out, world: world, begun: time.Now(), width: widthOf(out), quarter: map[string]int{},
		calls: map[string]int{}, handled: map[string]int{}}
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

// message counts a message that a function handled. Of an event that implies nothing for the function, nothing follows.
func (v *view) message(h natsqueue.Handled) {
	if h.Verdict == "ack" && len(h.Events) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.handled[h.Function]++
}

// line prints a line with the time since the beginning and its source.
func (v *view) line(source, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.print(source, fmt.Sprintf(format, args...))
}

func (v *view) print(source, text string) {
	if v.bar != nil {
		_ = v.bar.Clear()
	}
	printLine(v.out, "%s", wrapped(v.head(source), escape(text), v.indent(), v.width))
}

// narrowBelow is the width of lines below which texts are printed under their source, so that an id of 36 characters
// fits.
const narrowBelow = 80

// head returns the beginning of a line: the time and the source.
func (v *view) head(source string) string {
	head := fmt.Sprintf("%5.1fs  %-14s  ", time.Since(v.begun).Seconds(), source)
	if !v.narrow() {
		return head
	}
	return strings.TrimRight(head, " ") + "\n" + strings.Repeat(" ", v.indent())
}

func (v *view) narrow() bool { return v.width > 0 && v.width < narrowBelow }

// barWidth leaves room for the text before the bar and the percentage after it.
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

// event prints an event, except job.progress: progress shows it more exactly.
func (v *view) event(e events.Envelope) {
	if e.Type == events.TypeJobProgress {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i, text := range chain.Shortened(e, "") {
		if i == 0 {
			v.print(chain.FunctionOf(e.Source), text)
			continue
		}
		below := v.indent() + 2
		printLine(v.out, "%s", wrapped(strings.Repeat(" ", below), escape(text), below, v.width))
	}
}

// follow reads the emulator's jobs until ctx ends. It reads them directly, so that no API call is counted.
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

// progress prints the progress of jobs: each at every quarter, or all running ones in one bar.
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
		if quarter := percent / 25; v.bar == nil && quarter > v.quarter[j.ID] {
			v.quarter[j.ID] = quarter
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
		what = fmt.Sprintf("rebuilding %s", chain.Count(running-ended, "desktop"))
	}
	if !v.narrow() {
		what = v.head(events.FnWatchJob) + what
	}
	v.bar.Describe(what)
	_ = v.bar.Set(min(sum/running, 99)) // a full bar cannot be reopened
}

// jobProgress returns the progress of a job, and how many of its sub-jobs are over.
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
	return "rebuilding " + chain.Count(left, "desktop")
}

// end removes the bar.
func (v *view) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
	if v.bar != nil {
		_ = v.bar.Clear()
	}
}

// summary prints the result of the demo.
func (v *view) summary(r chain.Result, golden string, published int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := func(head, format string, args ...any) {
		printLine(v.out, "%s", wrapped(head, fmt.Sprintf(format, args...), len(head), v.width))
	}
	printLine(v.out, "")
	if r.Image != nil {
		line("image     ", "%s, id %s (%s), from desktop %s",
			escape(r.Image.ImageName), escape(r.Image.ImageID), escape(r.Image.ImageType), golden)
	}
	line("desktops  ", "%d rebuilt, %d verified, %d failed, %d skipped", len(r.Rebuilt), len(r.Verified), len(r.Failed),
		len(r.Skipped))
	printFailures(v.out, r, "", v.width)
	line("API       ", "%s: %s", chain.Count(total(v.calls), "call"), tally(v.calls))
	line("messages  ", "1 command sent, %s published, %s handled: %s",
		chain.Count(published, "event"), chain.Count(total(v.handled), "message"), tally(v.handled))
	line("time      ", "%.1f s", time.Since(v.begun).Seconds())
	printLine(v.out, "")
	if r.OK() {
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
