package workspace

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The published form of a desktop or an image is the service's own JSON wherever that has the shape that readers rely on: decoding
// and encoding it by reflection costs more than the call itself. A copier goes through it once. It checks the syntax
// and the shape, removes white space, writes times in UTC, and escapes what encoding/json escapes. Whatever else would
// have to change makes it give up, and the answer is decoded as any other.

// copier copies a JSON text into the published form. Each method reports false where the text must be decoded.
type copier struct {
	in    []byte
	at    int // the next byte of in
	from  int // in is copied up to here
	out   []byte
	depth int
	names []uint64 // of the objects that at is in

	desktopID, imageID string // of the object that is described
	impersonal         []byte // that object without what is personal; nil where that is not needed
}

// begin starts the answer {"name":…}.
func (c *copier) begin(name string) bool {
	if !c.token('{') || c.peek() != '"' {
		return false
	}
	at := c.at + 1
	return c.name() && string(c.in[at:c.at-1]) == name && c.token(':')
}

// end ends the answer.
func (c *copier) end() bool { return c.token('}') && c.peek() == 0 && c.at == len(c.in) }

// described copies an object that is described.
func (c *copier) described(f *form) (json.RawMessage, bool) {
	if c.peek() != '{' {
		return nil, false
	}
	c.from, c.desktopID, c.imageID = c.at, "", ""
	begin := len(c.out)
	c.at++
	if !c.members(f, true) || c.desktopID == "" {
		return nil, false
	}
	c.flush()
	return json.RawMessage(c.out[begin:len(c.out):len(c.out)]), true
}

// copyDesktop makes the description of the answer {"desktop":{…}}.
func copyDesktop(body []byte) (Description, bool) {
	c := copier{in: body, out: make([]byte, 0, len(body)), impersonal: make([]byte, 0, len(body))}
	if !c.begin("desktop") {
		return Description{}, false
	}
	desktop, ok := c.described(desktopForm())
	if !ok || !c.end() {
		return Description{}, false
	}
	return Description{DesktopID: c.desktopID, JSON: desktop, Impersonal: append(c.impersonal, '}')}, true
}

// copyImages makes the descriptions of the answer {"image_infos":[{…}]}.
func copyImages(body []byte) ([]ImageDescription, bool) {
	c := copier{in: body, out: make([]byte, 0, len(body))}
	if !c.begin("image_infos") || !c.token('[') {
		return nil, false
	}
	infos := []ImageDescription{}
	for c.peek() != ']' {
		if len(infos) > 0 && !c.token(',') {
			return nil, false
		}
		info, ok := c.described(imageForm())
		if !ok {
			return nil, false
		}
		infos = append(infos, ImageDescription{DesktopID: c.desktopID, ImageID: c.imageID, JSON: info})
	}
	c.at++
	return infos, c.end()
}

// flush copies what was read and not copied yet.
func (c *copier) flush() {
	c.out = append(c.out, c.in[c.from:c.at]...)
	c.from = c.at
}

// replace writes text in the place of what was read since position from.
func (c *copier) replace(from int, text string) {
	c.out = append(c.out, c.in[c.from:from]...)
	c.out = append(c.out, text...)
	c.from = c.at
}

func (c *copier) space() {
	begin := c.at
	for c.at < len(c.in) && (c.in[c.at] == ' ' || c.in[c.at] == '\n' || c.in[c.at] == '\t' || c.in[c.at] == '\r') {
		c.at++
	}
	if c.at > begin {
		c.replace(begin, "")
	}
}

// peek is the next byte that is no white space; 0 at the end.
func (c *copier) peek() byte {
	if c.at < len(c.in) && c.in[c.at] > ' ' {
		return c.in[c.at]
	}
	if c.space(); c.at < len(c.in) {
		return c.in[c.at]
	}
	return 0
}

func (c *copier) token(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.at++
	return true
}

// deepest is how deep a value may be nested.
const deepest = 64

// members copies the members of an object after its brace, and the closing one. f is nil for an object of any type.
func (c *copier) members(f *form, described bool) bool {
	if c.depth++; c.depth > deepest {
		return false
	}
	base, required := len(c.names), 0
	if described && c.impersonal != nil {
		c.impersonal = append(c.impersonal[:0], '{')
	}
	for first := true; ; first = false {
		next := c.peek()
		if next == '}' && first {
			break
		}
		if next == ',' && !first {
			c.at++
			next = c.peek()
		} else if !first {
			return false
		}
		if next != '"' {
			return false
		}
		c.flush()
		begin, at := len(c.out), c.at+1
		if !c.name() {
			return false
		}
		name := c.in[at : c.at-1]
		hash := foldedName(name)
		if slices.Contains(c.names[base:], hash) {
			return false
		}
		if c.names = append(c.names, hash); len(c.names) > mostNames {
			return false
		}
		var k known
		if f != nil {
			var exact bool
			if k, exact = f.fields[string(name)]; !exact && f.folded[hash] {
				return false
			}
			if k.required {
				required++
			}
			k.personal = k.personal || !exact
		}
		if !c.token(':') {
			return false
		}
		value := c.at
		if !c.value(k) {
			return false
		}
		if described && !c.note(name, k, value, begin) {
			return false
		}
		if next = c.peek(); next == '}' {
			break
		}
	}
	c.at++
	c.depth--
	c.names = c.names[:base]
	return f == nil || required == f.required
}

// note keeps what is needed of a member of an object that is described: its value in the text, and where it begins in out.
func (c *copier) note(name []byte, k known, value, begin int) bool {
	ok := true
	switch string(name) {
	case "desktop_id":
		c.desktopID, ok = scalar(c.in[value:c.at])
	case "image_id":
		c.imageID, ok = scalar(c.in[value:c.at])
	}
	if c.impersonal == nil || k.personal {
		return ok
	}
	c.flush()
	if len(c.impersonal) > 1 {
		c.impersonal = append(c.impersonal, ',')
	}
	c.impersonal = append(c.impersonal, c.out[begin:]...)
	return ok
}

// mostNames is how many names of nested objects are compared with each other.
const mostNames = 512

// name copies a name of plain ASCII.
func (c *copier) name() bool {
	for c.at++; c.at < len(c.in); c.at++ {
		switch b := c.in[c.at]; {
		case b == '"':
			c.at++
			return true
		case !plainByte[b]:
			return false
		}
	}
	return false
}

// plainByte has the bytes that stand for themselves in a JSON text.
var plainByte = func() (plain [256]bool) {
	for b := ' '; b < utf8.RuneSelf; b++ {
		plain[b] = b != '"' && b != '\\' && b != '<' && b != '>' && b != '&'
	}
	return plain
}()

func (c *copier) value(k known) bool {
	first := c.peek()
	switch k.shape {
	case text:
		return first == '"' && c.text()
	case moments:
		return first == '"' && c.moment()
	case integer:
		begin := c.at
		return c.number() && c.at-begin < 18 && !bytes.ContainsAny(c.in[begin:c.at], ".eE")
	case boolean:
		return c.word("true") || c.word("false")
	case texts:
		return c.list(known{shape: text})
	case textMap:
		return c.mapOf(known{shape: text})
	case object:
		return c.token('{') && c.members(k.form, false)
	case objects:
		return c.list(known{shape: object, form: k.form})
	case addresses:
		return c.mapOf(known{shape: objects, form: k.form})
	}
	switch first {
	case '"':
		return c.text()
	case '{':
		c.at++
		return c.members(nil, false)
	case '[':
		return c.list(known{})
	case 't':
		return c.word("true")
	case 'f':
		return c.word("false")
	case 'n':
		return c.word("null")
	}
	return c.number()
}

// list copies a list with elements of one shape.
func (c *copier) list(element known) bool {
	if c.depth++; c.depth > deepest || !c.token('[') {
		return false
	}
	for first := true; ; first = false {
		next := c.peek()
		if next == ']' {
			break
		}
		if !first {
			if next != ',' {
				return false
			}
			c.at++
			if c.peek() == ']' {
				return false
			}
		}
		if !c.value(element) {
			return false
		}
	}
	c.at++
	c.depth--
	return true
}

// mapOf copies an object whose values have one shape, under any names.
func (c *copier) mapOf(value known) bool {
	if c.depth++; c.depth > deepest || !c.token('{') {
		return false
	}
	base := len(c.names)
	for first := true; ; first = false {
		next := c.peek()
		if next == '}' && first {
			break
		}
		if !first {
			if next == '}' {
				break
			}
			if next != ',' {
				return false
			}
			c.at++
			next = c.peek()
		}
		at := c.at + 1
		if next != '"' || !c.name() {
			return false
		}
		hash := foldedName(c.in[at : c.at-1])
		if slices.Contains(c.names[base:], hash) {
			return false
		}
		if c.names = append(c.names, hash); len(c.names) > mostNames || !c.token(':') || !c.value(value) {
			return false
		}
	}
	c.at++
	c.depth--
	c.names = c.names[:base]
	return true
}

// text copies a text. Where it has escapes, or characters that encoding/json escapes, they are written as that would.
func (c *copier) text() bool {
	begin, escaped := c.at, false
	for c.at++; c.at < len(c.in); {
		switch b := c.in[c.at]; {
		case plainByte[b]:
			c.at++
		case b == '"':
			c.at++
			if !escaped {
				return true
			}
			var plain string
			if json.Unmarshal(c.in[begin:c.at], &plain) != nil {
				return false
			}
			written, err := json.Marshal(plain)
			c.replace(begin, string(written))
			return err == nil
		case b == '\\':
			escaped = true
			c.at += 2
		case b < ' ':
			return false
		case b < utf8.RuneSelf:
			escaped = true
			c.at++
		default:
			r, size := utf8.DecodeRune(c.in[c.at:])
			if r == utf8.RuneError && size == 1 {
				return false
			}
			escaped = escaped || r == '\u2028' || r == '\u2029'
			c.at += size
		}
	}
	return false
}

// moment copies a time in the form that is published.
func (c *copier) moment() bool {
	begin := c.at
	if !c.name() {
		return false
	}
	raw := string(c.in[begin+1 : c.at-1])
	if t := ParseTime(raw); t.IsZero() {
		return false
	} else if written := t.String(); written != raw {
		c.replace(begin, strconv.Quote(written))
	}
	return true
}

func (c *copier) word(w string) bool {
	if c.peek() != w[0] || !bytes.HasPrefix(c.in[c.at:], []byte(w)) {
		return false
	}
	c.at += len(w)
	return true
}

// number copies a number as it is.
func (c *copier) number() bool {
	digits := func() bool {
		begin := c.at
		for c.at < len(c.in) && c.in[c.at] >= '0' && c.in[c.at] <= '9' {
			c.at++
		}
		return c.at > begin
	}
	is := func(of string) bool {
		if c.at < len(c.in) && bytes.IndexByte([]byte(of), c.in[c.at]) >= 0 {
			c.at++
			return true
		}
		return false
	}
	c.peek()
	is("-")
	if !is("0") && !digits() {
		return false
	}
	if is(".") && !digits() {
		return false
	}
	if is("eE") {
		is("+-")
		return digits()
	}
	return true
}
