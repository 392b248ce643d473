package events

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// Marshal is json.Marshal with the same bytes. JSON inside of v that is compact already is copied: encoding/json reads
// it once more for each value that it stands in.
func Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case json.RawMessage:
		if IsCompact(v) {
			return v, nil
		}
	case interface {
		appendJSON(b []byte) ([]byte, bool)
	}:
		if b, ok := v.appendJSON(nil); ok {
			return b, nil
		}
	}
	return json.Marshal(v)
}

// appendJSON writes the structured form; false where it must be written by MarshalJSON.
func (e Envelope) appendJSON(b []byte) ([]byte, bool) {
	if len(e.Data) > 0 && !IsCompact(e.Data) {
		return nil, false
	}
	if b == nil {
		b = make([]byte, 0, len(e.Data)+640)
	}
	b = append(b, `{"specversion":"1.0","id":`...)
	b = appendText(b, e.ID)
	b = append(b, `,"source":`...)
	b = appendText(b, e.Source)
	b = append(b, `,"type":`...)
	b = appendText(b, e.Type)
	b = appendField(b, "subject", e.Subject)
	b = appendTime(b, "time", e.Time)
	if len(e.Data) > 0 {
		b = append(b, `,"datacontenttype":"application/json"`...)
	}
	b = appendField(b, "correlationid", e.Correlation)
	b = appendField(b, "causationid", e.Causation)
	b = appendField(b, "traceparent", e.TraceParent)
	b = appendTime(b, "expirytime", e.Expiry)
	b = appendField(b, "rollout", e.Rollout)
	if len(e.Data) > 0 {
		b = append(b, `,"data":`...)
		b = append(b, e.Data...)
	}
	return append(b, '}'), true
}

func (d DesktopDescribed) appendJSON(b []byte) ([]byte, bool) {
	if !IsCompact(d.Desktop) {
		return nil, false
	}
	if b == nil {
		b = make([]byte, 0, len(d.Desktop)+384)
	}
	b = append(b, `{"command":`...)
	b = d.Command.append(b)
	b = append(b, `,"desktop":`...)
	b = append(b, d.Desktop...)
	return append(b, '}'), true
}

func (c ImagesChecked) appendJSON(b []byte) ([]byte, bool) {
	size := 512
	for _, info := range c.ImageInfos {
		if !IsCompact(info) {
			return nil, false
		}
		size += len(info) + 1
	}
	if b == nil {
		b = make([]byte, 0, size)
	}
	b = append(b, `{"command":`...)
	b = c.Command.append(b)
	b = append(b, `,"image_infos":[`...)
	for i, info := range c.ImageInfos {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, info...)
	}
	b = append(b, ']')
	if c.Shortened {
		b = append(b, `,"shortened":true`...)
	}
	b = append(b, `,"missing":`...)
	b = appendTexts(b, c.Missing)
	if c.Expected != nil {
		b = append(b, `,"expected":{"image_id":`...)
		b = append(appendText(b, c.Expected.ImageID), '}')
	}
	if len(c.Matched) > 0 {
		b = append(b, `,"matched":`...)
		b = appendTexts(b, c.Matched)
	}
	if len(c.Mismatched) > 0 {
		b = append(b, `,"mismatched":`...)
		b = appendTexts(b, c.Mismatched)
	}
	return append(b, '}'), true
}

func (c CommandRef) append(b []byte) []byte {
	b = append(b, `{"type":`...)
	b = appendText(b, c.Type)
	b = append(b, `,"id":`...)
	b = appendText(b, c.ID)
	b = appendField(b, "source", c.Source)
	b = appendField(b, "digest", c.Digest)
	return append(b, '}')
}

func appendTexts(b []byte, texts []string) []byte {
	b = append(b, '[')
	for i, text := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, text)
	}
	return append(b, ']')
}

// appendField writes a field behind another one, unless it is empty.
func appendField(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return appendText(b, text)
}

func appendTime(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':', '"')
	return append(t.UTC().AppendFormat(b, time.RFC3339Nano), '"')
}

func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if !plainByte[text[i]] {
			quoted, err := json.Marshal(text)
			if err != nil { // a text can always be written
				return strconv.AppendQuote(b, text)
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// plainByte has the bytes that stand for themselves in a JSON text.
var plainByte = func() (plain [256]bool) {
	for b := ' '; b < utf8.RuneSelf; b++ {
		plain[b] = b != '"' && b != '\\' && b != '<' && b != '>' && b != '&'
	}
	return plain
}()

// IsCompact reports whether data is JSON that encoding/json would copy unchanged: without white space and without
// characters that it escapes. It may report false for other such data, for example if that is nested very deep.
func IsCompact(data []byte) bool {
	end := compactValue(data, 0, 0)
	return end > 0 && end == len(data)
}

// compactValue is the position behind the value at i; -1 if it is not compact.
func compactValue(v []byte, i, depth int) int {
	const deepest = 64
	if i >= len(v) || depth > deepest {
		return -1
	}
	switch c := v[i]; {
	case c == '"':
		return compactText(v, i)
	case c == '{' || c == '[':
		return compactMembers(v, i, depth, c == '{')
	case c == '-' || c >= '0' && c <= '9':
		end := i
		for end < len(v) && (v[end] >= '0' && v[end] <= '9' || bytes.IndexByte([]byte("+-.eE"), v[end]) >= 0) {
			end++
		}
		if !json.Valid(v[i:end]) {
			return -1
		}
		return end
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(v[i:], []byte(word)) {
			return i + len(word)
		}
	}
	return -1
}

func compactMembers(v []byte, i, depth int, object bool) int {
	end := byte(']')
	if object {
		end = '}'
	}
	if i++; i < len(v) && v[i] == end {
		return i + 1
	}
	for {
		if object {
			if i >= len(v) || v[i] != '"' {
				return -1
			}
			if i = compactText(v, i); i < 0 || i >= len(v) || v[i] != ':' {
				return -1
			}
			i++
		}
		if i = compactValue(v, i, depth+1); i < 0 || i >= len(v) {
			return -1
		}
		switch v[i] {
		case ',':
			i++
		case end:
			return i + 1
		default:
			return -1
		}
	}
}

// compactText is the position behind a text. Escapes are checked; encoding/json copies them unchanged.
func compactText(v []byte, i int) int {
	for i++; i < len(v); {
		switch c := v[i]; {
		case plainByte[c]:
			i++
		case c == '"':
			return i + 1
		case c == '\\':
			if i+1 >= len(v) {
				return -1
			}
			switch v[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if i+6 > len(v) || !json.Valid([]byte(`"`+string(v[i:i+6])+`"`)) {
					return -1
				}
				i += 6
			default:
				return -1
			}
		case c < utf8.RuneSelf:
			return -1
		default:
			r, size := utf8.DecodeRune(v[i:])
			if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
				return -1
			}
			i += size
		}
	}
	return -1
}
