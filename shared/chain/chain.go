// Package chain reads the events of a chain: the commands and events that share one correlation id. A [Chain] collects
// events in any order and reports what is still open, the [Result], the [Tree] and the [Row] of a list. [Describe] puts
// one event into words. Texts come from messages and are not escaped: escape them before they reach a terminal.
package chain

import (
	"encoding/json"
	"slices"

	"recompose/events"
)

// Chain collects the events of one correlation id. It is not safe for concurrent use.
type Chain struct {
	Correlation string
	Root        events.Root // the first command; without an ID if only the correlation id is known
	Fleet       []string    // desktops that the first command rebuilds from its new image, if known

	events []events.Envelope
	index  map[string]int  // into events, by identity
	joined map[string]bool // identities that Join has returned
}

// New returns a chain without events.
func New(correlation string, root events.Root) *Chain {
	return &Chain{Correlation: correlation, Root: root, index: map[string]int{}, joined: map[string]bool{}}
}

// Add adds an event. It returns false for an event of another chain and for a duplicate. Earlier versions published
// events without the digest of their command and may republish them with it: then the event with the digest counts.
func (c *Chain) Add(e events.Envelope) bool {
	if e.Correlation != c.Correlation {
		return false
	}
	i, known := c.index[e.Identity()]
	switch {
	case !known:
		c.index[e.Identity()] = len(c.events)
		c.events = append(c.events, e)
	case e.Answered().Digest == "" || c.events[i].Answered().Digest != "":
		return false
	default:
		c.events[i] = e
	}
	return true
}

// Join adds an event and returns the events of Own that no earlier call returned. An event may arrive before the event
// that it follows from; then both are returned together.
func (c *Chain) Join(e events.Envelope) (joined []events.Envelope) {
	if !c.Add(e) {
		return nil
	}
	for _, own := range c.Own() {
		if id := own.Identity(); !c.joined[id] {
			c.joined[id] = true
			joined = append(joined, own)
		}
	}
	return joined
}

// Events returns all events of the correlation id, in the order in which they were added.
func (c *Chain) Events() []events.Envelope { return c.events }

// Own returns the events caused by Root; all events if Root is unknown. Other commands may share the correlation id, and
// the command id may have been used before with other data.
func (c *Chain) Own() []events.Envelope {
	if c.Root.ID == "" {
		return c.events
	}
	return events.Chain(c.Root, c.events)
}

// Open returns what the chain still waits for.
func (c *Chain) Open() []events.Pending {
	var open []events.Pending
	for _, root := range c.Roots() {
		for _, p := range events.Open(root, c.events) {
			if !slices.Contains(open, p) {
				open = append(open, p)
			}
		}
	}
	return open
}

// Roots returns the commands with which the chain began: the causes that no event of the chain implies. Several
// commands may share a correlation id that their sender chose, and one id may stand for several data. A correlation id
// that was not chosen is the id of the first command. What a rollout asks of other functions is not what it begins with.
func (c *Chain) Roots() []events.Root {
	if c.Root.ID != "" {
		return []events.Root{c.Root}
	}
	implied, answered := map[string]bool{}, map[string]bool{}
	for _, e := range c.events {
		answered[e.Causation] = true
		switch e.Type {
		case events.TypeJobAccepted:
			implied[e.ID] = true
		case events.TypeJobCompleted:
			implied[events.ReactionID(e, events.FnRebuild)] = true
			implied[events.ReactionID(e, events.FnCheckImages)] = true
		case events.TypeCommandSplit:
			for _, part := range dataOf[events.CommandSplit](e).Parts {
				implied[part.ID] = true
			}
		}
	}
	var roots []events.Root
	for _, e := range c.events {
		if events.IsNotice(e.Type) || e.Causation == "" || implied[e.Causation] { // a notice ends no command
			continue
		}
		command := e.Answered()
		if ofRollout(e) && answered[command.ID] {
			continue
		}
		root := events.Root{ID: e.Causation, Source: command.Source, Digest: command.Digest}
		if !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	fromRollout := 0
	for _, root := range roots {
		if root.Source == events.Source(events.FnRollout) {
			fromRollout++
		}
	}
	if fromRollout == len(roots) { // while a plan is made, no event answers its start yet
		roots = append(roots, events.Root{ID: c.Correlation})
	}
	return roots
}

// ofRollout reports whether an event of a rollout answers no command of a person: its causation is derived from the start
// command that it names.
func ofRollout(e events.Envelope) bool {
	id := e.Answered().ID
	return id != "" && id != e.Causation && slices.Contains(events.RolloutEventTypes, e.Type)
}

// dataOf returns the data of an event, as far as it can be read.
func dataOf[T any](e events.Envelope) (data T) {
	_ = json.Unmarshal(e.Data, &data)
	return data
}
