package rollout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"recompose/events"
	"recompose/shared/textfile"
)

// SpecFault is one fault of a spec, with its line if it was read from a text.
type SpecFault struct {
	Line int // from 1; 0: not known
	events.Fault
}

// SpecError lists the faults of a spec, in order of their lines, all at once.
type SpecError struct {
	Faults []SpecFault
}

// Error has a line for each fault.
func (e *SpecError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
		if f.Line > 0 {
			lines[i] = fmt.Sprintf("line %d: %s", f.Line, lines[i])
		}
	}
	return strings.Join(lines, "\n")
}

func (e *SpecError) add(line int, field, value, rule string, args ...any) {
	fault := events.Fault{Field: field, Rule: fmt.Sprintf(rule, args...), Value: value}
	e.Faults = append(e.Faults, SpecFault{Line: line, Fault: fault})
}

// covers reports whether there is a fault of the field, in it, or of what it is in: its value is then not known.
func (e *SpecError) covers(field string) bool {
	return slices.ContainsFunc(e.Faults, func(f SpecFault) bool {
		return f.Field == "" || f.Field == field || strings.HasPrefix(field, f.Field+".") ||
			strings.HasPrefix(f.Field, field+"[") || strings.HasPrefix(f.Field, field+".")
	})
}

func (e *SpecError) err() error {
	if len(e.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(e.Faults, func(a, b SpecFault) int { return a.Line - b.Line })
	return e
}

// ParseSpec reads a spec from YAML or JSON, fills in the defaults and checks it. Its error is a *SpecError with every
// fault.
func ParseSpec(data []byte) (Spec, error) {
	r := reader{lines: map[string]int{}}
	spec := Defaults()
	if root := r.parse(data); root != nil {
		r.value(root, "", reflect.ValueOf(&spec).Elem())
		if _, given := r.lines["approval.within"]; !given && !spec.Approval.Required {
			spec.Approval.Within = 0
		}
		r.check(spec)
	}
	if err := r.faults.err(); err != nil {
		return Spec{}, err
	}
	return spec, nil
}

// reader fills a spec from the nodes of a text, and collects the faults with their lines.
type reader struct {
	faults SpecError
	lines  map[string]int // of the fields that are there, by path
	strict bool           // JSON: a number is no string
}

// check adds the rules that the spec breaks, but for fields that could not even be read.
func (r *reader) check(spec Spec) {
	var broken SpecError
	spec.check(&broken)
	for _, f := range broken.Faults {
		if !r.faults.covers(f.Field) {
			f.Line = r.line(f.Field)
			r.faults.Faults = append(r.faults.Faults, f)
		}
	}
}

// line is the line of a field, or of the nearest one around it that is there.
func (r *reader) line(path string) int {
	for {
		if line, ok := r.lines[path]; ok || path == "" {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// parse returns the top node of the text; nil if there is none.
func (r *reader) parse(data []byte) *yaml.Node {
	text, err := textfile.Decode(data)
	if err != nil {
		r.faults.add(0, "", "", "%s", err)
		return nil
	}
	if trimmed := bytes.TrimSpace(text); bytes.HasPrefix(trimmed, []byte("{")) && json.Valid(trimmed) {
		r.strict = true
		d := jsonNodes{text: text, tokens: json.NewDecoder(bytes.NewReader(text)), line: 1}
		d.tokens.UseNumber()
		return d.next()
	}
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		r.faults.add(0, "", "", "must be given: the spec is empty")
		return nil
	case err != nil:
		r.faults.add(0, "", "", "must be YAML or JSON (%s)", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil
	}
	if len(document.Content) == 0 || document.Content[0].Tag == "!!null" {
		r.faults.add(0, "", "", "must be given: the spec is empty")
		return nil
	}
	var more yaml.Node
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		r.faults.add(more.Line, "", "", "must be one document; there is another one behind it")
	}
	return document.Content[0]
}

// value fills target from a node. What is null counts as absent.
func (r *reader) value(node *yaml.Node, path string, target reflect.Value) {
	r.lines[path] = node.Line
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Tag == "!!null" {
		delete(r.lines, path)
		return
	}
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.New(target.Type().Elem()))
		target = target.Elem()
	}
	fault := func(rule string) { r.faults.add(node.Line, path, shown(node), "%s", rule) }
	switch t := target.Addr().Interface().(type) {
	case *Duration:
		d, err := ParseDuration(node.Value)
		if err != nil || node.Kind != yaml.ScalarNode {
			fault(errDuration.Error())
			return
		}
		*t = d
		return
	case *Amount:
		a, err := ParseAmount(node.Value)
		if err != nil || node.Kind != yaml.ScalarNode {
			fault(errAmount.Error())
			return
		}
		*t = a
		return
	}
	switch target.Kind() {
	case reflect.Struct:
		r.object(node, path, target)
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			fault("must be a list")
			return
		}
		target.Set(reflect.MakeSlice(target.Type(), len(node.Content), len(node.Content)))
		for i, item := range node.Content {
			r.required(item, path+"["+strconv.Itoa(i)+"]", target.Index(i))
		}
	case reflect.Map:
		if node.Kind != yaml.MappingNode {
			fault("must be a list of keys with their values")
			return
		}
		target.Set(reflect.MakeMap(target.Type()))
		for name, item := range r.members(node, path) {
			value := reflect.New(target.Type().Elem()).Elem()
			r.required(item, joined(path, name), value)
			target.SetMapIndex(reflect.ValueOf(name), value)
		}
	case reflect.String:
		if node.Kind != yaml.ScalarNode || r.strict && node.Tag != "!!str" {
			fault("must be a string")
			return
		}
		target.SetString(node.Value) // as it is written: 0012 and true are texts here
	case reflect.Int, reflect.Int64:
		n, ok := parseWhole(node.Value, 1<<31-1)
		if !ok || node.Tag != "!!int" {
			fault("must be a whole number from 0 to 2147483647")
			return
		}
		target.SetInt(n)
	case reflect.Bool:
		if node.Tag != "!!bool" {
			fault("must be true or false")
			return
		}
		target.SetBool(strings.EqualFold(node.Value, "true"))
	}
}

// required is value for a place where null is a fault.
func (r *reader) required(node *yaml.Node, path string, target reflect.Value) {
	if node.Tag == "!!null" {
		r.faults.add(node.Line, path, "", "must have a value")
		return
	}
	r.value(node, path, target)
}

func (r *reader) object(node *yaml.Node, path string, target reflect.Value) {
	if node.Kind != yaml.MappingNode {
		r.faults.add(node.Line, path, shown(node), "must be an object with fields")
		return
	}
	fields := map[string]int{}
	var names []string
	for i := range target.NumField() {
		name, _, _ := strings.Cut(target.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
		names = append(names, name)
	}
	for name, item := range r.members(node, path) {
		if i, known := fields[name]; known {
			r.value(item, joined(path, name), target.Field(i))
			continue
		}
		hint := "the fields are " + strings.Join(names, ", ")
		if meant := nearest(name, names); meant != "" {
			hint = "did you mean " + meant + "?"
		}
		r.faults.add(item.Line, joined(path, printable(name)), "", "is not a field here; %s", hint)
	}
}

// members are the names and values of a mapping, in order. A name that comes twice is a fault.
func (r *reader) members(node *yaml.Node, path string) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		seen := map[string]bool{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			name, item := node.Content[i], node.Content[i+1]
			item.Line = name.Line // a section in a block begins on the line after its name
			switch {
			case name.Kind != yaml.ScalarNode:
				r.faults.add(name.Line, path, shown(name), "must have texts as names")
			case seen[name.Value]:
				r.faults.add(name.Line, joined(path, printable(name.Value)), "", "is given twice; give it once")
			case !yield(name.Value, item):
				return
			}
			seen[name.Value] = true
		}
	}
}

func joined(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// shown is a node in an error.
func shown(node *yaml.Node) string {
	switch node.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "an object"
	}
	if node.Tag == "!!str" {
		return strconv.Quote(short(node.Value))
	}
	return printable(node.Value)
}

// printable is foreign text on one short line without what a terminal acts on.
func printable(text string) string {
	if quoted := strconv.Quote(short(text)); quoted != `"`+text+`"` || text == "" {
		return quoted
	}
	return text
}

func short(text string) string { return events.Shorten(text, 60) }

// nearest is the name with the fewest letters to change; "" if none is similar.
func nearest(name string, names []string) string {
	name = strings.ToLower(strings.ReplaceAll(short(name), "-", "_"))
	best, least := "", 3
	for _, known := range names {
		d := distance(name, known)
		if strings.HasPrefix(known, name) && len(name) > 2 {
			d = 0
		}
		if d < least && d < len(known) {
			best, least = known, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete or change to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			least := min(row[j], row[j+1]) + 1
			if a[i] == b[j] {
				least = min(least, diagonal)
			}
			diagonal, row[j+1] = row[j+1], min(least, diagonal+1)
		}
	}
	return row[len(b)]
}

// jsonNodes makes YAML's nodes of JSON: a parser of YAML refuses some JSON, such as "\ud83d\ude00".
type jsonNodes struct {
	text   []byte
	tokens *json.Decoder
	line   int // of the last token
	offset int
}

// next reads one value, which is valid JSON.
func (d *jsonNodes) next() *yaml.Node {
	token := d.token()
	node := &yaml.Node{Kind: yaml.ScalarNode, Line: d.line}
	switch t := token.(type) {
	case json.Delim:
		node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		if t == '{' {
			node.Kind, node.Tag = yaml.MappingNode, "!!map"
		}
		for d.tokens.More() {
			node.Content = append(node.Content, d.next()) // the names of an object are values to the decoder
		}
		d.token()
	case string:
		node.Tag, node.Value = "!!str", t
	case json.Number:
		node.Tag, node.Value = "!!int", t.String()
	case bool:
		node.Tag, node.Value = "!!bool", strconv.FormatBool(t)
	default:
		node.Tag = "!!null"
	}
	return node
}

func (d *jsonNodes) token() json.Token {
	token, _ := d.tokens.Token()
	end := int(d.tokens.InputOffset())
	d.line += bytes.Count(d.text[d.offset:end], []byte("\n"))
	d.offset = end
	return token
}
