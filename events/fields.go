package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object reads one JSON object field by field and collects every fault, so that a sender gets all of them in one
// error. Names are compared exactly; a name that comes twice and a name that is not a field of the command are
// faults. A field that is null counts as absent.
type object struct {
	path   string
	fields []field
	index  map[string]int // of many fields; nil of few
	known  []string
	faults *faults
}

// field is one that is there.
type field struct {
	name  []byte
	value json.RawMessage
}

// few is how many fields are searched one by one.
const few = 24

// find returns the position of a field; -1 if it is absent.
func (o *object) find(name string) int {
	if o.index != nil {
		if i, ok := o.index[name]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(o.fields, func(f field) bool { return string(f.name) == name })
}

// add keeps a field; false if there is one with this name already.
func (o *object) add(f field) bool {
	if o.find(string(f.name)) >= 0 {
		return false
	}
	o.fields = append(o.fields, f)
	if o.index == nil && len(o.fields) > few {
		o.index = make(map[string]int, 4*few)
		for i, f := range o.fields {
			o.index[string(f.name)] = i
		}
	} else if o.index != nil {
		o.index[string(f.name)] = len(o.fields) - 1
	}
	return true
}

func (o *object) fault(field, value, rule string, args ...any) {
	o.faults.add(field, value, rule, args...)
}

// readObject parses data. It adds faults to f; the result is nil if data is not a JSON object.
func readObject(data []byte, path string, f *faults) *object {
	data = bytes.TrimSpace(data)
	if why := wellFormed(data); why != "" {
		f.add(path, shorten(data), "%s", why)
		return nil
	}
	return openObject(data, path, f)
}

// openObject is readObject for well-formed JSON.
func openObject(v []byte, path string, f *faults) *object {
	if v[0] != '{' {
		f.add(path, shorten(v), "must be a JSON object")
		return nil
	}
	room := min(12, bytes.Count(v, []byte(":")))
	o := &object{path: path, fields: make([]field, 0, room), known: make([]string, 0, room+2), faults: f}
	for quoted, value := range members(v) {
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			plain, _ := unquoted(quoted)
			name = []byte(plain)
		}
		if !o.add(field{name, value}) {
			o.fault(o.at(label(string(name))), "", "is given twice; give it once")
		}
	}
	return o
}

func (o *object) at(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// value returns the field's JSON; false if it is absent or null.
func (o *object) value(name string) (json.RawMessage, bool) {
	o.known = append(o.known, name)
	i := o.find(name)
	if i < 0 {
		return nil, false
	}
	v := o.fields[i].value
	return v, string(v) != "null"
}

// given reports whether the field is present with a value, valid or not.
func (o *object) given(name string) bool {
	i := o.find(name)
	return i >= 0 && string(o.fields[i].value) != "null"
}

func (o *object) requireValue(name string) (json.RawMessage, bool) {
	v, ok := o.value(name)
	if !ok {
		o.fault(o.at(name), "", "must be given")
	}
	return v, ok
}

// done reports the fields that the decoder did not read.
func (o *object) done() {
	for _, f := range o.fields {
		if name := string(f.name); !slices.Contains(o.known, name) {
			o.fault(o.at(label(name)), "", "is not a field here; the fields are %s", strings.Join(o.known, ", "))
		}
	}
}

// text is an optional string of at most limit characters.
func (o *object) text(name string, limit int) string {
	v, ok := o.value(name)
	if !ok {
		return ""
	}
	s, _ := o.readText(o.at(name), v, limit)
	return s
}

// requireText is a string of 1 to limit characters; false if it breaks a rule.
func (o *object) requireText(name string, limit int) (string, bool) {
	v, ok := o.requireValue(name)
	if !ok {
		return "", false
	}
	s, ok := o.readText(o.at(name), v, limit)
	if ok && s == "" {
		o.fault(o.at(name), shorten(v), "must have 1 to %d characters", limit)
		return "", false
	}
	return s, ok
}

func (o *object) readText(field string, v json.RawMessage, limit int) (string, bool) {
	s, ok := unquoted(v)
	if !ok {
		o.fault(field, shorten(v), "must be a string")
		return "", false
	}
	if n := utf8.RuneCountInString(s); n > limit {
		o.fault(field, fmt.Sprintf("%d characters", n), "must have at most %d characters", limit)
		return "", false
	}
	return s, true
}

// id is an id in our alphabet; "" if it is absent, or empty and not required.
func (o *object) id(name string, required bool) string {
	v, ok := o.value(name)
	if !ok {
		if required {
			o.fault(o.at(name), "", "must be given")
		}
		return ""
	}
	return o.readID(o.at(name), v, required, maxShortText)
}

// shortID is an optional id of at most limit characters.
func (o *object) shortID(name string, limit int) string {
	v, ok := o.value(name)
	if !ok {
		return ""
	}
	return o.readID(o.at(name), v, false, limit)
}

func (o *object) readID(field string, v json.RawMessage, required bool, limit int) string {
	s, ok := unquoted(v)
	switch {
	case !ok:
		o.fault(field, shorten(v), "must be a string")
		return ""
	case s == "" && !required:
		return ""
	case !isID(s, limit):
		o.fault(field, shorten(v), "must be 1 to %d letters, digits, - or _, beginning with a letter or digit", limit)
		return ""
	}
	return s
}

// IsDesktopID reports whether a text is a well-formed id of a desktop.
func IsDesktopID(s string) bool { return isID(s, maxShortText) }

// isID restricts ids to ASCII letters, digits, - and _: the service puts ids into paths, so a dot or a slash never
// passes.
func isID(s string, limit int) bool {
	if s == "" || len(s) > limit || s[0] == '-' || s[0] == '_' {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// desktopIDs reads desktop_ids, a list of 1 to MaxDesktops different ids. Ids that differ in letter case only count as the same: it is not
// known whether the service distinguishes them, and a desktop rebuilt twice is worse than a refused list.
func (o *object) desktopIDs(required bool) []string {
	const name = "desktop_ids"
	v, ok := o.value(name)
	if !ok && required {
		o.fault(o.at(name), "", "must be given")
	}
	if !ok {
		return nil
	}
	if v[0] != '[' {
		o.fault(o.at(name), shorten(v), "must be a list of ids")
		return nil
	}
	count := 0
	for range members(v) {
		count++
	}
	switch {
	case count == 0:
		o.fault(o.at(name), "[]", "must name at least one desktop")
		return nil
	case count > MaxDesktops:
		o.fault(o.at(name), fmt.Sprintf("%d ids", count), "must have at most %d ids; send several commands", MaxDesktops)
		return nil
	}
	ids := make([]string, 0, count)
	first := make(map[string]int, count)
	for _, r := range members(v) {
		field := func() string { return o.at(name) + indexed(len(ids)) }
		id, ok := unquoted(r)
		if !ok || !isID(id, maxShortText) {
			id = o.readID(field(), r, true, maxShortText)
		} else if before, twice := first[strings.ToLower(id)]; twice {
			o.fault(field(), shorten(r), "is in the list twice (first as [%d], letter case apart); name each desktop once", before)
		} else {
			first[strings.ToLower(id)] = len(ids)
		}
		ids = append(ids, id)
	}
	return ids
}

// flag is a Boolean; with loose set, the strings "true" and "false" count too, because the vendor's own example has
// them. It is nil if the field is absent or invalid.
func (o *object) flag(name string, loose bool) *bool {
	v, ok := o.value(name)
	if !ok {
		return nil
	}
	s := string(v)
	if text, ok := unquoted(v); ok && loose {
		s = text
	}
	switch s {
	case "true", "false":
		b := s == "true"
		return &b
	}
	o.fault(o.at(name), shorten(v), "must be true or false")
	return nil
}

// isTrue is an optional Boolean that is false by default.
func (o *object) isTrue(name string) bool {
	v := o.flag(name, false)
	return v != nil && *v
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

// megabytes is a size in MB as the service expects it, a string of digits; a number is accepted too.
func (o *object) megabytes(name string) string {
	v, ok := o.value(name)
	if !ok {
		return ""
	}
	s, quoted := unquoted(v)
	if !quoted {
		s = string(v)
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

// choice is an optional word from a list.
func (o *object) choice(name string, words ...string) string {
	v, ok := o.value(name)
	if !ok {
		return ""
	}
	s, ok := unquoted(v)
	if s == "" && ok {
		return ""
	}
	if !slices.Contains(words, s) {
		o.fault(o.at(name), shorten(v), "must be one of %s", strings.Join(words, ", "))
		return ""
	}
	return s
}

// child is an object inside this one; nil if it is absent or not an object.
func (o *object) child(name string) *object {
	v, ok := o.value(name)
	if !ok {
		return nil
	}
	return openObject(v, o.at(name), o.faults)
}
