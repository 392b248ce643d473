package safety

import "strings"

// Set is a list in memory.
type Set struct {
	ids  map[string]bool
	fold bool // letter case means nothing
}

// Allow makes a list of the desktops that alone may be written to.
func Allow(ids []string) *Set { return newSet(ids, false) }

// Deny makes a list of desktops that may not be written to. It holds in every letter case: whether the service takes
// an id in another one is not known, and a list that could be got around would be none.
func Deny(ids []string) *Set { return newSet(ids, true) }

func newSet(ids []string, fold bool) *Set {
	s := &Set{ids: make(map[string]bool, len(ids)), fold: fold}
	for _, id := range ids {
		s.ids[s.form(id)] = true
	}
	return s
}

func (s *Set) form(id string) string {
	if s.fold {
		return strings.ToLower(id)
	}
	return id
}

func (s *Set) has(id string) bool { return s != nil && s.ids[s.form(id)] }

// Refuse gives the ids that may not be written to, in their order. A nil list is none; an empty allow list allows
// nothing.
func Refuse(ids []string, allow, deny *Set) []string {
	var refused []string
	for _, id := range ids {
		if deny.has(id) || (allow != nil && !allow.has(id)) {
			refused = append(refused, id)
		}
	}
	return refused
}
