package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"recompose/events"
	"recompose/shared/rollout"
)

// lookEvery is the period in which a rollout that is watched is read.
const lookEvery = 2 * time.Second

// narrowest is the least width of a terminal on which a rollout is drawn.
const narrowest = 60

// await follows a rollout, from a revision on, until it has ended, halts or waits for a person. The error has the exit
// code.
func (s *rolloutSession) await(name string, revision int) error {
	var last rollout.Status
	err := s.lines(name, revision, func(status rollout.Status) bool {
		last = status
		halted := status.Phase == rollout.Halted && status.Open == 0 // what was sent may fail, too
		return status.Over() || halted || status.NeedsPerson
	})
	if err != nil {
		return &exitError{exitUnknown, fmt.Errorf("how rollout %s ends is not known: %w\n"+
			"It continues without this program.\nTo follow it: %s\nTo begin no further batch: %s", name, err,
			s.line("rollout", "status", name, "--watch"), s.line("rollout", "pause", name))}
	}
	if !s.f.json {
		printLine(s.people(), "%s", escape(last.EndText()))
		s.printNext(s.people(), last)
	}
	switch {
	case last.NeedsPerson:
		return &exitError{exitPerson, nil}
	case last.Phase == rollout.Halted || last.Phase == rollout.Aborted:
		return &exitError{exitFailed, nil}
	}
	return nil
}

// lines prints a line for each change of a rollout until stop returns true. Events up to a revision were printed
// before.
func (s *rolloutSession) lines(name string, revision int, stop func(rollout.Status) bool) error {
	reader := rollout.Viewer{Store: s.store, Name: name}
	changes := rollout.Changes{Since: revision}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	explained := time.Now()
	for {
		v, err := reader.Read(s.ctx)
		if err != nil && s.ctx.Err() == nil {
			return err
		}
		if err == nil {
			status := v.Status(time.Now())
			if err := s.printChanges(changes.Of(v), status); err != nil || stop(status) {
				return err
			}
			if time.Since(explained) >= whyEvery {
				explained = time.Now()
				printReasons(s.people(), s.reasons.New(s.held(s.ctx, v)))
			}
		}
		select {
		case <-s.ctx.Done():
			if errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("it has not ended within %v%s", s.f.timeout, becauseOf(s.reasons))
			}
			return errors.New("interrupted")
		case <-tick.C:
		}
	}
}

func (s *rolloutSession) printChanges(changes []rollout.Change, status rollout.Status) error {
	if s.f.json {
		if len(changes) == 0 {
			return nil
		}
		return printJSON(s.cmd.OutOrStdout(), status)
	}
	for _, c := range changes {
		if c.Type == "" {
			printLine(s.cmd.OutOrStdout(), "%s  %-14s  %s", c.At.Local().Format("15:04:05"), events.FnRollout, escape(c.Text))
			continue
		}
		e := events.Envelope{Type: c.Type, Source: events.Source(events.FnRollout), Data: c.Data}
		printEvent(s.cmd.OutOrStdout(), e, c.At.Local().Format("15:04:05"))
	}
	return nil
}

// watch shows a rollout until it is over or the person has seen enough.
func (s *rolloutSession) watch(name string) error {
	if !s.canDraw() {
		err := s.lines(name, 0, func(status rollout.Status) bool { return status.Over() })
		if s.cmd.Context().Err() != nil {
			err = nil // Ctrl-C ends the watching, and nothing else
		}
		return err
	}
	m := &screen{session: s, reader: rollout.Viewer{Store: s.store, Name: name}}
	_, err := tea.NewProgram(m, tea.WithContext(s.ctx), tea.WithInput(s.cmd.InOrStdin()),
		tea.WithOutput(s.cmd.OutOrStdout()), tea.WithoutSignalHandler()).Run()
	if err != nil && s.ctx.Err() == nil {
		return err
	}
	if m.err != nil {
		return m.err
	}
	if m.view != nil { // the screen is gone, and the last state stays
		now := time.Now()
		s.printStatus(s.cmd.OutOrStdout(), m.view, m.view.Status(now), now)
	}
	return nil
}

// canDraw reports whether a rollout is drawn, and not printed in lines.
func (s *rolloutSession) canDraw() bool {
	out := s.cmd.OutOrStdout()
	if s.f.json || !isTerminal(out) || !isTerminal(s.cmd.InOrStdin()) || os.Getenv("NO_COLOR") != "" {
		return false
	}
	term := os.Getenv("TERM")
	return term != "dumb" && term != "" && widthOf(out) >= narrowest
}

// screen draws one rollout.
type screen struct {
	session       *rolloutSession
	reader        rollout.Viewer
	view          *rollout.View
	held          []string // why it does not move
	err           error    // that ended it
	trouble       error    // of the last reading
	width, height int
}

// looked is the result of one reading.
type looked struct {
	view *rollout.View
	held []string
	err  error
}

type lookNow struct{}

// Init begins to read.
func (m *screen) Init() tea.Cmd { return m.look }

func (m *screen) look() tea.Msg {
	v, err := m.reader.Read(m.session.ctx)
	if err != nil {
		return looked{err: err}
	}
	return looked{view: v, held: m.session.held(m.session.ctx, v)}
}

// Update notes what was read, the size of the terminal, and keys.
func (m *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		if key := msg.String(); key == "q" || key == "ctrl+c" || key == "esc" {
			return m, tea.Quit
		}
	case lookNow:
		return m, m.look
	case looked:
		if m.trouble = msg.err; msg.err == nil {
			m.view, m.held = msg.view, msg.held
		}
		status := rollout.Status{}
		if m.view != nil {
			status = m.view.Status(time.Now())
		}
		if m.view == nil && msg.err != nil {
			m.err = msg.err
		}
		if m.err != nil || status.Over() {
			return m, tea.Quit
		}
		return m, tea.Tick(lookEvery, func(time.Time) tea.Msg { return lookNow{} })
	}
	return m, nil
}

// View draws the rollout.
func (m *screen) View() tea.View {
	v := tea.NewView(m.content(time.Now()))
	v.AltScreen = true
	return v
}

func (m *screen) content(now time.Time) string {
	if m.view == nil || m.height == 0 {
		return ""
	}
	status := m.view.Status(now)
	status.Held = m.held
	lines := m.view.Fit(status, now, m.width, m.height-2)
	text := ""
	for _, l := range lines {
		text += painted(l, m.width) + "\n"
	}
	foot := "q ends the watching, not the rollout"
	if m.trouble != nil {
		foot = "not read: " + escape(m.trouble.Error())
	} else if len(status.Next) > 0 && !status.Over() {
		foot += "  |  next: " + m.session.line(status.Next[0].Words...)
	}
	return text + lipgloss.NewStyle().MaxWidth(m.width).Faint(true).Render(foot)
}

// looks are the colours of the states.
var looks = map[string]lipgloss.Style{
	rollout.Heading:    lipgloss.NewStyle().Bold(true),
	rollout.Done:       lipgloss.NewStyle().Foreground(lipgloss.Green),
	rollout.BackDone:   lipgloss.NewStyle().Foreground(lipgloss.Cyan),
	rollout.Sent:       lipgloss.NewStyle().Foreground(lipgloss.Blue),
	rollout.Deferred:   lipgloss.NewStyle().Foreground(lipgloss.Magenta),
	rollout.Failed:     lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true),
	rollout.Missing:    lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true),
	rollout.Unverified: lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	rollout.Unknown:    lipgloss.NewStyle().Foreground(lipgloss.Yellow).Bold(true),
	rollout.Pending:    lipgloss.NewStyle().Faint(true),
	rollout.Skipped:    lipgloss.NewStyle().Faint(true),
	rollout.Refused:    lipgloss.NewStyle().Faint(true),
	rollout.Excluded:   lipgloss.NewStyle().Faint(true),
}

// painted is a line with its colours, cut at a width.
func painted(l rollout.Line, width int) string {
	text := ""
	for _, s := range l {
		style, ok := looks[s.Look]
		if !ok {
			style = lipgloss.NewStyle()
		}
		text += style.Render(escape(s.Text))
	}
	return lipgloss.NewStyle().MaxWidth(width).Render(text)
}
