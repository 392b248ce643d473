package safety

import "strings"

// Set is a list in memory.
type Set struct {
	ids  map[string]bool
	fold bool // ignore the letter case
}

// Allow makes a list of the only desktops that may be written to.
func Allow(ids []string) *Set { return newSet(ids, false) }

// Deny makes a list of desktops that must not be written to. It ignores the letter case: it is not known whether the
// service accepts an id in another case, and a deny list must not be possible to circumvent.
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

// within reports whether each id of s is in other, a set of the same kind.
func (s *Set) within(other *Set) bool {
	for id := range s.ids {
		if !other.ids[id] {
			return false
		}
	}
	return true
}

// NotAllowedIDs returns the ids that must not be written to, in their order. A nil list refuses nothing; an empty allow
// list refuses everything.
func NotAllowedIDs(ids []string, allow, deny *Set) []string {
	var refused []string
	for _, id := range ids {
		if deny.has(id) || (allow != nil && !allow.has(id)) {
			refused = append(refused, id)
		}
	}
	return refused
}
