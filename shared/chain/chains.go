package chain

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"recompose/events"
)

// Chains are the events of chains, by correlation id.
type Chains map[string][]events.Envelope

// Add adds an event to its chain. An event that answers nothing and names no command belongs to no chain.
func (c Chains) Add(e events.Envelope) {
	if e.Correlation != "" && (e.Causation != "" || e.Answered().ID != "") {
		c[e.Correlation] = append(c[e.Correlation], e)
	}
}

// Unanswered returns those of the stored commands that belong to the chain and have no answer. It returns none if the first
// command is known: several commands begin a chain only if their sender chose its correlation id.
func (c *Chain) Unanswered(stored []Command) (waiting []events.Pending) {
	if c.SentAlone() {
		return nil
	}
	for _, w := range stored {
		if w.Correlation == c.Correlation && !isAnswered(w, c.events, nil) {
			waiting = append(waiting, events.Pending{ID: w.ID, Function: FunctionOf(w.Type)})
		}
	}
	return waiting
}

// SentAlone reports whether the first command is known, or is the one after which the chain is named.
func (c *Chain) SentAlone() bool {
	return slices.ContainsFunc(c.Roots(), func(r events.Root) bool { return r == c.Root || r.ID == c.Correlation })
}

// Match returns the id of the chain with this id, or of the only chain whose id begins with it. All chains of c begin
// with the prefix. If there are none it returns the prefix itself.
func (c Chains) Match(prefix string) (string, error) {
	if _, exact := c[prefix]; exact || len(c) == 0 {
		return prefix, nil
	}
	ids := slices.Sorted(maps.Keys(c))
	if len(ids) == 1 {
		return ids[0], nil
	}
	return "", fmt.Errorf("the id %q is not unique: %s begin with it; give more characters", prefix, First(ids, 5))
}

// MatchWhole is Match for those who wait: it rejects the beginning of an id that its sender chose. A person who waits for
// "nightly" must not get the result of "nightly-2".
func (c Chains) MatchWhole(text string) (string, error) {
	id, err := c.Match(text)
	if err == nil && id != text && !generated.MatchString(id) {
		err = fmt.Errorf("no chain has the id %q. There is %q: give an id that its sender chose whole", text, id)
	}
	return id, err
}

// generated matches ids that recompose made.
var generated = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z2-7]{52})$`)
