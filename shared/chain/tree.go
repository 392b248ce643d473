package chain

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

// Node is a command or an event of a chain. The children of a command are the events that answer it; the children of
// an event are what answers it or follows from it. Everything is derived from events: the content of a command is
// known only by its answers.
type Node struct {
	Kind     string         `json:"kind"`
	ID       string         `json:"id"`
	Function string         `json:"function,omitempty"`
	Type     string         `json:"type,omitempty"`
	Time     time.Time      `json:"time,omitzero"`
	AfterMS  *int64         `json:"after_ms,omitempty"` // since the parent event
	JobID    string         `json:"job_id,omitempty"`
	Percent  int            `json:"percent,omitempty"`  // of a job that is open
	Outcome  string         `json:"outcome,omitempty"`  // of a job
	Effect   string         `json:"effect,omitempty"`   // of a command that failed
	Attempts int            `json:"attempts,omitempty"` // of a command that failed
	Desktops map[string]int `json:"desktops,omitempty"` // counts, by outcome
	Calls    []Call         `json:"calls,omitempty"`
	Open     bool           `json:"open,omitempty"` // the chain waits for it
	Texts    []string       `json:"says,omitempty"` // of Describe
	Children []*Node        `json:"children,omitempty"`

	noEnd bool // of an event: it does not end the command above it
}

// Call is a call of the service that an event proves.
type Call struct {
	Call      string `json:"call"`
	Status    int    `json:"status,omitempty"` // of one that was refused
	ErrorCode string `json:"error_code,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// Tree is a whole chain.
type Tree struct {
	Correlation string    `json:"correlationid"`
	Events      int       `json:"events"`
	Progress    int       `json:"progress,omitempty"` // of them: job.progress, which are no nodes
	First       time.Time `json:"first,omitzero"`
	Last        time.Time `json:"last,omitzero"`
	DurationMS  int64     `json:"duration_ms"` // from the first event to the last
	Open        []string  `json:"open"`        // what the chain still waits for
	Roots       []*Node   `json:"roots"`
}

// Tree returns the tree of the events so far.
func (c *Chain) Tree() Tree {
	t := Tree{Correlation: c.Correlation, Events: len(c.events), Open: []string{}, Roots: []*Node{}}
	g := &treeBuilder{answers: map[string][]events.Envelope{}, open: map[string]bool{}, placed: map[string]bool{},
		percent: map[string]int{}}
	for _, e := range c.events {
		parent := c.parent(e)
		if e.Type == events.TypeJobProgress { // shown with its job, not as a node of its own
			p := dataOf[events.JobProgress](e)
			g.percent[parent], g.placed[e.Identity()] = max(g.percent[parent], p.Percent), true
			t.Progress++
		} else {
			g.answers[parent] = append(g.answers[parent], e)
		}
		if !e.Time.IsZero() && (t.First.IsZero() || e.Time.Before(t.First)) {
			t.First = e.Time
		}
		if e.Time.After(t.Last) {
			t.Last = e.Time
		}
	}
	for _, answers := range g.answers {
		slices.SortFunc(answers, compareTimes)
	}
	for _, p := range c.Open() {
		g.open[p.ID] = true
		t.Open = append(t.Open, p.String())
	}
	slices.Sort(t.Open)
	t.DurationMS = t.Last.Sub(t.First).Milliseconds()
	var roots []string
	for _, root := range c.Roots() {
		if !slices.Contains(roots, root.ID) {
			roots = append(roots, root.ID)
		}
	}
	slices.SortFunc(roots, func(a, b string) int { return cmp.Or(g.first(a).Compare(g.first(b)), cmp.Compare(a, b)) })
	for _, id := range roots {
		t.Roots = append(t.Roots, g.command(id, "", time.Time{}, nil))
	}
	// An event whose chain to a root is incomplete becomes a root: the events between were not published or are no longer
	// stored.
	for _, e := range slices.SortedFunc(slices.Values(c.events), compareTimes) {
		if !g.placed[e.Identity()] {
			t.Roots = append(t.Roots, g.command(c.parent(e), "", time.Time{}, nil))
		}
	}
	return t
}

// parent returns the id of the command or event that an event answers, or that a notice is about.
func (c *Chain) parent(e events.Envelope) string {
	if e.Causation != "" && !events.IsNotice(e.Type) && !ofRollout(e) {
		return e.Causation
	}
	var about struct {
		Command events.CommandRef `json:"command"`
		JobID   string            `json:"job_id"`
	}
	_ = json.Unmarshal(e.Data, &about)
	for _, accepted := range c.events {
		var a events.JobAccepted
		if accepted.Type != events.TypeJobAccepted || json.Unmarshal(accepted.Data, &a) != nil {
			continue
		}
		if a.JobID == about.JobID && a.JobID != "" {
			return accepted.ID
		}
	}
	return about.Command.ID
}

func compareTimes(a, b events.Envelope) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
}

// treeBuilder makes nodes.
type treeBuilder struct {
	answers map[string][]events.Envelope // by the id of their parent
	open    map[string]bool
	percent map[string]int  // progress of a job, by the id of its job.accepted
	placed  map[string]bool // identities that are in the tree; an id may name both a command and an event
}

func (g *treeBuilder) first(id string) time.Time {
	if a := g.answers[id]; len(a) > 0 {
		return a[0].Time
	}
	return time.Time{}
}

func (g *treeBuilder) command(id, function string, above time.Time, desktops map[string]int) *Node {
	n := &Node{Kind: nodeCommand, ID: id, Function: function, Desktops: desktops, Open: g.open[id]}
	for _, e := range g.answers[id] {
		if n.Function == "" {
			n.Function = answeredFunction(e)
		}
	}
	n.Children = g.events(id, above)
	return n
}

// answeredFunction returns the function whose command an event answers. Another function may publish the event.
func answeredFunction(e events.Envelope) string {
	if command := e.Answered(); events.IsCommand(command.Type) {
		return FunctionOf(command.Type)
	}
	return FunctionOf(e.Source)
}

// events returns the nodes of the events that answer a command or an event.
func (g *treeBuilder) events(id string, above time.Time) []*Node {
	var nodes []*Node
	for _, e := range g.answers[id] {
		if key := e.Identity(); !g.placed[key] {
			g.placed[key] = true
			nodes = append(nodes, g.event(e, above))
		}
	}
	return nodes
}

func (g *treeBuilder) event(e events.Envelope, above time.Time) *Node {
	n := &Node{Kind: nodeEvent, ID: e.ID, Function: FunctionOf(e.Source), Type: e.Type, Time: e.Time.UTC(),
		Texts: Describe(e)}
	n.noEnd = e.Type == events.TypeJobAccepted || e.Causation == "" || events.IsNotice(e.Type) || ofRollout(e)
	if !above.IsZero() && !e.Time.IsZero() {
		// A job.accepted has the time of the service: whole seconds of another clock.
		after := max(e.Time.Sub(above).Milliseconds(), 0)
		n.AfterMS = &after
	}
	switch e.Type {
	case events.TypeJobAccepted:
		n.accepted(dataOf[events.JobAccepted](e))
		n.Open = g.open[e.ID]
		if n.Open {
			n.Percent = g.percent[e.ID]
		}
		n.Children = g.events(e.ID, e.Time)
	case events.TypeJobCompleted:
		d := dataOf[events.JobCompleted](e)
		n.completed(d)
		for _, function := range []string{events.FnRebuild, events.FnCheckImages} {
			id := events.ReactionID(e, function)
			if g.open[id] || len(g.answers[id]) > 0 {
				n.Children = append(n.Children, g.command(id, function, e.Time, requested(d, function)))
			}
		}
	case events.TypeCommandSplit:
		s := dataOf[events.CommandSplit](e)
		for _, part := range s.Parts {
			n.Children = append(n.Children, g.command(part.ID, cmp.Or(FunctionOf(s.Command.Type), events.FnRebuild), e.Time,
				counts(map[string]int{"asked": len(part.DesktopIDs)})))
		}
	case events.TypeImagesChecked:
		n.checked(dataOf[events.ImagesChecked](e))
	case events.TypeDesktopsListed:
		l := dataOf[events.DesktopsListed](e)
		n.Desktops = counts(map[string]int{"listed": len(l.Desktops), events.Missing: len(l.Missing)})
	case events.TypeRolloutPlanned:
		start := e.Answered()
		n.Open = g.open[events.RolloutEnd(events.Identity(start.Source, start.ID))]
	case events.TypeCommandFailed:
		n.failed(dataOf[events.CommandFailed](e))
	}
	if command := events.CommandOf(n.Function); command.Reads() && e.Type == command.Answer {
		n.Calls = []Call{{Call: command.Call}}
	}
	return n
}

// callOf is the API call that a function wraps.
func callOf(function string) string {
	if function == events.FnWatchJob { // no sender sends its commands
		return "GET workspace-sub-jobs"
	}
	return events.CommandOf(function).Call
}

func (n *Node) accepted(a events.JobAccepted) {
	n.JobID = a.JobID
	n.Desktops = counts(map[string]int{"asked": len(a.DesktopIDs), events.Skipped: len(a.Skipped)})
	write := Call{Call: callOf(a.Function), RequestID: a.RequestID}
	if a.Warning != nil {
		write.ErrorCode = a.Warning.ErrorCode
		write.RequestID = cmp.Or(a.RequestID, a.Warning.RequestID)
	}
	if len(a.Previous) > 0 { // the baseline was read before the write
		n.Calls = append(n.Calls, Call{Call: callOf(events.FnCheckImages)})
	}
	n.Calls = append(n.Calls, write)
}

func (n *Node) completed(d events.JobCompleted) {
	n.JobID, n.Outcome = d.JobID, d.Outcome
	for _, r := range d.Desktops {
		if n.Desktops == nil {
			n.Desktops = map[string]int{}
		}
		n.Desktops[r.Outcome]++
	}
	if d.JobID == "" { // no job was needed, or none was found: the images decided
		n.Calls = []Call{{Call: callOf(events.FnCheckImages)}}
		return
	}
	n.Calls = []Call{called(events.FnWatchJob, d.Error)}
	if d.Image != nil {
		n.Calls = append(n.Calls, Call{Call: "GET images"})
	}
}

func (n *Node) checked(c events.ImagesChecked) {
	if c.Expected == nil {
		n.Desktops = counts(map[string]int{"told": len(c.ImageInfos) + missingOnly(c) - len(c.Missing),
			events.Missing: len(c.Missing)})
	} else {
		n.Desktops = counts(map[string]int{"matched": len(c.Matched), Mismatched: len(c.Mismatched)})
	}
}

func (n *Node) failed(f events.CommandFailed) {
	n.Effect, n.Attempts = f.Effect, f.Attempts
	n.Desktops = counts(map[string]int{events.Failed: len(f.DesktopIDs)})
	if f.Error.HTTPStatus != 0 || f.Error.RequestID != "" {
		n.Calls = []Call{called(n.Function, &f.Error)}
	}
}

func called(function string, f *events.Failure) Call {
	c := Call{Call: callOf(function)}
	if f != nil {
		c.Status, c.ErrorCode, c.RequestID = f.HTTPStatus, f.ErrorCode, f.RequestID
	}
	return c
}

// requested counts the desktops that a reaction is about.
func requested(d events.JobCompleted, function string) map[string]int {
	if function == events.FnCheckImages {
		return counts(map[string]int{"asked": len(d.Rebuilt())})
	}
	if d.Then == nil || d.Then.Rebuild == nil {
		return nil
	}
	return counts(map[string]int{"asked": len(d.Then.Rebuild.DesktopIDs)})
}

// counts removes zeros from numbers of desktops by outcome; nil if nothing is left.
func counts(m map[string]int) map[string]int {
	maps.DeleteFunc(m, func(_ string, n int) bool { return n == 0 })
	if len(m) == 0 {
		return nil
	}
	return m
}

func (c Call) String() string {
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
