package events

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Fault describes one faulty field: where it is, which rule it breaks, and its value. Its texts are fit for a
// terminal and a log: foreign text is shortened, and characters that do not print are escaped.
type Fault struct {
	Field string // path from the top, as in "then.rebuild.desktop_ids[3]"; empty for the whole
	Rule  string // what must hold, with the limit
	Value string // the value received, shortened; empty if there was none
}

func (f Fault) String() string {
	var b strings.Builder
	if f.Field != "" {
		b.WriteString(f.Field + ": ")
	}
	b.WriteString(f.Rule)
	if f.Value != "" {
		b.WriteString("; got " + f.Value)
	}
	return b.String()
}

// InvalidError lists the faults found in a message, all at once. No attempt can succeed with the same message.
type InvalidError struct {
	Faults []Fault // at most 20
	More   int     // how many more there are beyond those in Faults
}

func (e *InvalidError) Error() string {
	texts := make([]string, len(e.Faults), len(e.Faults)+1)
	for i, f := range e.Faults {
		texts[i] = f.String()
	}
	if e.More > 0 {
		texts = append(texts, fmt.Sprintf("and %d more faults", e.More))
	}
	return strings.Join(texts, "; ")
}

// maxFaults bounds the length of an error about a message with very many faults.
const maxFaults = 20

// faults collects what is wrong with one message.
type faults struct {
	list []Fault
	more int
}

func (f *faults) add(field, value, rule string, args ...any) {
	if len(f.list) == maxFaults {
		f.more++
		return
	}
	f.list = append(f.list, Fault{Field: field, Rule: fmt.Sprintf(rule, args...), Value: value})
}

// err returns an *InvalidError, or nil if there are no faults.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return &InvalidError{Faults: f.list, More: f.more}
}

// shorten shows foreign text in an error without letting it fill a screen or act on a terminal.
func shorten[T ~string | ~[]byte](v T) string {
	const most = 60
	if len(v) > most {
		return printable(strings.ToValidUTF8(string(v[:most]), "")) + "…"
	}
	return printable(string(v))
}

// Shorten cuts a text to at most so many bytes, and marks the cut.
func Shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// printable escapes everything that does not print: control characters, and marks that turn, hide or break text.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n', r == '\r', r == '\t':
			b.WriteByte(' ')
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// label shows a field name that a sender chose.
func label(name string) string {
	if s := shorten(name); s != name || s == "" {
		return `"` + s + `"`
	}
	return name
}

func indexed(i int) string { return "[" + strconv.Itoa(i) + "]" }
