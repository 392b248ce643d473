package events_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

var (
	stored = time.Date(2026, 2, 10, 8, 0, 0, 0, time.UTC)
	// bare is the description of a message on the subject of getdesktop.
	bare = events.Bare{Type: events.TypeGetDesktop, Source: "nats:recompose", ID: "msg-1", Time: stored}
)

const getData = `{"desktop_id":"a130ab3a-72bf-4b71-baa9-af4987c8e338"}`

// structured is an envelope in which the given attributes replace or extend the usual ones; null removes one.
func structured(t *testing.T, with string) []byte {
	t.Helper()
	all := map[string]json.RawMessage{
		"specversion": []byte(`"1.0"`), "id": []byte(`"get-1"`), "source": []byte(`"` + sender + `"`),
		"type": []byte(`"` + events.TypeGetDesktop + `"`), "data": []byte(getData),
	}
	var more map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte("{"+with+"}"), &more))
	maps.Copy(all, more)
	for name, v := range more {
		if v == nil || string(v) == "null" {
			delete(all, name)
		}
	}
	return mustJSON(all)
}

func binary(with events.Headers) events.Headers {
	h := events.Headers{
		"ce-specversion": {"1.0"}, "ce-id": {"get-1"}, "ce-source": {sender}, "ce-type": {events.TypeGetDesktop},
		"Content-Type": {"application/json"},
	}
	for name, v := range with {
		if h[name] = v; v == nil {
			delete(h, name)
		}
	}
	return h
}

// plain is the envelope that structured and binary make without additions.
func plain() events.Envelope {
	return events.Envelope{
		ID: "get-1", Source: sender, Type: events.TypeGetDesktop, Time: stored, Correlation: "get-1", Data: json.RawMessage(getData),
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	full := plain()
	full.Subject, full.Correlation, full.Causation = "a b", "chain ü", "cause"
	full.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	full.Time, full.Expiry, full.Rollout = stored.Add(-time.Hour), stored.Add(time.Hour), "win11-november/1/0/2"
	fullJSON, err := json.Marshal(full)
	require.NoError(t, err)
	fullHeaders := binary(events.Headers{
		"ce-subject": {"a%20b"}, "ce-correlationid": {"chain%20%C3%BC"}, "ce-causationid": {"cause"}, "ce-traceparent": {full.TraceParent},
		"ce-time": {"2026-02-10t08:00:00+01:00"}, "ce-expirytime": {"2026-02-10t09:00:00z"}, "ce-rollout": {"win11-november/1/0/2"}, "ce-other": {"ignored"},
	})
	shouting := events.Headers{}
	for k, v := range fullHeaders {
		shouting[strings.ToUpper(k)] = v
	}
	ofBare := events.Envelope{
		ID: "msg-1", Source: "nats:recompose", Type: events.TypeGetDesktop, Time: stored, Correlation: "msg-1", Data: json.RawMessage(getData),
	}
	for name, c := range map[string]struct {
		headers events.Headers
		body    string
		want    events.Envelope
	}{
		"structured by its content type":    {events.Headers{"Content-Type": {events.ContentType}}, string(fullJSON), full},
		"content type with a charset":       {events.Headers{"content-type": {"Application/CloudEvents+JSON; charset=UTF-8"}}, string(fullJSON), full},
		"structured by specversion":         {nil, string(fullJSON), full},
		"structured, plain JSON":            {events.Headers{"Content-Type": {"application/json"}}, string(fullJSON), full},
		"structured beside ce- headers":     {binary(events.Headers{"Content-Type": {events.ContentType}, "ce-id": {"other"}}), string(fullJSON), full},
		"binary":                            {fullHeaders, getData, full},
		"binary, names in capitals":         {shouting, getData, full},
		"binary without a content type":     {binary(events.Headers{"Content-Type": nil}), getData, plain()},
		"binary, data with specversion":     {binary(nil), `{"specversion":"1.0"}`, with(plain(), `{"specversion":"1.0"}`)},
		"binary, JSON by suffix":            {binary(events.Headers{"Content-Type": {"application/vnd.x+json; charset=utf-8"}}), getData, plain()},
		"binary, data is no JSON":           {binary(nil), "hello", with(plain(), "hello")},
		"binary, a % that escapes nothing":  {binary(events.Headers{"ce-subject": {"100%"}}), getData, subject("100%")},
		"binary, + is not a space":          {binary(events.Headers{"ce-subject": {"a+b"}}), getData, subject("a+b")},
		"bare":                              {nil, getData, ofBare},
		"bare with a content type":          {events.Headers{"Content-Type": {"application/json"}}, getData, ofBare},
		"bare with a content type of text":  {events.Headers{"Content-Type": {"text/plain"}}, getData, ofBare},
		"bare with a broken content type":   {events.Headers{"Content-Type": {";;"}}, getData, ofBare},
		"structured, white space around it": {nil, " \n" + string(fullJSON) + "\n", full},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := events.Decode(c.headers, []byte(c.body), bare)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func with(e events.Envelope, data string) events.Envelope {
	e.Data = json.RawMessage(data)
	return e
}

func subject(s string) events.Envelope {
	e := plain()
	e.Subject = s
	return e
}

// Absent, unknown or unusual attributes that are not faults.
func TestAttributesThatAreAccepted(t *testing.T) {
	t.Parallel()
	changed := func(change func(*events.Envelope)) events.Envelope {
		e := plain()
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		with string
		want events.Envelope
	}{
		"least":                  {``, plain()},
		"extensions":             {`"priority":7,"flag":true,"nested":{"a":[1]},"comexampleother":"x"`, plain()},
		"null attributes":        {`"time":null,"subject":null`, plain()},
		"an empty correlation":   {`"correlationid":""`, plain()},
		"an empty rollout":       {`"rollout":""`, plain()},
		"a rollout":              {`"rollout":"nov/1/0/1"`, changed(func(e *events.Envelope) { e.Rollout = "nov/1/0/1" })},
		"a correlation":          {`"correlationid":"c"`, changed(func(e *events.Envelope) { e.Correlation = "c" })},
		"time before":            {`"time":"2026-02-10T07:59:59.999999999Z"`, changed(func(e *events.Envelope) { e.Time = stored.Add(-1) })},
		"time with a zone":       {`"time":"2026-02-10T12:29:00+05:30"`, changed(func(e *events.Envelope) { e.Time = stored.Add(-time.Hour - time.Minute) })},
		"time in the future":     {`"time":"2026-02-10T08:00:00.000000001Z"`, plain()},
		"time far in the future": {`"time":"9999-12-31T23:59:59Z"`, plain()},
		"time empty":             {`"time":""`, plain()},
		"expiry":                 {`"expirytime":"2026-02-10T09:00:00+01:00"`, changed(func(e *events.Envelope) { e.Expiry = stored })},
		"lower case":             {`"time":"2026-02-10t07:59:59.5z","expirytime":"2026-02-10t09:00:00+01:00"`, changed(func(e *events.Envelope) { e.Time, e.Expiry = stored.Add(-time.Second/2), stored })},
		"expiry long ago":        {`"expirytime":"1970-01-01T00:00:00Z"`, changed(func(e *events.Envelope) { e.Expiry = time.Unix(0, 0).UTC() })},
		"content type":           {`"datacontenttype":"application/json; charset=utf-8"`, plain()},
		"content type text/json": {`"datacontenttype":"text/json"`, plain()},
		"dataschema":             {`"dataschema":"https://example.com/x"`, plain()},
		"data as base64":         {`"data":null,"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(getData)) + `"`, plain()},
		"no data":                {`"data":null`, changed(func(e *events.Envelope) { e.Data = nil })},
		"data of another kind":   {`"data":[1, 2]`, with(plain(), `[1,2]`)},
		"long attributes":        {`"subject":"` + strings.Repeat("s", 1024) + `"`, subject(strings.Repeat("s", 1024))},
		"an odd id":              {`"id":"../%2f ü <>\u202e"`, changed(func(e *events.Envelope) { e.ID, e.Correlation = "../%2f ü <>\u202e", "../%2f ü <>\u202e" })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := events.Decode(nil, structured(t, c.with), bare)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestTimeOfStorage(t *testing.T) {
	t.Parallel()
	none := bare
	none.Time = time.Time{}
	got, err := events.Decode(nil, structured(t, `"time":"9999-12-31T23:59:59Z"`), none)
	require.NoError(t, err)
	require.Equal(t, 9999, got.Time.Year(), "without a time of storage")
	got, err = events.Decode(nil, structured(t, ``), none)
	require.NoError(t, err)
	require.True(t, got.Time.IsZero())
}

// Messages that cannot be answered, because they have no id.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	noCommand, noID, badID, longID := bare, bare, bare, bare
	noCommand.Type, noID.ID, badID.ID, longID.ID = "", "", "a\nb", strings.Repeat("m", 1025)
	asStructured := events.Headers{"Content-Type": {events.ContentType}}
	for name, c := range map[string]struct {
		headers events.Headers
		body    []byte
		bare    events.Bare
		want    string
	}{
		"no id":                       {nil, structured(t, `"id":null`), bare, "id and source must be given"},
		"no source":                   {nil, structured(t, `"source":null`), bare, "id and source must be given"},
		"empty id":                    {nil, structured(t, `"id":""`), bare, "id and source must be given"},
		"id a number":                 {nil, structured(t, `"id":7`), bare, "id and source must be given; id: must be a string; got 7"},
		"source a list":               {nil, structured(t, `"source":["s"]`), bare, `id and source must be given; source: must be a string; got ["s"]`},
		"id in capitals":              {nil, structured(t, `"id":null,"ID":"x"`), bare, "id and source must be given; ID: must be spelled id"},
		"id too long":                 {nil, structured(t, `"id":"`+strings.Repeat("i", 1025)+`"`), bare, "id may have at most 1024 bytes"},
		"source too long":             {nil, structured(t, `"source":"`+strings.Repeat("ü", 513)+`"`), bare, "source may have at most 1024 bytes"},
		"id with a newline":           {nil, structured(t, `"id":"a\nNats-Rollup: all"`), bare, "id may not have control characters"},
		"source with C1":              {nil, structured(t, `"source":"a\u009b"`), bare, "source may not have control characters"},
		"binary without id":           {binary(events.Headers{"ce-id": nil}), []byte(getData), bare, "id and source must be given"},
		"binary without source":       {binary(events.Headers{"ce-source": nil}), []byte(getData), bare, "id and source must be given"},
		"binary, empty list":          {binary(events.Headers{"ce-source": {}}), []byte(getData), bare, "id and source must be given"},
		"binary id not UTF-8":         {binary(events.Headers{"ce-id": {"%ff"}}), []byte(getData), bare, "id must be UTF-8"},
		"binary id, raw bytes":        {binary(events.Headers{"ce-id": {"\xc3"}}), []byte(getData), bare, "id must be UTF-8"},
		"binary id, coded \\n":        {binary(events.Headers{"ce-id": {"a%0Ab"}}), []byte(getData), bare, "id may not have control characters"},
		"batch":                       {events.Headers{"Content-Type": {"application/cloudevents-batch+json"}}, []byte(`[]`), bare, "application/cloudevents-batch+json is not supported; send one event per message as application/cloudevents+json"},
		"another format":              {events.Headers{"Content-Type": {"application/cloudevents+avro"}}, nil, bare, "application/cloudevents+avro is not supported; send one event per message as application/cloudevents+json"},
		"malformed envelope":          {asStructured, []byte(`{"specversion":"1.0"`), bare, `must be JSON (it ends too early); got {"specversion":"1.0"`},
		"envelope no object":          {asStructured, []byte(`[]`), bare, "must be a JSON object; got []"},
		"envelope not UTF-8":          {asStructured, []byte("{\"id\":\"\xff\"}"), bare, "must be UTF-8; got {\"id\":\"\ufffd\"}"},
		"empty":                       {nil, nil, noCommand, "must be given"},
		"bare without a command type": {nil, []byte(getData), noCommand, "neither specversion nor ce- headers, and a message without an envelope is not accepted here"},
		"text without a command type": {nil, []byte("hello"), noCommand, "must be JSON (invalid character 'h' looking for beginning of value, byte 1); got hello"},
		"bare with one attribute":     {events.Headers{"CE-Expirytime": {"2026-01-15T08:30:00Z"}}, []byte(getData), bare, "CE-Expirytime is an attribute of binary mode, which needs ce-specversion, ce-id, ce-source and ce-type, too"},
		"bare without an id":          {nil, []byte(getData), noID, "a message without an envelope and without an id"},
		"bare with a bad id":          {nil, []byte(getData), badID, "the id of the message may not have control characters"},
		"bare with a long id":         {nil, []byte(getData), longID, "the id of the message may have at most 1024 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := events.Decode(c.headers, c.body, c.bare)
			unreadable, ok := errors.AsType[*events.UnreadableError](err)
			require.True(t, ok, "%T %v", err, err)
			require.Equal(t, c.want, unreadable.Reason)
			require.Equal(t, "the envelope cannot be read: "+c.want, err.Error())
			require.Zero(t, got)
		})
	}
}

// Many attributes are searched by an index; the rules stay the same.
func TestManyAttributes(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `"extension%d":"x",`, i)
	}
	body := `{` + b.String() + `"specversion":"1.0","id":"i","source":"s","type":"t","data":{}%s}`
	e, err := events.Decode(nil, fmt.Appendf(nil, body, ""), events.Bare{})
	require.NoError(t, err)
	require.Equal(t, "i", e.ID)
	for _, name := range []string{"extension7", "id", "dat\\u0061"} {
		_, err = events.Decode(nil, fmt.Appendf(nil, body, `,"`+name+`":"again"`), events.Bare{})
		require.ErrorContains(t, err, "is given twice; give it once", name)
	}
	_, err = events.Decode(nil, fmt.Appendf(nil, body, `,"Time":""`), events.Bare{})
	require.ErrorContains(t, err, "must be spelled time")
}
