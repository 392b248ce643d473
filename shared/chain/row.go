package chain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
)

// Command is a command that a transport still stores.
type Command struct {
	events.Envelope
	Stored time.Time // by the clock of the transport
	Next   time.Time // next attempt of a delayed command; else zero
}

// began is when the command was sent. A delayed command is stored anew for each attempt.
func (c Command) began() time.Time {
	if c.Time.IsZero() || c.Stored.Before(c.Time) {
		return c.Stored
	}
	return c.Time
}

// Row is a chain in a list of chains.
type Row struct {
	Correlation string    `json:"correlationid"`
	First       time.Time `json:"first"` // of the first event, or of a stored command that is older
	Last        time.Time `json:"last"`
	Function    string    `json:"function,omitempty"` // of the first command
	Desktops    int       `json:"desktops,omitempty"` // that its answers name
	By          string    `json:"by,omitempty"`       // source of the first command
	State       string    `json:"state"`              // open, succeeded, failed
	Open        []string  `json:"open,omitempty"`
	Failed      int       `json:"failed,omitempty"`    // desktops
	IDReused    int       `json:"id_reused,omitempty"` // commands refused because their id was used before for other data

	Text string `json:"-"` // State in words
}

// NewRow sums up a chain: its events, and its stored commands, which may have no event yet.
func NewRow(id string, published []events.Envelope, waiting []Command) Row {
	c := New(id, events.Root{})
	done, reused := withoutReused(published)
	for _, e := range done {
		c.Add(e)
	}
	t := c.Tree()
	roots := c.Roots()
	row := Row{Correlation: id, First: t.First, Last: t.Last, Open: t.Open, IDReused: reused}
	for _, e := range c.events {
		if events.IsNotice(e.Type) || !slices.ContainsFunc(roots, func(r events.Root) bool { return r.ID == e.Causation }) {
			continue
		}
		row.Function, row.By = cmp.Or(row.Function, answeredFunction(e)), cmp.Or(row.By, e.Answered().Source)
		row.Desktops = max(row.Desktops, desktopsIn(e))
	}
	row.fillFromNotices(c.events)
	open := c.Open()
	if len(c.events) == 0 {
		open, row.Open = nil, nil
	}
	r := c.Result()
	row.Failed = len(r.Failed)
	texts, progress := c.Progress(open, time.Now())
	if texts = append(texts, progress...); len(texts) == 0 && len(open) > 0 {
		texts = []string{OpenText(open)}
	}
	for _, w := range waiting {
		if began := w.began(); row.First.IsZero() || began.Before(row.First) {
			row.First = began
		}
		if isAnswered(w, published, open) {
			continue
		}
		what := FunctionOf(w.Type) + " command " + w.ID
		row.Open, texts = append(row.Open, what), append(texts, what+" has no event yet"+nextText(w.Next))
		row.Function, row.By = cmp.Or(row.Function, FunctionOf(w.Type)), cmp.Or(row.By, w.Source)
		row.Desktops = max(row.Desktops, len(events.DesktopIDs(w.Data)))
		if w.Stored.After(row.Last) {
			row.Last = w.Stored
		}
	}
	switch {
	case len(row.Open) > 0:
		row.State, row.Text = "open", "open: "+strings.Join(texts, "; ")
	case r.OK():
		row.State, row.Text = "succeeded", "succeeded"
	default:
		row.State, row.Text = "failed", "failed"
		var what []string
		if row.Failed > 0 {
			what = append(what, Count(row.Failed, "desktop"))
		}
		what = append(what, lostJobs(c.Own())...)
		if len(what) == 0 { // no desktop failed
			what = failedKinds(c.Own())
		}
		if len(what) > 0 {
			row.Text += ": " + strings.Join(what, "; ")
		}
	}
	if reused > 0 {
		row.Text += fmt.Sprintf("; %s with its id refused: other data", Count(reused, "command"))
	}
	return row
}

// fillFromNotices completes the row of a chain without answers: notices name the command that they are about.
func (r *Row) fillFromNotices(published []events.Envelope) {
	for _, e := range published {
		command := e.Answered()
		if !events.IsNotice(e.Type) || r.Function != "" || !events.IsCommand(command.Type) {
			continue
		}
		r.Function, r.By, r.Desktops = FunctionOf(command.Type), command.Source, desktopsIn(e)
	}
}

// lostJobs describes the jobs of a chain that are lost.
func lostJobs(published []events.Envelope) (lost []string) {
	for _, e := range published {
		var done events.JobCompleted
		if e.Type != events.TypeJobCompleted || json.Unmarshal(e.Data, &done) != nil {
			continue
		}
		if done.Outcome == events.Lost && done.JobID != "" {
			lost = append(lost, lostJobText(done))
		}
	}
	return lost
}

// failedKinds are why commands of a chain failed, each once.
func failedKinds(published []events.Envelope) (kinds []string) {
	for _, e := range published {
		var f events.CommandFailed
		if e.Type != events.TypeCommandFailed || json.Unmarshal(e.Data, &f) != nil {
			continue
		}
		if kind := strings.ReplaceAll(f.Error.Kind, "_", " "); kind != "" && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// withoutReused removes the failures of commands whose id was used before for other data, and counts them. It removes
// nothing if there is no other answer.
func withoutReused(published []events.Envelope) ([]events.Envelope, int) {
	isReused := func(e events.Envelope) bool {
		var f events.CommandFailed
		return e.Type == events.TypeCommandFailed && json.Unmarshal(e.Data, &f) == nil && f.Error.Kind == events.KindIDReused
	}
	kept := slices.DeleteFunc(slices.Clone(published), isReused)
	if !slices.ContainsFunc(kept, func(e events.Envelope) bool { return !events.IsNotice(e.Type) }) {
		return published, 0
	}
	return kept, len(published) - len(kept)
}

// isAnswered reports whether events answer a stored command, or the chain lists it as open already.
func isAnswered(w Command, published []events.Envelope, open []events.Pending) bool {
	pending := func(p events.Pending) bool { return p.ID == w.ID }
	root := events.Root{ID: w.ID, Source: w.Source, Digest: w.Digest()}
	return slices.ContainsFunc(open, pending) || !slices.ContainsFunc(events.Open(root, published), pending)
}

func nextText(next time.Time) string {
	if next.IsZero() {
		return ""
	}
	return ", next attempt at " + Clock(next, time.Now())
}

// desktopsIn counts the desktops that an answer names.
func desktopsIn(e events.Envelope) int {
	var about struct {
		DesktopIDs []string          `json:"desktop_ids"`
		Skipped    []string          `json:"skipped"`
		Desktops   []json.RawMessage `json:"desktops"`
		Parts      []events.Part     `json:"parts"`
		Infos      []json.RawMessage `json:"image_infos"`
		Desktop    json.RawMessage   `json:"desktop"`
	}
	_ = json.Unmarshal(e.Data, &about)
	n := max(len(about.DesktopIDs)+len(about.Skipped), len(about.Desktops), len(about.Infos))
	if about.Desktop != nil {
		n = max(n, 1)
	}
	for _, p := range about.Parts {
		n += len(p.DesktopIDs)
	}
	return n
}
