package events

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
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
	Expiry      time.Time // expirytime: after it a write is not begun
	Data        json.RawMessage
}

// Identity is Identity(e.Source, e.ID).
func (e Envelope) Identity() string { return Identity(e.Source, e.ID) }

// wire is the JSON form, in the order in which people read it.
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
	Data        json.RawMessage `json:"data,omitempty"`
}

// MarshalJSON writes the structured form. Times are UTC.
func (e Envelope) MarshalJSON() ([]byte, error) {
	w := wire{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Correlation: e.Correlation,
		Causation: e.Causation, TraceParent: e.TraceParent, Time: stamp(e.Time), Expiry: stamp(e.Expiry), Data: e.Data,
	}
	if len(e.Data) > 0 {
		w.ContentType = "application/json"
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads the structured form by the rules of Decode.
func (e *Envelope) UnmarshalJSON(b []byte) error {
	read, err := Decode(Headers{"Content-Type": {ContentType}}, b, Bare{})
	if err == nil {
		*e = read
	}
	return err
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
	for k, v := range h {
		if len(v) > 0 && strings.EqualFold(k, name) {
			return v[0]
		}
	}
	return ""
}

// Bare says what a message without an envelope is: the transport knows its type by the subject or queue, and how to
// name it.
type Bare struct {
	Type   string
	Source string
	ID     string
	Time   time.Time // when it was stored; also the time of an envelope that has none, or one that is still to come
	NoID   bool      // ID was made up from the delivery, so the sender could not send the same again safely
}

// UnreadableError says that a message has no id that could be answered.
type UnreadableError struct{ Reason string }

func (e *UnreadableError) Error() string { return "the envelope cannot be read: " + e.Reason }

// Decode reads a message in structured mode (JSON with specversion), in binary mode (ce- headers), or bare: JSON that
// is the data of a command. Attributes that it does not know are allowed and dropped.
//
// The error is an *UnreadableError where the message names no id. It is an *InvalidError where the envelope can be
// answered but breaks a rule; the Envelope then has the id, source, type and correlation that could be read.
func Decode(h Headers, body []byte, bare Bare) (Envelope, error) {
	if h.Get("ce-specversion") != "" || h.Get("ce-id") != "" {
		return decodeBinary(h, body, bare)
	}
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if media == "application/cloudevents-batch+json" {
		return Envelope{}, &UnreadableError{"a batch of CloudEvents; send them one by one"}
	}
	var faults []Fault
	o := readObject(body, "", &faults)
	if o != nil {
		if _, structured := o.values["specversion"]; structured || media == ContentType {
			return decodeStructured(o, bare)
		}
	}
	if bare.Type == "" {
		return Envelope{}, &UnreadableError{"neither specversion nor ce- headers, and no command is meant here"}
	}
	e := Envelope{ID: bare.ID, Source: bare.Source, Type: bare.Type, Time: bare.Time, Correlation: bare.ID, Data: body}
	if o == nil {
		return e, &InvalidError{Faults: faults}
	}
	return e, nil
}

func decodeStructured(o *object, bare Bare) (Envelope, error) {
	text := func(name string) string { return o.text(name, MaxMessage) }
	e := Envelope{
		ID: text("id"), Source: text("source"), Type: text("type"), Subject: text("subject"),
		Correlation: text("correlationid"), Causation: text("causationid"), TraceParent: text("traceparent"),
	}
	version, when, expiry, content := text("specversion"), text("time"), text("expirytime"), text("datacontenttype")
	if data, ok := o.value("data"); ok {
		e.Data = data
	}
	if coded, ok := o.value("data_base64"); ok {
		var s string
		plain, err := []byte(nil), json.Unmarshal(coded, &s)
		if err == nil {
			plain, err = base64.StdEncoding.DecodeString(s)
		}
		if err != nil || e.Data != nil {
			o.fault("data_base64", "", "must be base64 and stand alone, without data")
		}
		e.Data = plain
	}
	return finish(o, e, version, when, expiry, content, bare)
}

func decodeBinary(h Headers, body []byte, bare Bare) (Envelope, error) {
	var faults []Fault
	o := &object{faults: &faults}
	text := func(name string) string {
		raw := h.Get("ce-" + name)
		if plain, err := url.PathUnescape(raw); err == nil {
			raw = plain
		}
		if !utf8.ValidString(raw) {
			o.fault(name, "", "must be UTF-8")
		}
		return raw
	}
	e := Envelope{
		ID: text("id"), Source: text("source"), Type: text("type"), Subject: text("subject"),
		Correlation: text("correlationid"), Causation: text("causationid"), TraceParent: text("traceparent"), Data: body,
	}
	return finish(o, e, text("specversion"), text("time"), text("expirytime"), h.Get("Content-Type"), bare)
}

func finish(o *object, e Envelope, version, when, expiry, content string, bare Bare) (Envelope, error) {
	if e.ID == "" || e.Source == "" {
		return Envelope{}, &UnreadableError{"id and source must be given"}
	}
	if len(e.ID) > maxAttribute || len(e.Source) > maxAttribute {
		return Envelope{}, &UnreadableError{"id and source may have at most 1,024 bytes"}
	}
	if version != "1.0" {
		o.fault("specversion", shorten([]byte(version)), "must be 1.0")
	}
	if e.Type == "" {
		o.fault("type", "", "must be given")
	}
	e.Time = o.moment("time", when)
	e.Expiry = o.moment("expirytime", expiry)
	if e.Time.IsZero() || (!bare.Time.IsZero() && e.Time.After(bare.Time)) {
		e.Time = bare.Time
	}
	if media, _, err := mime.ParseMediaType(content); content != "" &&
		(err != nil || (media != "application/json" && !strings.HasSuffix(media, "+json") && media != "text/json")) {
		o.fault("datacontenttype", shorten([]byte(content)), "must be JSON")
	}
	if e.Correlation == "" {
		e.Correlation = e.ID
	}
	if len(e.Correlation) > maxAttribute || len(e.Causation) > maxAttribute || len(e.TraceParent) > maxAttribute || len(e.Subject) > maxAttribute {
		o.fault("correlationid", "", "it, causationid, traceparent and subject may have at most %d bytes", maxAttribute)
		e.Correlation = e.ID
	}
	if len(*o.faults) > 0 {
		return e, &InvalidError{Faults: slices.Clone(*o.faults)}
	}
	return e, nil
}

// maxAttribute is the most bytes of an attribute: what is longer is no name.
const maxAttribute = 1024

func (o *object) moment(name, value string) time.Time {
	if value == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		o.fault(name, shorten([]byte(value)), "must be a time like 2026-01-15T08:30:00Z")
	}
	return t.UTC()
}
