package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// ContentType is the media type of an envelope in structured mode, the form that recompose writes.
const ContentType = "application/cloudevents+json"

// Envelope is a CloudEvents 1.0 frame around the data of a command or an event.
type Envelope struct {
	ID          string
	Source      string
	Type        string
	Subject     string
	Time        time.Time
	Correlation string    // correlationid: the chain; kept if given, else the id of the first command
	Causation   string    // causationid: the id of the command or event behind this one
	TraceParent string    // traceparent, W3C
	Expiry      time.Time // expirytime: after it a command is not begun
	Rollout     string    // rollout: the batch of a rollout to which this belongs ([RolloutRef]), along the whole chain

	// Data is JSON, or whatever a sender put in its place. Each transport may rewrite it with other white space and
	// escapes: to compare data, compare the decoded values.
	Data json.RawMessage
}

// Identity is Identity(e.Source, e.ID).
func (e Envelope) Identity() string { return Identity(e.Source, e.ID) }

// Implies returns the command for a function that follows from this event. It has the time, the expiry and the rollout
// of the event.
func (e Envelope) Implies(function string, data any) (Envelope, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return Envelope{}, fmt.Errorf("write the %s command that %s implies: %w", function, e.ID, err)
	}
	return Envelope{
		ID: ReactionID(e, function), Source: Source(function), Type: CommandType(function), Time: e.Time, Causation: e.ID,
		Correlation: e.Correlation, TraceParent: e.TraceParent, Expiry: e.Expiry, Rollout: e.Rollout, Data: raw,
	}, nil
}

// wire is the JSON form, with the fields in the order for readers.
type wire struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject,omitempty"`
	Time        string          `json:"time,omitempty"`
	ContentType string          `json:"datacontenttype,omitempty"`
	Correlation string          `json:"correlationid,omitempty"`
	Causation   string          `json:"causationid,omitempty"`
	TraceParent string          `json:"traceparent,omitempty"`
	Expiry      string          `json:"expirytime,omitempty"`
	Rollout     string          `json:"rollout,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"`
	Coded       []byte          `json:"data_base64,omitempty"`
}

// attributes are the attribute names of the structured form that Decode reads.
var attributes = []string{
	"specversion", "id", "source", "type", "subject", "time", "datacontenttype",
	"correlationid", "causationid", "traceparent", "expirytime", "rollout", "data", "data_base64",
}

// MarshalJSON writes the structured form. Times are UTC. Data that is not JSON is kept as data_base64.
func (e Envelope) MarshalJSON() ([]byte, error) {
	w := wire{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Correlation: e.Correlation,
		Causation: e.Causation, TraceParent: e.TraceParent, Time: stamp(e.Time), Expiry: stamp(e.Expiry), Rollout: e.Rollout, Data: e.Data,
	}
	if len(e.Data) > 0 {
		w.ContentType = "application/json"
	}
	if !utf8.Valid(w.Data) {
		w.Data, w.Coded = nil, e.Data
	}
	b, err := json.Marshal(w)
	if err != nil && w.Coded == nil { // only Data can make this fail
		w.Data, w.Coded = nil, e.Data
		b, err = json.Marshal(w)
	}
	return b, err
}

// UnmarshalJSON reads the structured form by the rules of Decode.
func (e *Envelope) UnmarshalJSON(b []byte) error {
	read, err := Decode(Headers{"Content-Type": {ContentType}}, b, Bare{})
	if err != nil {
		return err
	}
	*e = read
	e.Data = bytes.Clone(read.Data) // b belongs to the caller
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Headers are the transport's headers or attributes of a message. Names are compared without case.
type Headers map[string][]string

// Get is the first value of a header, or "".
func (h Headers) Get(name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	if v := h.values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// binary returns the name of a header that is an attribute of binary mode; "" if there is none.
func (h Headers) binary() string {
	const prefix = "ce-"
	for name := range h {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return name
		}
	}
	return ""
}

// values returns all values of a header under any spelling of its name, in a fixed order.
func (h Headers) values(name string) []string {
	var found []string
	spellings := 0
	for k, v := range h {
		if len(k) == len(name) && strings.EqualFold(k, name) {
			found = v
			spellings++
		}
	}
	if spellings < 2 {
		return found
	}
	found = nil
	for _, k := range slices.Sorted(maps.Keys(h)) {
		if strings.EqualFold(k, name) {
			found = append(found, h[k]...)
		}
	}
	return found
}

// Bare describes a message without an envelope: the transport derives its type from the subject or queue, and gives
// it an id and a source.
type Bare struct {
	Type   string
	Source string
	ID     string
	Time   time.Time // when it was stored; also replaces the time of an envelope that has none or one in the future
	NoID   bool      // ID was derived from the delivery, so a message that the sender repeats would have another id
}

// UnreadableError reports that a message has no id, so that no event could answer it.
type UnreadableError struct {
	Reason    string
	Attribute string // that is at fault; "" if it is not only one
}

func (e *UnreadableError) Error() string { return "the envelope cannot be read: " + e.Reason }

// Decode reads a message in structured mode (JSON with specversion), in binary mode (ce- headers), or bare: JSON that
// is the data of a command. Unknown attributes are allowed and dropped. The envelope shares the memory of body.
//
// The error is an *UnreadableError if the message has no id. It is an *InvalidError if the envelope breaks a rule but
// can be answered; the Envelope then has the id, source, type and correlation that could be read.
func Decode(h Headers, body []byte, bare Bare) (Envelope, error) {
	media := h.Get("Content-Type")
	if media != ContentType {
		media, _, _ = mime.ParseMediaType(media)
	}
	structured := media == ContentType
	switch {
	case structured:
	case strings.HasPrefix(media, "application/cloudevents"):
		return Envelope{}, unreadable("%s is not supported; send one event per message as %s", shorten(media), ContentType)
	case h.Get("ce-specversion") != "" || h.Get("ce-id") != "":
		return decodeBinary(h, body, bare)
	}
	var f faults
	o := readObject(body, "", &f)
	if o != nil && !structured {
		structured = o.find("specversion") >= 0
	}
	switch {
	case o != nil && structured:
		return decodeStructured(o, bare)
	case h.binary() != "":
		return Envelope{}, unreadable("%s is an attribute of binary mode, which needs ce-specversion, ce-id, ce-source and ce-type, too",
			shorten(h.binary()))
	case o == nil && (structured || bare.Type == ""):
		return Envelope{}, unreadable("%v", f.err())
	case bare.Type == "":
		return Envelope{}, unreadable("neither specversion nor ce- headers, and a message without an envelope is not accepted here")
	case bare.ID == "":
		return Envelope{}, unreadable("a message without an envelope and without an id")
	case unfit(bare.ID) != "":
		return Envelope{}, unreadable("the id of the message %s", unfit(bare.ID))
	}
	e := Envelope{ID: bare.ID, Source: bare.Source, Type: bare.Type, Time: bare.Time, Correlation: bare.ID, Data: body}
	if o == nil {
		return e, f.err()
	}
	return e, nil
}

func unreadable(reason string, args ...any) *UnreadableError {
	return &UnreadableError{Reason: fmt.Sprintf(reason, args...)}
}

// isLower reports whether a name has only ASCII characters and no capital letters.
func isLower(name []byte) bool {
	for _, c := range name {
		if c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func decodeStructured(o *object, bare Bare) (Envelope, error) {
	for _, f := range o.fields {
		if isLower(f.name) {
			continue
		}
		name := string(f.name)
		if lower := strings.ToLower(name); lower != name && slices.Contains(attributes, lower) {
			o.fault(label(name), "", "must be spelled %s", lower)
		}
	}
	data, plain := o.value("data")
	if coded, ok := o.value("data_base64"); ok {
		s, text := unquoted(coded)
		decoded, err := base64.StdEncoding.DecodeString(s)
		if !text || err != nil || plain {
			o.fault("data_base64", "", "must be base64, and may not be given together with data")
		}
		data = decoded
	}
	attribute := func(name string) (string, bool) {
		v, ok := o.value(name)
		if !ok {
			return "", false
		}
		s, text := unquoted(v)
		if !text {
			o.fault(name, shorten(v), "must be a string")
		}
		return s, text
	}
	return o.envelope(attribute, "datacontenttype", data, bare)
}

func decodeBinary(h Headers, body []byte, bare Bare) (Envelope, error) {
	o := &object{faults: new(faults)}
	attribute := func(name string) (string, bool) {
		header := name
		if name != "Content-Type" {
			header = "ce-" + name
		}
		all := h.values(header)
		if len(all) == 0 {
			return "", false
		}
		if len(all) > 1 {
			o.fault(header, "", "is given twice; give it once")
		}
		raw := all[0]
		if plain, err := url.PathUnescape(raw); err == nil && header != name {
			raw = plain
		}
		return raw, true
	}
	return o.envelope(attribute, "Content-Type", body, bare)
}

// envelope reads the attributes through the function attribute and checks the rules.
func (o *object) envelope(attribute func(name string) (string, bool), contentType string, data []byte, bare Bare) (Envelope, error) {
	text := func(name string) string {
		s, _ := attribute(name)
		return s
	}
	e := Envelope{ID: text("id"), Source: text("source"), Data: data}
	switch {
	case e.ID == "" || e.Source == "":
		reason := "id and source must be given"
		if err := o.faults.err(); err != nil {
			reason += "; " + err.Error()
		}
		return Envelope{}, unreadable("%s", reason)
	case unfit(e.ID) != "":
		return Envelope{}, &UnreadableError{"id " + unfit(e.ID), "id"}
	case unfit(e.Source) != "":
		return Envelope{}, &UnreadableError{"source " + unfit(e.Source), "source"}
	}
	if version := text("specversion"); version != "1.0" && !o.faults.about("specversion") {
		o.fault("specversion", shorten(version), "must be 1.0")
	}
	name := func(attr string) string {
		s := text(attr)
		if why := unfit(s); why != "" {
			o.fault(attr, shorten(s), "%s", why)
			return ""
		}
		return s
	}
	if e.Type = name("type"); e.Type == "" && !o.faults.about("type") {
		o.fault("type", "", "must be given")
	}
	e.Subject, e.Causation, e.TraceParent = name("subject"), name("causationid"), name("traceparent")
	if e.Correlation = name("correlationid"); e.Correlation == "" {
		e.Correlation = e.ID
	}
	if when := text("time"); when != "" {
		e.Time = o.moment("time", when)
	}
	if e.Time.IsZero() || (!bare.Time.IsZero() && e.Time.After(bare.Time)) {
		e.Time = bare.Time
	}
	if expiry, ok := attribute("expirytime"); ok { // an empty one is a sender's mistake, and is refused
		e.Expiry = o.moment("expirytime", expiry)
	}
	if e.Rollout = name("rollout"); e.Rollout != "" {
		if _, err := ParseRolloutRef(e.Rollout); err != nil {
			o.fault("rollout", shorten(e.Rollout), "%v", err)
			e.Rollout = ""
		}
	}
	if content := text(contentType); content != "" && !isJSON(content) {
		o.fault("datacontenttype", shorten(content), "must be JSON")
	}
	return e, o.faults.err()
}

// about reports whether a field has a fault.
func (f *faults) about(field string) bool {
	return slices.ContainsFunc(f.list, func(f Fault) bool { return f.Field == field })
}

func isJSON(content string) bool {
	if content == "application/json" {
		return true
	}
	media, _, err := mime.ParseMediaType(content)
	return err == nil && (media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"))
}

// maxAttribute is the largest size of an attribute, in bytes.
const maxAttribute = 1024

// unfit returns why a text cannot be an attribute, or "" if it can. CloudEvents forbids control characters; text that
// is not UTF-8 could not be published unchanged.
func unfit(s string) string {
	switch {
	case len(s) > maxAttribute:
		return fmt.Sprintf("may have at most %d bytes", maxAttribute)
	case !utf8.ValidString(s):
		return "must be UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "may not have control characters"
	}
	return ""
}

// ParseTime reads a time of RFC 3339, whose section 5.6 allows the letters t and z in lower case too. Such a time has
// no other letters.
func ParseTime(text string) (time.Time, error) {
	return time.Parse(time.RFC3339Nano, strings.ToUpper(text))
}

// moment reads a time. It must have a four-digit year in UTC too, so that it can be written back.
func (o *object) moment(name, value string) time.Time {
	t, err := ParseTime(value)
	if t = t.UTC(); err != nil || t.Year() < 1 || t.Year() > 9999 || t.IsZero() {
		o.fault(name, shorten(value), "must be a time like 2026-01-15T08:30:00Z")
		return time.Time{}
	}
	return t
}
