// Package permit holds the lists of desktops that may be written to.
package permit

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// Lists say which desktops may be written to. They are asked directly before each write, and what holds then is what was
// last set: nothing older is remembered.
type Lists interface {
	// Refused gives the ids that may not be written to, in their order. An error means that a list could not be read:
	// then nothing may be written. It blocks until the lists are read or ctx ends.
	Refused(ctx context.Context, ids []string) ([]string, error)
}

// All asks several lists: what one of them refuses is refused.
type All []Lists

// Refused gives the ids that one of the lists refuses, in their order.
func (all All) Refused(ctx context.Context, ids []string) ([]string, error) {
	by := map[string]bool{}
	for _, l := range all {
		some, err := l.Refused(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, id := range some {
			by[id] = true
		}
	}
	var refused []string
	for _, id := range ids {
		if by[id] {
			refused = append(refused, id)
		}
	}
	return refused, nil
}

// Files names two files with one desktop id a line; # begins a comment, and CRLF is fine. Both are read afresh each time, so that
// a change holds for the very next write.
type Files struct {
	Allow string // if set, no other desktop may be written to
	Deny  string // if set, none of these may be
}

// Refused gives the ids that may not be written to.
func (f Files) Refused(_ context.Context, ids []string) ([]string, error) {
	allow, err := read(f.Allow, Allow)
	if err != nil {
		return nil, fmt.Errorf("read RECOMPOSE_ALLOW_DESKTOPS_FILE: %w", err)
	}
	deny, err := read(f.Deny, Deny)
	if err != nil {
		return nil, fmt.Errorf("read RECOMPOSE_DENY_DESKTOPS_FILE: %w", err)
	}
	return Refuse(ids, allow, deny), nil
}

func read(file string, set func([]string) *Set) (*Set, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	ids, err := ReadIDs(f)
	if err != nil {
		return nil, err
	}
	return set(ids), nil
}

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

// ReadIDs reads one id a line. White space around it, empty lines, what follows a # and a byte order mark are passed
// over.
func ReadIDs(r io.Reader) ([]string, error) {
	var ids []string
	lines := bufio.NewScanner(r)
	for first := true; lines.Scan(); first = false {
		line := lines.Text()
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			ids = append(ids, line)
		}
	}
	return ids, lines.Err()
}
