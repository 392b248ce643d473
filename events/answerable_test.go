package events_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// Envelopes that break a rule, but can be answered: the error names the faults, and the envelope has the id to answer.
func TestAnswerable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1025)
	for name, c := range map[string]struct{ with, want string }{
		"other version":          {`"specversion":"0.3"`, "specversion: must be 1.0; got 0.3"},
		"version null":           {`"specversion":null,"Specversion":"1.0"`, "Specversion: must be spelled specversion; specversion: must be 1.0"},
		"version a number":       {`"specversion":1.0`, "specversion: must be a string; got 1.0"},
		"version with a control": {`"specversion":"\u001b[2J"`, `specversion: must be 1.0; got \u001b[2J`},
		"no type":                {`"type":null`, "type: must be given"},
		"empty type":             {`"type":""`, "type: must be given"},
		"type a number":          {`"type":1`, "type: must be a string; got 1"},
		"type too long":          {`"type":"` + long + `"`, "type: may have at most 1024 bytes; got " + long[:60] + "…"},
		"type with a control":    {`"type":"a\u0007"`, `type: may not have control characters; got a\u0007`},
		"subject too long":       {`"subject":"` + long + `"`, "subject: may have at most 1024 bytes; got " + long[:60] + "…"},
		"causation too long":     {`"causationid":"` + long + `"`, "causationid: may have at most 1024 bytes; got " + long[:60] + "…"},
		"trace too long":         {`"traceparent":"` + long + `"`, "traceparent: may have at most 1024 bytes; got " + long[:60] + "…"},
		"correlation too long":   {`"correlationid":"` + long + `"`, "correlationid: may have at most 1024 bytes; got " + long[:60] + "…"},
		"correlation a number":   {`"correlationid":1`, "correlationid: must be a string; got 1"},
		"correlation control":    {`"correlationid":"a\u0085"`, `correlationid: may not have control characters; got a\u0085`},
		"time no time":           {`"time":"yesterday"`, "time: must be a time like 2026-01-15T08:30:00Z; got yesterday"},
		"time without a zone":    {`"time":"2026-02-10T08:00:00"`, "time: must be a time like 2026-01-15T08:30:00Z; got 2026-02-10T08:00:00"},
		"time a number":          {`"time":1770710400`, "time: must be a string; got 1770710400"},
		"expiry no time":         {`"expirytime":"soon"`, "expirytime: must be a time like 2026-01-15T08:30:00Z; got soon"},
		"expiry a duration":      {`"expirytime":"PT1H"`, "expirytime: must be a time like 2026-01-15T08:30:00Z; got PT1H"},
		"expiry empty":           {`"expirytime":""`, "expirytime: must be a time like 2026-01-15T08:30:00Z"},
		"expiry a number":        {`"expirytime":1`, "expirytime: must be a string; got 1"},
		"expiry at zero":         {`"expirytime":"0001-01-01T00:00:00Z"`, "expirytime: must be a time like 2026-01-15T08:30:00Z; got 0001-01-01T00:00:00Z"},
		"expiry before time":     {`"expirytime":"0000-12-31T23:59:59Z"`, "expirytime: must be a time like 2026-01-15T08:30:00Z; got 0000-12-31T23:59:59Z"},
		"expiry in year 10000":   {`"expirytime":"9999-12-31T23:59:59-01:00"`, "expirytime: must be a time like 2026-01-15T08:30:00Z; got 9999-12-31T23:59:59-01:00"},
		"expiry misspelt":        {`"expiryTime":"2026-02-10T08:00:00Z"`, "expiryTime: must be spelled expirytime"},
		"rollout no rollout":     {`"rollout":"blue"`, "rollout: must be name/plan/batch/attempt, such as win11-november/1/0/1, with a name of 1 to 40 of a-z, 0-9 and -; got blue"},
		"rollout a number":       {`"rollout":1`, "rollout: must be a string; got 1"},
		"rollout misspelt":       {`"Rollout":"nov/1/0/1"`, "Rollout: must be spelled rollout"},
		"data misspelt":          {`"Data":{}`, "Data: must be spelled data"},
		"content type":           {`"datacontenttype":"application/xml"`, "datacontenttype: must be JSON; got application/xml"},
		"content type broken":    {`"datacontenttype":";"`, "datacontenttype: must be JSON; got ;"},
		"content type a number":  {`"datacontenttype":1`, "datacontenttype: must be a string; got 1"},
		"two kinds of data":      {`"data_base64":"e30="`, "data_base64: must be base64, and may not be given together with data"},
		"base64 broken":          {`"data":null,"data_base64":"%%"`, "data_base64: must be base64, and may not be given together with data"},
		"base64 a number":        {`"data":null,"data_base64":5`, "data_base64: must be base64, and may not be given together with data"},
		"all at once":            {`"specversion":"2","type":"","time":"x"`, "specversion: must be 1.0; got 2; type: must be given; time: must be a time like 2026-01-15T08:30:00Z; got x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := events.Decode(events.Headers{"Content-Type": {events.ContentType}}, structured(t, c.with), bare)
			requireAnswerable(t, got, err, c.want)
			require.Equal(t, "get-1", got.ID)
			require.Equal(t, sender, got.Source)
			require.Equal(t, "get-1", got.Correlation)
			require.Equal(t, stored, got.Time)
			require.Zero(t, got.Expiry)
		})
	}
}

// requireAnswerable requires an *InvalidError, and an envelope that can be used in an answer.
func requireAnswerable(t *testing.T, got events.Envelope, err error, want string) {
	t.Helper()
	_, ok := errors.AsType[*events.InvalidError](err)
	require.True(t, ok, "%T %v", err, err)
	require.Equal(t, want, err.Error())
	requirePrintable(t, err)

	answer := answering(got, events.FnGetDesktop, events.TypeCommandFailed, "command.failed", stored, events.CommandFailed{Command: ref(got)})
	answer.TraceParent = got.TraceParent
	b, err := json.Marshal(answer)
	require.NoError(t, err)
	read, err := events.Decode(nil, b, events.Bare{})
	require.NoError(t, err, "an answer to it must be readable")
	require.Equal(t, got.ID, read.Causation)
	require.Empty(t, events.Open(events.Root{ID: got.ID}, []events.Envelope{read}))
}

func TestAnswerableInOtherForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		headers events.Headers
		body    string
		id      string
		want    string
	}{
		"bare, malformed":           {nil, `{"desktop_id":`, "msg-1", `must be JSON (it ends too early); got {"desktop_id":`},
		"bare, empty":               {nil, ``, "msg-1", "must be given"},
		"bare, a list":              {nil, `[{"specversion":"1.0"}]`, "msg-1", `must be a JSON object; got [{"specversion":"1.0"}]`},
		"bare, not UTF-8":           {nil, "{\"desktop_id\":\"\xff\"}", "msg-1", "must be UTF-8; got {\"desktop_id\":\"\ufffd\"}"},
		"bare, envelope malformed":  {nil, `{"specversion":"1.0","id":"x"`, "msg-1", `must be JSON (it ends too early); got {"specversion":"1.0","id":"x"`},
		"structured, id twice":      {nil, `{"specversion":"1.0","id":"get-1","id":"get-2","source":"s","type":"t"}`, "get-1", "id: is given twice; give it once"},
		"structured, type twice":    {nil, `{"specversion":"1.0","id":"get-1","source":"s","type":"t","ty\u0070e":"u"}`, "get-1", "type: is given twice; give it once"},
		"binary without version":    {binary(events.Headers{"ce-specversion": nil}), getData, "get-1", "specversion: must be 1.0"},
		"binary, other version":     {binary(events.Headers{"ce-specversion": {"0.3"}}), getData, "get-1", "specversion: must be 1.0; got 0.3"},
		"binary, id twice":          {binary(events.Headers{"ce-id": {"get-1", "get-2"}}), getData, "get-1", "ce-id: is given twice; give it once"},
		"binary, in two spellings":  {binary(events.Headers{"CE-ID": {"get-0"}}), getData, "get-0", "ce-id: is given twice; give it once"},
		"binary, text":              {binary(events.Headers{"Content-Type": {"text/plain"}}), getData, "get-1", "datacontenttype: must be JSON; got text/plain"},
		"binary, subject not UTF-8": {binary(events.Headers{"ce-subject": {"%ff"}}), getData, "get-1", "subject: must be UTF-8; got \ufffd"},
		"binary, correlation":       {binary(events.Headers{"ce-correlationid": {"a%1bb"}}), getData, "get-1", `correlationid: may not have control characters; got a\u001bb`},
		"binary, expiry empty":      {binary(events.Headers{"ce-expirytime": {""}}), getData, "get-1", "expirytime: must be a time like 2026-01-15T08:30:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 20 { // a map of headers has no order
				got, err := events.Decode(c.headers, []byte(c.body), bare)
				requireAnswerable(t, got, err, c.want)
				require.Equal(t, c.id, got.ID)
				require.Equal(t, c.id, got.Correlation)
			}
		})
	}
}

func TestMarshalEnvelope(t *testing.T) {
	t.Parallel()
	t.Run("times are UTC", func(t *testing.T) {
		t.Parallel()
		e := plain()
		e.Time = stored.In(time.FixedZone("CST", 8*3600))
		e.Expiry = e.Time.Add(time.Nanosecond)
		b, err := json.Marshal(e)
		require.NoError(t, err)
		require.JSONEq(t, `{"specversion":"1.0","id":"get-1","source":"`+sender+`","type":"`+events.TypeGetDesktop+`",
			"time":"2026-02-10T08:00:00Z","expirytime":"2026-02-10T08:00:00.000000001Z","datacontenttype":"application/json",
			"correlationid":"get-1","data":`+getData+`}`, string(b))
	})
	t.Run("absent attributes are omitted", func(t *testing.T) {
		t.Parallel()
		b, err := json.Marshal(events.Envelope{ID: "i", Source: "s", Type: "t"})
		require.NoError(t, err)
		require.JSONEq(t, `{"specversion":"1.0","id":"i","source":"s","type":"t"}`, string(b))
	})
	t.Run("data that is not JSON is kept", func(t *testing.T) {
		t.Parallel()
		for _, data := range []string{"hello", `{"a":`, "\xff", "{\"a\":\"\xff\"}", "\x00", `{} {}`} {
			b, err := json.Marshal(with(plain(), data))
			require.NoError(t, err, data)
			read, err := events.Decode(nil, b, bare)
			require.NoError(t, err, data)
			require.Equal(t, with(plain(), data), read)
		}
	})
	t.Run("unmarshalling keeps no memory of the caller", func(t *testing.T) {
		t.Parallel()
		b := structured(t, ``)
		var e events.Envelope
		require.NoError(t, e.UnmarshalJSON(b))
		clear(b)
		require.JSONEq(t, getData, string(e.Data))
	})
	t.Run("unmarshalling holds the rules", func(t *testing.T) {
		t.Parallel()
		e := plain()
		require.ErrorContains(t, json.Unmarshal([]byte(`{"specversion":"1.0"}`), &e), "id and source must be given")
		require.ErrorContains(t, json.Unmarshal(structured(t, `"type":null`), &e), "type: must be given")
		require.Equal(t, plain(), e, "it is unchanged")
		var list []events.Envelope
		require.NoError(t, json.Unmarshal([]byte(`[`+string(structured(t, ``))+`]`), &list))
		require.Len(t, list, 1)
	})
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	h := events.Headers{"Exact": {"1", "2"}, "exact": {"3"}, "Empty": {}, "B": {"x"}, "b": {"y"}}
	for range 20 {
		require.Equal(t, "1", h.Get("Exact"))
		require.Equal(t, "3", h.Get("exact"))
		require.Equal(t, "1", h.Get("EXACT"), "the same one of several spellings each time")
		require.Empty(t, h.Get("Empty"))
		require.Empty(t, h.Get("Absent"))
		require.Empty(t, events.Headers(nil).Get("x"))
	}
}
