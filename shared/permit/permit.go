// Package permit holds the lists of desktops that may be written to.
package permit

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// Lists names two files with one desktop id a line; # begins a comment, and CRLF is fine. Both are read afresh each time, so that
// a change holds for the very next write.
type Lists struct {
	AllowFile string // if set, no other desktop may be written to
	DenyFile  string // if set, none of these may be
}

// Refused gives the ids that may not be written to, in their order. An error means that a list could not be read:
// then nothing may be written.
func (l Lists) Refused(ids []string) ([]string, error) {
	allow, err := read(l.AllowFile)
	if err != nil {
		return nil, fmt.Errorf("read RECOMPOSE_ALLOW_DESKTOPS_FILE: %w", err)
	}
	deny, err := read(l.DenyFile)
	if err != nil {
		return nil, fmt.Errorf("read RECOMPOSE_DENY_DESKTOPS_FILE: %w", err)
	}
	var refused []string
	for _, id := range ids {
		if deny[id] || (allow != nil && !allow[id]) {
			refused = append(refused, id)
		}
	}
	return refused, nil
}

func read(file string) (map[string]bool, error) {
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
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set, nil
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
