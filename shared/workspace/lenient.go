package workspace

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Extra holds the fields of one object that this package does not know, or whose value has the wrong type, under the
// vendor's names. Marshalling writes them back. A new vendor field appears here first.
type Extra map[string]json.RawMessage

var (
	errNoObject = errors.New("must be a JSON object")
	errNoScalar = errors.New("must be a JSON text, number or Boolean")
	extraType   = reflect.TypeFor[Extra]()
)

// fieldNames returns the name of a field on the wire, and the other name under which it is read: the vendor spells
// some names in two ways (hrel and href, description and descriptions).
func fieldNames(f reflect.StructField) (name, other string) {
	name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
	return name, f.Tag.Get("also")
}

// decodeObject reads data into the fields of *target by their json tags, and the rest into its Extra. It fails only if
// data is neither an object nor null: a field that cannot be read stays empty and goes to Extra.
func decodeObject(data []byte, target any) error {
	v := reflect.ValueOf(target).Elem()
	v.SetZero()
	if isNull(data) {
		return nil
	}
	fields, err := members(data)
	if err != nil {
		return err
	}
	var extra reflect.Value
	for i := range v.NumField() {
		field := v.Field(i)
		if field.Type() == extraType {
			extra = field
			continue
		}
		name, other := fieldNames(v.Type().Field(i))
		for _, key := range []string{name, other} {
			raw, given := fields[key]
			if key == "" || !given {
				continue
			}
			if !set(field, raw) {
				continue
			}
			delete(fields, key)
			if !isNull(raw) {
				break
			}
		}
	}
	if extra.IsValid() && len(fields) > 0 {
		rest := make(Extra, len(fields))
		for key, raw := range fields {
			rest[key] = normal(raw)
		}
		extra.Set(reflect.ValueOf(rest))
	}
	return nil
}

// encodeObject writes the fields that are set, by their json tags, and then Extra. A list that is empty but not nil is
// written, so that an empty list from the service stays empty and present. So is an empty field with the tag
// empty:"keep", for readers to whom "no value" has a meaning.
func encodeObject(source any) ([]byte, error) { return json.Marshal(fieldsOf(reflect.ValueOf(source))) }

func fieldsOf(v reflect.Value) map[string]any {
	out := make(map[string]any, v.NumField())
	for i := range v.NumField() {
		field := v.Field(i)
		if extra, ok := field.Interface().(Extra); ok {
			for name, raw := range extra {
				if _, known := out[name]; !known {
					out[name] = raw
				}
			}
			continue
		}
		if name, _ := fieldNames(v.Type().Field(i)); !field.IsZero() {
			out[name] = encodable(field)
		}
	}
	for i := range v.NumField() { // after Extra, which may hold this name with an unreadable value
		f := v.Type().Field(i)
		if name, _ := fieldNames(f); out[name] == nil && f.Tag.Get("empty") == "keep" {
			out[name] = v.Field(i).Interface()
		}
	}
	return out
}

// encodable returns the value of a field, with an object for each struct in it.
func encodable(v reflect.Value) any {
	switch t := v.Type(); {
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		return fieldsOf(v.Elem())
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		objects := make([]any, v.Len())
		for i := range objects {
			objects[i] = fieldsOf(v.Index(i))
		}
		return objects
	}
	if all, ok := v.Interface().(Addresses); ok {
		groups := make(map[string]any, len(all))
		for network, group := range all {
			groups[network] = encodable(reflect.ValueOf(group))
		}
		return groups
	}
	return v.Interface()
}

// set stores raw in a field according to the field's kind. It reports false if raw does not fit; null is always the
// zero value.
func set(field reflect.Value, raw json.RawMessage) bool {
	if isNull(raw) {
		field.SetZero()
		return true
	}
	switch target := field.Addr().Interface().(type) {
	case *string:
		s, ok := scalar(raw)
		*target = s
		return ok
	case *Time:
		s, ok := scalar(raw)
		*target = ParseTime(s)
		return ok
	case **int64:
		return setInt(target, raw)
	case **bool:
		return setBool(target, raw)
	case *[]string:
		return setStrings(target, raw)
	case *map[string]string:
		return setStringMap(target, raw)
	case *Addresses:
		read, err := readAddresses(raw)
		*target = read
		return err == nil
	}
	switch field.Kind() {
	case reflect.Pointer:
		raw = onlyElement(raw)
		if firstByte(raw) != '{' {
			return false
		}
		object := reflect.New(field.Type().Elem())
		if decodeObject(raw, object.Interface()) != nil {
			return false
		}
		field.Set(object)
		return true
	case reflect.Slice:
		return setObjects(field, raw) == nil
	default:
		return false
	}
}

// setObjects reads a list of objects. A single object counts as a list of one; null elements are dropped.
func setObjects(field reflect.Value, raw json.RawMessage) error {
	elements, err := list(raw)
	if err != nil {
		return err
	}
	out := reflect.MakeSlice(field.Type(), 0, len(elements))
	for _, element := range elements {
		if isNull(element) {
			continue
		}
		object := reflect.New(field.Type().Elem())
		if err := decodeObject(element, object.Interface()); err != nil {
			return err
		}
		out = reflect.Append(out, object.Elem())
	}
	field.Set(out)
	return nil
}

func setInt(target **int64, raw json.RawMessage) bool {
	s, ok := scalar(raw)
	s = strings.TrimSpace(s)
	if !ok || s == "" {
		return ok
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return false
		}
		n = int64(f)
	}
	*target = &n
	return true
}

func setBool(target **bool, raw json.RawMessage) bool {
	s, ok := scalar(raw)
	s = strings.TrimSpace(s)
	if !ok || s == "" {
		return ok
	}
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return false
	}
	*target = &b
	return true
}

// setStrings reads a list of strings; a single string counts as a list of one.
func setStrings(target *[]string, raw json.RawMessage) bool {
	var elements []json.RawMessage
	if firstByte(raw) != '[' {
		elements = []json.RawMessage{raw}
	} else if json.Unmarshal(raw, &elements) != nil {
		return false
	}
	out := make([]string, 0, len(elements))
	for _, element := range elements {
		if isNull(element) {
			continue
		}
		s, ok := scalar(element)
		if !ok {
			return false
		}
		out = append(out, s)
	}
	*target = out
	return true
}

// setStringMap reads a map whose values should be strings: other scalars become their text, null becomes "", and
// objects and lists become their JSON text.
func setStringMap(target *map[string]string, raw json.RawMessage) bool {
	values, err := members(raw)
	if err != nil {
		return false
	}
	out := make(map[string]string, len(values))
	for key, value := range values {
		s, ok := scalar(value)
		if !ok {
			s = string(normal(value))
		}
		out[key] = s
	}
	*target = out
	return true
}

// scalar returns a JSON string, number or Boolean as a string; null is "". It reports false for objects and lists.
func scalar(raw json.RawMessage) (string, bool) {
	switch firstByte(raw) {
	case '"':
		if text := bytes.TrimSpace(raw); len(text) >= 2 && isPlain(text[1:len(text)-1]) {
			return string(text[1 : len(text)-1]), true
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return "", false
		}
		return s, true
	case '{', '[', 0:
		return "", false
	}
	if isNull(raw) {
		return "", true
	}
	return string(bytes.TrimSpace(raw)), true
}

// isPlain reports whether a JSON string needs no unescaping: ASCII without escapes.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c == '\\' || c == '"' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// members splits an object. If a name appears twice, the last value counts.
func members(data []byte) (map[string]json.RawMessage, error) {
	if firstByte(data) != '{' {
		return nil, errNoObject
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// list splits a list; null is an empty list, and an object is a list of one.
func list(raw json.RawMessage) ([]json.RawMessage, error) {
	if isNull(raw) || len(raw) == 0 {
		return nil, nil
	}
	if firstByte(raw) == '{' {
		return []json.RawMessage{raw}, nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return nil, err
	}
	return elements, nil
}

// onlyElement unpacks a list of exactly one element in the place of an object: the vendor's sample has such a list.
func onlyElement(raw json.RawMessage) json.RawMessage {
	if firstByte(raw) != '[' {
		return raw
	}
	if elements, err := list(raw); err == nil && len(elements) == 1 {
		return elements[0]
	}
	return raw
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(raw), []byte("null")) }

func firstByte(raw []byte) byte {
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) > 0 {
		return trimmed[0]
	}
	return 0
}

// normal rewrites a value with sorted names, without spaces and in valid UTF-8; numbers keep their digits.
func normal(raw json.RawMessage) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return json.RawMessage("null")
	}
	out, err := json.Marshal(value)
	if err != nil {
		return json.RawMessage("null")
	}
	return out
}
