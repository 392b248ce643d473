package emulator

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fields is a JSON object that is being checked. The first error stays in err; later reads return zero values.
type fields struct {
	raw map[string]json.RawMessage
	err *refusal
}

// parseBody reads the body of a POST.
func parseBody(body []byte) (*fields, *refusal) {
	if len(body) == 0 {
		return nil, refuse(http.StatusBadRequest, codeEmptyBody, "The request body is empty.")
	}
	if !utf8.Valid(body) {
		return nil, invalid("The request body is not UTF-8.")
	}
	f := &fields{}
	if err := json.Unmarshal(body, &f.raw); err != nil || f.raw == nil {
		return nil, invalid("The request body is not a JSON object.")
	}
	return f, nil
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = invalid(format, args...)
	}
}

// has reports whether a field is present and not null.
func (f *fields) has(name string) bool {
	raw, ok := f.raw[name]
	return ok && string(raw) != "null"
}

func (f *fields) require(names ...string) {
	for _, name := range names {
		if !f.has(name) {
			f.fail("Parameter %s is mandatory.", name)
		}
	}
}

// text reads a string of shortest to longest characters.
func (f *fields) text(name string, shortest, longest int) string {
	if !f.has(name) {
		return ""
	}
	var s string
	if err := json.Unmarshal(f.raw[name], &s); err != nil {
		f.fail("Parameter %s must be a string.", name)
		return ""
	}
	if n := utf8.RuneCountInString(s); n < shortest || n > longest {
		f.fail("Parameter %s must have %d to %d characters, it has %d.", name, shortest, longest, n)
	}
	return s
}

// flag reads a boolean. lenient also accepts the strings "true" and "false".
func (f *fields) flag(name string, absent, lenient bool) bool {
	if !f.has(name) {
		return absent
	}
	var b bool
	if err := json.Unmarshal(f.raw[name], &b); err == nil {
		return b
	}
	var s string
	if err := json.Unmarshal(f.raw[name], &s); err == nil && lenient && (s == "true" || s == "false") {
		return s == "true"
	}
	f.fail("Parameter %s must be a boolean.", name)
	return absent
}

// int32 reads an integer of 0 to 2147483647.
func (f *fields) int32(name string) int64 {
	if !f.has(name) {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(f.raw[name])), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		f.fail("Parameter %s must be an integer from 0 to %d.", name, math.MaxInt32)
		return 0
	}
	return n
}

// ids reads a list of shortest to longest desktop ids.
func (f *fields) ids(name string, shortest, longest int) []string {
	if !f.has(name) {
		return nil
	}
	var list []*string
	if err := json.Unmarshal(f.raw[name], &list); err != nil {
		f.fail("Parameter %s must be a list of strings.", name)
		return nil
	}
	if len(list) < shortest || len(list) > longest {
		f.fail("Parameter %s must have %d to %d items, it has %d.", name, shortest, longest, len(list))
		return nil
	}
	out := make([]string, 0, len(list))
	for i, id := range list {
		if id == nil {
			f.fail("Parameter %s[%d] must be a string.", name, i)
			return nil
		}
		if utf8.RuneCountInString(*id) > 255 {
			f.fail("Parameter %s[%d] must have at most 255 characters.", name, i)
			return nil
		}
		out = append(out, *id)
	}
	return out
}

// tags reads image_tags.
func (f *fields) tags(name string) []Tag {
	if !f.has(name) {
		return nil
	}
	var list []*Tag
	if err := json.Unmarshal(f.raw[name], &list); err != nil {
		f.fail("Parameter %s must be a list of objects with key and value.", name)
		return nil
	}
	if len(list) > 1000 {
		f.fail("Parameter %s must have at most 1000 items, it has %d.", name, len(list))
		return nil
	}
	out := make([]Tag, 0, len(list))
	for i, item := range list {
		if item == nil {
			f.fail("Parameter %s[%d] must be an object.", name, i)
			return nil
		}
		if utf8.RuneCountInString(item.Key) > 1024 || utf8.RuneCountInString(item.Value) > 1024 {
			f.fail("Parameter %s[%d]: key and value must have at most 1024 characters.", name, i)
			return nil
		}
		out = append(out, *item)
	}
	return out
}

const asciiSpace = " \t\n\v\f\r"

// plainText reports whether s contains only the characters of image names and descriptions: CJK U+4E00..U+9FA5, ASCII
// letters and digits, ASCII white space, and - _ .
func plainText(s string) bool {
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= 0x4e00 && c <= 0x9fa5:
		case c < utf8.RuneSelf && strings.ContainsRune("-_."+asciiSpace, c):
		default:
			return false
		}
	}
	return true
}

// params is a query that is being checked.
type params struct {
	values url.Values
	err    *refusal
}

func parseQuery(raw string) (*params, *refusal) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid("The query is malformed.")
	}
	return &params{values: values}, nil
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = invalid(format, args...)
	}
}

// text reads a parameter of at most longest characters that is one of the given words, if any are given; "" counts as
// absent.
func (p *params) text(name string, longest int, words ...string) string {
	s := p.values.Get(name)
	if n := utf8.RuneCountInString(s); n > longest {
		p.fail("Parameter %s must have at most %d characters, it has %d.", name, longest, n)
	}
	if s != "" && len(words) > 0 && !slices.Contains(words, s) {
		p.fail("Parameter %s must be one of %s.", name, strings.Join(words, ", "))
	}
	return s
}

// number reads an integer of 0 to most.
func (p *params) number(name string, absent, most int) int {
	s := p.values.Get(name)
	if s == "" {
		return absent
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		p.fail("Parameter %s must be an integer from 0 to %d.", name, most)
		return absent
	}
	return n
}

// page returns one page of a list.
func page[T any](list []T, offset, limit int) []T {
	offset = min(offset, len(list))
	return list[offset:min(offset+limit, len(list))]
}
