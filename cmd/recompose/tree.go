package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"recompose/events"
)

// Kinds of nodes.
const (
	nodeCommand = "command"
	nodeEvent   = "event"
)

// node is a command of a chain or an event in it. Under a command stand the events that answer it, under an event what
// answers or follows from it. All of it is told by events: what a command asked for is known only by its answers.
type node struct {
	Kind     string         `json:"kind"`
	ID       string         `json:"id"`
	Function string         `json:"function,omitempty"`
	Type     string         `json:"type,omitempty"`
	Time     time.Time      `json:"time,omitzero"`
	AfterMS  *int64         `json:"after_ms,omitempty"` // since the event that stands above it
	JobID    string         `json:"job_id,omitempty"`
	Percent  int            `json:"percent,omitempty"`  // of a job that is open
	Outcome  string         `json:"outcome,omitempty"`  // of a job
	Effect   string         `json:"effect,omitempty"`   // of a command that failed
	Attempts int            `json:"attempts,omitempty"` // of a command that failed
	Desktops map[string]int `json:"desktops,omitempty"` // how many, by what became of them
	Calls    []apiCall      `json:"calls,omitempty"`
	Open     bool           `json:"open,omitempty"` // the chain waits for it
	Says     []string       `json:"says,omitempty"`
	Children []*node        `json:"children,omitempty"`
}

// apiCall is a call of the service that an event proves.
type apiCall struct {
	Call      string `json:"call"`
	Status    int    `json:"status,omitempty"` // of one that was refused
	ErrorCode string `json:"error_code,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// tree is a whole chain.
type tree struct {
	Correlation string    `json:"correlationid"`
	Events      int       `json:"events"`
	First       time.Time `json:"first,omitzero"`
	Last        time.Time `json:"last,omitzero"`
	DurationMS  int64     `json:"duration_ms"` // from the first event to the last
	Open        []string  `json:"open"`        // what the chain still waits for
	Roots       []*node   `json:"roots"`
}

// tree makes the tree of what has been said so far.
func (c *chain) tree() tree {
	t := tree{Correlation: c.correlation, Events: len(c.said), Open: []string{}, Roots: []*node{}}
	g := &grower{answers: map[string][]events.Envelope{}, open: map[string]bool{}, grown: map[string]bool{}, percent: map[string]int{}}
	for _, e := range c.said {
		about := c.under(e)
		if e.Type == events.TypeJobProgress { // it stands with its job, not as a node
			var p events.JobProgress
			_ = json.Unmarshal(e.Data, &p)
			g.percent[about], g.grown[e.Identity()] = max(g.percent[about], p.Percent), true
		} else {
			g.answers[about] = append(g.answers[about], e)
		}
		if !e.Time.IsZero() && (t.First.IsZero() || e.Time.Before(t.First)) {
			t.First = e.Time
		}
		if e.Time.After(t.Last) {
			t.Last = e.Time
		}
	}
	for _, said := range g.answers {
		slices.SortFunc(said, earlier)
	}
	for _, p := range c.open() {
		g.open[p.ID] = true
		t.Open = append(t.Open, p.String())
	}
	slices.Sort(t.Open)
	t.DurationMS = t.Last.Sub(t.First).Milliseconds()
	var roots []string
	for _, root := range c.roots() {
		if !slices.Contains(roots, root.ID) {
			roots = append(roots, root.ID)
		}
	}
	slices.SortFunc(roots, func(a, b string) int { return cmp.Or(g.first(a).Compare(g.first(b)), cmp.Compare(a, b)) })
	for _, id := range roots {
		t.Roots = append(t.Roots, g.command(id, "", time.Time{}, nil))
	}
	said := slices.SortedFunc(slices.Values(c.said), earlier)
	for _, e := range said { // what is between them and a root has not been said, or is no longer kept
		if !g.grown[e.Identity()] {
			t.Roots = append(t.Roots, g.command(c.under(e), "", time.Time{}, nil))
		}
	}
	return t
}

// under is the id of the command or event that an event stands under: what it answers, or what a notice is about.
func (c *chain) under(e events.Envelope) string {
	if !events.IsNotice(e.Type) {
		return e.Causation
	}
	var about struct {
		Command events.CommandRef `json:"command"`
		JobID   string            `json:"job_id"`
	}
	_ = json.Unmarshal(e.Data, &about)
	for _, accepted := range c.said {
		var a events.JobAccepted
		if accepted.Type == events.TypeJobAccepted && json.Unmarshal(accepted.Data, &a) == nil && a.JobID == about.JobID && a.JobID != "" {
			return accepted.ID
		}
	}
	return about.Command.ID
}

func earlier(a, b events.Envelope) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
}

// grower makes nodes.
type grower struct {
	answers map[string][]events.Envelope // by what they answer
	open    map[string]bool
	percent map[string]int  // how far a job is, by its job.accepted
	grown   map[string]bool // events that have their place already: an id may name a command and an event
}

func (g *grower) first(id string) time.Time {
	if a := g.answers[id]; len(a) > 0 {
		return a[0].Time
	}
	return time.Time{}
}

func (g *grower) command(id, function string, above time.Time, desktops map[string]int) *node {
	n := &node{Kind: nodeCommand, ID: id, Function: function, Desktops: desktops, Open: g.open[id]}
	for _, e := range g.answers[id] {
		if n.Function == "" {
			n.Function = answeredBy(e)
		}
	}
	n.Children = g.events(id, above)
	return n
}

// answeredBy is the function whose command an event answers. It is not always the one that says it.
func answeredBy(e events.Envelope) string {
	if named := e.Answered(); events.IsCommand(named.Type) {
		return functionOf(named.Type)
	}
	return functionOf(e.Source)
}

// events are those that answer a command or an event.
func (g *grower) events(id string, above time.Time) []*node {
	var nodes []*node
	for _, e := range g.answers[id] {
		if key := e.Identity(); !g.grown[key] {
			g.grown[key] = true
			nodes = append(nodes, g.event(e, above))
		}
	}
	return nodes
}

func (g *grower) event(e events.Envelope, above time.Time) *node {
	n := &node{Kind: nodeEvent, ID: e.ID, Function: functionOf(e.Source), Type: e.Type, Time: e.Time.UTC(), Says: describe(e)}
	if !above.IsZero() && !e.Time.IsZero() {
		// A job.accepted has the time of the service, which has whole seconds of a clock of its own.
		after := max(e.Time.Sub(above).Milliseconds(), 0)
		n.AfterMS = &after
	}
	switch e.Type {
	case events.TypeJobAccepted:
		var a events.JobAccepted
		_ = json.Unmarshal(e.Data, &a)
		n.accepted(a)
		n.Open = g.open[e.ID]
		if n.Open {
			n.Percent = g.percent[e.ID]
		}
		n.Children = g.events(e.ID, e.Time)
	case events.TypeJobCompleted:
		var d events.JobCompleted
		_ = json.Unmarshal(e.Data, &d)
		n.completed(d)
		for _, function := range []string{events.FnRebuild, events.FnCheckImages} {
			id := events.ReactionID(e, function)
			if g.open[id] || len(g.answers[id]) > 0 {
				n.Children = append(n.Children, g.command(id, function, e.Time, asked(d, function)))
			}
		}
	case events.TypeCommandSplit:
		var s events.CommandSplit
		_ = json.Unmarshal(e.Data, &s)
		for _, part := range s.Parts {
			n.Children = append(n.Children, g.command(part.ID, or(functionOf(s.Command.Type), events.FnRebuild), e.Time, counts(map[string]int{"asked": len(part.DesktopIDs)})))
		}
	case events.TypeImagesChecked:
		var checked events.ImagesChecked
		_ = json.Unmarshal(e.Data, &checked)
		n.checked(checked)
	case events.TypeDesktopDescribed:
		n.Calls = []apiCall{{Call: callNames[events.FnGetDesktop]}}
	case events.TypeCommandFailed:
		var f events.CommandFailed
		_ = json.Unmarshal(e.Data, &f)
		n.failed(f)
	}
	return n
}

// callNames are the calls of the functions that wrap one.
var callNames = map[string]string{
	events.FnCheckImages: "POST check-images", events.FnDesktopToImage: "POST desktop-to-image",
	events.FnRebuild: "POST rebuild", events.FnGetDesktop: "GET desktop", events.FnWatchJob: "GET workspace-sub-jobs",
}

func (n *node) accepted(a events.JobAccepted) {
	n.JobID = a.JobID
	n.Desktops = counts(map[string]int{"asked": len(a.DesktopIDs), events.Skipped: len(a.Skipped)})
	write := apiCall{Call: callNames[a.Function], RequestID: a.RequestID}
	if a.Warning != nil {
		write.ErrorCode = a.Warning.ErrorCode
		write.RequestID = cmp.Or(a.RequestID, a.Warning.RequestID)
	}
	if len(a.Previous) > 0 { // the baseline, asked before it
		n.Calls = append(n.Calls, apiCall{Call: callNames[events.FnCheckImages]})
	}
	n.Calls = append(n.Calls, write)
}

func (n *node) completed(d events.JobCompleted) {
	n.JobID, n.Outcome = d.JobID, d.Outcome
	for _, r := range d.Desktops {
		if n.Desktops == nil {
			n.Desktops = map[string]int{}
		}
		n.Desktops[r.Outcome]++
	}
	if d.JobID == "" { // every desktop skipped, by what the baseline told
		n.Calls = []apiCall{{Call: callNames[events.FnCheckImages]}}
		return
	}
	n.Calls = []apiCall{called(events.FnWatchJob, d.Error)}
	if d.Image != nil {
		n.Calls = append(n.Calls, apiCall{Call: "GET images"})
	}
}

func (n *node) checked(c events.ImagesChecked) {
	if c.Expected == nil {
		n.Desktops = counts(map[string]int{"told": len(c.ImageInfos) + missingOnly(c) - len(c.Missing), events.Missing: len(c.Missing)})
	} else {
		n.Desktops = counts(map[string]int{"matched": len(c.Matched), outcomeMismatched: len(c.Mismatched)})
	}
	n.Calls = []apiCall{{Call: callNames[events.FnCheckImages]}}
}

func (n *node) failed(f events.CommandFailed) {
	n.Effect, n.Attempts = f.Effect, f.Attempts
	n.Desktops = counts(map[string]int{events.Failed: len(f.DesktopIDs)})
	if f.Error.HTTPStatus != 0 || f.Error.RequestID != "" {
		n.Calls = []apiCall{called(n.Function, &f.Error)}
	}
}

func called(function string, f *events.Failure) apiCall {
	c := apiCall{Call: callNames[function]}
	if f != nil {
		c.Status, c.ErrorCode, c.RequestID = f.HTTPStatus, f.ErrorCode, f.RequestID
	}
	return c
}

// asked are the desktops that a reaction is about.
func asked(d events.JobCompleted, function string) map[string]int {
	if function == events.FnCheckImages {
		return counts(map[string]int{"asked": len(d.Rebuilt())})
	}
	if d.Then == nil || d.Then.Rebuild == nil {
		return nil
	}
	return counts(map[string]int{"asked": len(d.Then.Rebuild.DesktopIDs)})
}

// counts are numbers of desktops by what became of them, without those that are zero.
func counts(m map[string]int) map[string]int {
	maps.DeleteFunc(m, func(_ string, n int) bool { return n == 0 })
	if len(m) == 0 {
		return nil
	}
	return m
}

func (c apiCall) String() string {
	s := c.Call
	if c.Status != 0 {
		s += " → " + strconv.Itoa(c.Status)
	}
	if c.ErrorCode != "" {
		s += " " + c.ErrorCode
	}
	if c.RequestID != "" {
		s += ", request " + c.RequestID
	}
	return s
}
