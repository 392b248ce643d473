package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Fault says what is wrong with one field: where, which rule, and the value that broke it.
type Fault struct {
	Field string // path from the top, as in "then.rebuild.desktop_ids[3]"; empty for the whole
	Rule  string // what must hold, with the limit
	Value string // what came, shortened; empty where nothing came
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

// InvalidError lists every fault found in a message. No attempt can succeed with the same message.
type InvalidError struct{ Faults []Fault }

func (e *InvalidError) Error() string {
	texts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		texts[i] = f.String()
	}
	return strings.Join(texts, "; ")
}

// idRule is the alphabet of every id that we send: the service puts ids into paths, so a dot or a slash never passes.
var idRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$`)

// object reads one JSON object field by field and remembers every fault, so that a sender learns all of them at once.
// Names are compared exactly; a name that comes twice and a name that nobody asked for are faults.
type object struct {
	path   string
	names  []string
	values map[string]json.RawMessage
	asked  []string
	faults *[]Fault
}

// maxFaults bounds what a message of nothing but faults can make us say.
const maxFaults = 20

func (o *object) fault(field, value, rule string, args ...any) {
	if len(*o.faults) < maxFaults {
		*o.faults = append(*o.faults, Fault{Field: field, Rule: fmt.Sprintf(rule, args...), Value: value})
	}
}

// readObject takes data apart. Faults go to faults; the result is nil where data is no JSON object.
func readObject(data []byte, path string, faults *[]Fault) *object {
	o := &object{path: path, values: make(map[string]json.RawMessage, 12), faults: faults}
	if !utf8.Valid(data) {
		o.fault(path, "", "must be UTF-8")
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	first, err := d.Token()
	if err != nil {
		o.fault(path, shorten(data), "must be JSON (%s)", jsonReason(err))
		return nil
	}
	if first != json.Delim('{') {
		o.fault(path, shorten(data), "must be a JSON object")
		return nil
	}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			o.fault(path, shorten(data), "must be JSON (%s)", jsonReason(err))
			return nil
		}
		key, _ := name.(string)
		if _, twice := o.values[key]; twice {
			o.fault(o.at(key), "", "is given twice; give it once")
			continue
		}
		o.names = append(o.names, key)
		o.values[key] = value
	}
	if _, err := d.Token(); err != nil {
		o.fault(path, shorten(data), "must be JSON (%s)", jsonReason(err))
		return nil
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		o.fault(path, shorten(data), "must be one JSON object and nothing behind it")
		return nil
	}
	return o
}

func jsonReason(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return err.Error()
}

func (o *object) at(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// value is the field's JSON; false where it is absent or null.
func (o *object) value(name string) (json.RawMessage, bool) {
	o.asked = append(o.asked, name)
	v, ok := o.values[name]
	return v, ok && string(v) != "null"
}

// done reports the fields that nobody asked for.
func (o *object) done() {
	for _, name := range o.names {
		if !slices.Contains(o.asked, name) {
			o.fault(o.at(name), "", "is not a field here; the fields are %s", strings.Join(o.asked, ", "))
		}
	}
}

func (o *object) requireValue(name string) (json.RawMessage, bool) {
	v, ok := o.value(name)
	if !ok {
		o.fault(o.at(name), "", "must be given")
	}
	return v, ok
}

// text is an optional string of at most limit characters.
func (o *object) text(name string, limit int) string {
	v, ok := o.value(name)
	if !ok {
		return ""
	}
	return o.readText(o.at(name), v, limit)
}

func (o *object) readText(field string, v json.RawMessage, limit int) string {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		o.fault(field, shorten(v), "must be a string")
		return ""
	}
	if n := utf8.RuneCountInString(s); n > limit {
		o.fault(field, fmt.Sprintf("%d characters", n), "must have at most %d characters", limit)
	}
	return s
}

// id is an id in our alphabet; absent (or empty, where it is not required) gives "".
func (o *object) id(name string, required bool) string {
	v, ok := o.value(name)
	if !ok {
		if required {
			o.fault(o.at(name), "", "must be given")
		}
		return ""
	}
	return o.readID(o.at(name), v, required)
}

func (o *object) readID(field string, v json.RawMessage, required bool) string {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		o.fault(field, shorten(v), "must be a string")
		return ""
	}
	if s == "" && !required {
		return ""
	}
	if !idRule.MatchString(s) {
		o.fault(field, shorten(v), "must be 1 to 255 letters, digits, - or _, beginning with a letter or digit")
	}
	return s
}

// ids is a list of 1 to MaxDesktops different ids.
func (o *object) ids(name string) []string {
	v, ok := o.requireValue(name)
	if !ok {
		return nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(v, &raw); err != nil {
		o.fault(o.at(name), shorten(v), "must be a list of ids")
		return nil
	}
	if len(raw) == 0 {
		o.fault(o.at(name), "[]", "must name at least one desktop")
		return nil
	}
	if len(raw) > MaxDesktops {
		o.fault(o.at(name), fmt.Sprintf("%d ids", len(raw)), "must have at most %d ids; send several commands", MaxDesktops)
		return nil
	}
	ids := make([]string, 0, len(raw))
	seen := make(map[string]int, len(raw))
	for i, r := range raw {
		field := o.at(name) + indexed(i)
		id := o.readID(field, r, true)
		if first, twice := seen[id]; twice && id != "" {
			o.fault(field, shorten(r), "is in the list twice (first as [%d]); name each desktop once", first)
		}
		seen[id] = i
		ids = append(ids, id)
	}
	return ids
}

// flag is a Boolean; the strings "true" and "false" count where loose is set, because the vendor's own example has them.
func (o *object) flag(name string, loose bool) *bool {
	v, ok := o.value(name)
	if !ok {
		return nil
	}
	s := string(v)
	if loose {
		s = strings.Trim(s, `"`)
	}
	switch s {
	case "true", "false":
		b := s == "true"
		return &b
	}
	o.fault(o.at(name), shorten(v), "must be true or false")
	return nil
}

// whole is an optional whole number from 0 to limit.
func (o *object) whole(name string, limit int64) int64 {
	v, ok := o.value(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 || n > limit {
		o.fault(o.at(name), shorten(v), "must be a whole number from 0 to %d", limit)
		return 0
	}
	return n
}

// megabytes is a size in MB as the service wants it, a string of digits; a number is taken too.
func (o *object) megabytes(name string) string {
	v, ok := o.value(name)
	if !ok {
		return ""
	}
	s := string(v)
	var text string
	if json.Unmarshal(v, &text) == nil {
		s = text
	}
	if s == "" {
		return ""
	}
	if n, err := strconv.ParseInt(s, 10, 32); err != nil || n < 0 || s != strconv.FormatInt(n, 10) {
		o.fault(o.at(name), shorten(v), "must be whole MB from 0 to 2147483647, as a string or a number")
		return ""
	}
	return s
}

// choice is an optional word out of a list.
func (o *object) choice(name string, words ...string) string {
	s := o.text(name, 255)
	if s != "" && !slices.Contains(words, s) {
		o.fault(o.at(name), strconv.Quote(s), "must be one of %s", strings.Join(words, ", "))
	}
	return s
}

// child is an object inside this one; nil where it is absent or no object.
func (o *object) child(name string) *object {
	v, ok := o.value(name)
	if !ok {
		return nil
	}
	return readObject(v, o.at(name), o.faults)
}

// shorten shows a value in an error without letting it fill a screen or a log.
func shorten(v []byte) string {
	const most = 60
	s := string(v)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

func indexed(i int) string { return "[" + strconv.Itoa(i) + "]" }
