package rollout

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/chain"
)

// Span is a part of a line with one look: a state of a desktop, Heading, or "" for plain text. Its text may hold what
// messages brought, so it must be escaped before it is printed.
type Span struct {
	Text string
	Look string
}

// Heading is the look of words at the beginning of a line.
const Heading = "heading"

// Line is a line for people.
type Line []Span

// String is the line without its looks.
func (l Line) String() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return b.String()
}

func line(head, format string, args ...any) Line {
	return Line{{fmt.Sprintf("%-10s", head), Heading}, {fmt.Sprintf(format, args...), ""}}
}

// stateOrder is the order in which states are listed.
var stateOrder = []string{
	Done, BackDone, Sent, Pending, Deferred, Failed, Missing, Unverified, Unknown, Skipped, Refused, Excluded,
}

// glyphs stand for states, so that a picture can be read without colours.
var glyphs = map[string]string{
	Done: "#", BackDone: "<", Sent: ">", Pending: ".", Deferred: ":", Failed: "x", Missing: "x", Unverified: "?",
	Unknown: "?", Skipped: "-", Refused: "-", Excluded: "-", moved: " ",
}

func (c Counts) total() int {
	n := 0
	for _, k := range c {
		n += k
	}
	return n
}

func spaced(name string) string { return strings.ReplaceAll(name, "_", " ") }

// Layout is how much room lines may take.
type Layout struct {
	Width    int // columns of the cells; 0: 60
	CellRows int // lines of cells of a wave
	Failures int // failures that are listed
	Waves    int // waves that are listed; 0: all
}

// Lines describe the rollout: its phase, counts, waves with a cell for each desktop, failures, and why nothing moves.
func (v *View) Lines(s Status, now time.Time, l Layout) []Line {
	lines := []Line{line("rollout", "%s, %s", s.Name, s.headline())}
	lines = append(lines, line("image", "%s", s.imageText(v.Spec.Image)))
	if n := s.Counts.total(); n > 0 {
		lines = append(lines, line("desktops", "%d: %s", n, chain.CountsText(s.Counts)))
	}
	if s.Given != nil {
		lines = append(lines, line("settings", "%s", strings.Join(s.Settings.differences(*s.Given), "; ")))
	}
	lines = append(lines, s.paceLines(now)...)
	lines = append(lines, s.whyLines(now)...)
	shown := s.Waves
	if l.Waves > 0 && len(shown) > l.Waves {
		first := slices.IndexFunc(shown, func(w WaveStatus) bool { return w.State != WaveDone })
		if first < 0 {
			first = len(shown)
		}
		from := min(max(first-1, 0), len(shown)-l.Waves)
		shown = shown[from : from+l.Waves]
	}
	states := map[string]bool{}
	for _, w := range shown {
		lines = append(lines, w.line(now))
		lines = append(lines, v.cellLines(w.Number-1, l, states)...)
	}
	if legend := legendOf(states); legend != nil {
		lines = append(lines, legend)
	}
	return append(lines, failureLines(s.Failures, l.Failures)...)
}

func (s Status) headline() string {
	text := spaced(s.Phase)
	switch {
	case s.PlanOnly && s.Phase == Planned:
		text = "planned only; it does not run"
	case s.Phase == Halted && s.Why != "":
		text += " (" + s.Why + ")"
	}
	if s.Plan > 1 {
		text += fmt.Sprintf(", plan %d", s.Plan)
	}
	return text
}

func (s Status) imageText(wanted Image) string {
	if s.Image.ID == "" {
		return "will be made from desktop " + wanted.FromDesktop
	}
	if s.Image.Type == "" {
		return s.Image.ID
	}
	return s.Image.ID + " (" + s.Image.Type + ")"
}

func (s Status) paceLines(now time.Time) []Line {
	var parts []string
	if s.PerHour > 0 {
		parts = append(parts, chain.Count(int(math.Round(s.PerHour)), "desktop")+" an hour")
	}
	if !s.End.IsZero() {
		parts = append(parts, "estimated end "+chain.Clock(s.End, now))
	}
	if len(parts) == 0 {
		return nil
	}
	return []Line{line("rate", "%s", strings.Join(parts, ", "))}
}

// whyLines are why nothing moves, and until when.
func (s Status) whyLines(now time.Time) []Line {
	var lines []Line
	if w := s.Waiting; w != nil {
		text := cmp.Or(w.Text, spaced(w.Reason)) + " (since " + chain.Clock(w.Since, now)
		if !w.Until.IsZero() {
			text += ", until " + chain.Clock(w.Until, now)
		}
		lines = append(lines, line("waits", "%s)", text))
		for _, held := range s.Held {
			lines = append(lines, line("", "%s", held))
		}
	} else if s.Reason != "" {
		lines = append(lines, line("reason", "%s", s.Reason))
	}
	if o := s.Offer; o != nil {
		lines = append(lines, line("offer", "a %s waits for approval until %s: %s", o.Verb,
			chain.Clock(o.Until, now), o.Digest))
	}
	if s.Stalled > 0 {
		lines = append(lines, line("stalled", "its next step is %v overdue: no worker runs the function rollout, "+
			"or none can read the store", s.Stalled.Round(time.Minute)))
	}
	return lines
}

func (w WaveStatus) line(now time.Time) Line {
	text := fmt.Sprintf("%-8s  %5d  %-5s  ", w.Kind, w.Size, w.State)
	if w.State == WaveSoaks {
		text += "until " + chain.Clock(w.Until, now) + ", "
	}
	text += chain.CountsText(w.Counts)
	if w.ImageID != "" {
		text += ", to image " + w.ImageID
	}
	return line(fmt.Sprintf("wave %d", w.Number), "%s", text)
}

// cellLines are the cells of a wave. It notes the states that they have.
func (v *View) cellLines(wave int, l Layout, states map[string]bool) []Line {
	width := cmp.Or(l.Width, 60)
	var lines []Line
	for row := range slices.Chunk(v.Cells(wave, width*l.CellRows), width) {
		if !slices.ContainsFunc(row, func(state string) bool { return state != moved }) {
			continue // its desktops have moved to later waves
		}
		cells := Line{{strings.Repeat(" ", 10), ""}}
		for _, state := range row {
			states[state] = true
			glyph := cmp.Or(glyphs[state], "?")
			if last := &cells[len(cells)-1]; last.Look == state {
				last.Text += glyph
			} else {
				cells = append(cells, Span{glyph, state})
			}
		}
		lines = append(lines, cells)
	}
	return lines
}

// legendOf explains the cells.
func legendOf(states map[string]bool) Line {
	legend := Line{{strings.Repeat(" ", 10), ""}}
	for _, state := range stateOrder {
		if states[state] {
			legend = append(legend, Span{glyphs[state], state}, Span{" " + spaced(state) + "  ", ""})
		}
	}
	if len(legend) == 1 {
		return nil
	}
	last := &legend[len(legend)-1]
	last.Text = strings.TrimRight(last.Text, " ")
	return legend
}

// failureLines list failures with their reasons, alike ones together.
func failureLines(failures []events.RolloutDesktop, most int) []Line {
	if len(failures) == 0 || most <= 0 {
		return nil
	}
	type kind struct{ state, code, reason string }
	ids := map[kind][]string{}
	var order []kind
	for _, f := range failures {
		k := kind{f.State, f.Code, f.Reason}
		if ids[k] == nil {
			order = append(order, k)
		}
		ids[k] = append(ids[k], f.DesktopID)
	}
	slices.SortStableFunc(order, func(a, b kind) int { return len(ids[b]) - len(ids[a]) })
	var lines []Line
	for i, k := range order {
		if i == most {
			lines = append(lines, line("", "%d more reasons; --json shows all", len(order)-most))
			break
		}
		why := spaced(k.state)
		for _, part := range []string{k.code, k.reason} {
			if part != "" {
				why += ", " + part
			}
		}
		l := line(map[bool]string{true: "failures"}[i == 0], "%s: %s", why, chain.First(ids[k], 3))
		l[1].Look = k.state
		lines = append(lines, l)
	}
	return lines
}

// Fit describes the rollout in at most so many lines: with the cells, waves and failures for which there is room.
func (v *View) Fit(s Status, now time.Time, width, height int) []Line {
	l := Layout{Width: max(width-12, 10), CellRows: 8, Failures: 8}
	lines := v.Lines(s, now, l)
	for len(lines) > height && (l.CellRows > 1 || l.Failures > 2 || l.Waves != 1) {
		switch {
		case l.CellRows > 1:
			l.CellRows--
		case l.Failures > 2:
			l.Failures--
		case l.Waves == 0:
			l.Waves = max(len(s.Waves)-1, 1)
		default:
			l.Waves--
		}
		lines = v.Lines(s, now, l)
	}
	return lines[:min(len(lines), max(height, 0))]
}

// ListText is a line for a list of rollouts.
func (s Status) ListText() string {
	return fmt.Sprintf("%s  %-40s  %-12s  %s", s.Started.Local().Format("2006-01-02 15:04"), s.Name,
		spaced(s.Phase), chain.CountsText(s.Counts))
}

// EndText is a line about how a rollout ended, or stands.
func (s Status) EndText() string {
	text := fmt.Sprintf("rollout %s %s: %s", s.Name, spaced(s.Phase), chain.CountsText(s.Counts))
	if s.Reason != "" {
		text += "; " + s.Reason
	}
	return text
}
