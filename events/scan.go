package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// wellFormed returns why data, without white space around it, is not valid JSON, or "" if it is valid. Only data that
// passes may be given to members and unquoted.
func wellFormed(data []byte) string {
	switch {
	case len(data) == 0:
		return "must be given"
	case !utf8.Valid(data):
		return "must be UTF-8"
	case json.Valid(data):
		return ""
	}
	var none json.RawMessage
	err := json.Unmarshal(data, &none)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && !strings.HasPrefix(err.Error(), "unexpected end") {
		return fmt.Sprintf("must be JSON (%s, byte %d)", printable(syntax.Error()), syntax.Offset)
	}
	return "must be JSON (it ends too early)"
}

// members walks a well-formed JSON object or list: names, still quoted, and values. The elements of a list have no
// name. The slices are parts of v.
func members(v []byte) iter.Seq2[[]byte, json.RawMessage] {
	return func(yield func([]byte, json.RawMessage) bool) {
		object := v[0] == '{'
		for i := next(v, 1); v[i] != '}' && v[i] != ']'; i = next(v, i) {
			if v[i] == ',' {
				i = next(v, i+1)
			}
			var name []byte
			if object {
				end := skip(v, i)
				name, i = v[i:end], next(v, next(v, end)+1)
			}
			end := skip(v, i)
			if !yield(name, json.RawMessage(v[i:end:end])) {
				return
			}
			i = end
		}
	}
}

// next is the first position from i on that is not white space.
func next(v []byte, i int) int {
	for v[i] == ' ' || v[i] == '\n' || v[i] == '\t' || v[i] == '\r' {
		i++
	}
	return i
}

// skip is the position behind the value that begins at i.
func skip(v []byte, i int) int {
	for depth := 0; i < len(v); i++ {
		switch v[i] {
		case '"':
			for i++; v[i] != '"'; i++ {
				if v[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // behind a number or a word
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// unquoted is the text of a well-formed JSON string; false if v is another kind of value.
func unquoted(v []byte) (string, bool) {
	if v[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	var s string
	err := json.Unmarshal(v, &s)
	return s, err == nil
}
