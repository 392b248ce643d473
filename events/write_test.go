package events_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestMarshalWritesTheBytesOfEncodingJSON(t *testing.T) {
	t.Parallel()
	values := map[string]any{
		"zero":                   events.Envelope{},
		"data that is no JSON":   events.Envelope{ID: "i", Data: json.RawMessage("\xff{")},
		"data with white space":  events.Envelope{ID: "i", Data: json.RawMessage(`{"a": [1, 2]}`)},
		"data with an ampersand": events.Envelope{ID: "i", Data: json.RawMessage(`"a&b"`)},
		"texts that are escaped": events.Envelope{ID: "<i>", Source: "a\"b\\", Type: "ü\u2028", Subject: "\xff", Correlation: "\x00\n"},
		"of a rollout":           events.Envelope{ID: "i", Rollout: "nov/1/0/1", Expiry: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		"times": events.Envelope{
			Time: time.Date(2026, 1, 2, 3, 4, 5, 60, time.FixedZone("x", 3600)), Expiry: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		},
		"described":     events.DesktopDescribed{Command: events.CommandRef{Type: "t", ID: "<"}, Desktop: json.RawMessage(`{"a":1}`)},
		"nothing":       events.DesktopDescribed{},
		"with space":    events.DesktopDescribed{Desktop: json.RawMessage(`{ "a" : "<" }`)},
		"nothing known": events.ImagesChecked{},
		"images checked": events.ImagesChecked{
			Command: events.CommandRef{Type: "t", ID: "i", Source: "s", Digest: "d"}, ImageInfos: []json.RawMessage{[]byte(`{"a":1}`), []byte(`2`)},
			Shortened: true, Missing: []string{"m", "&"}, Expected: &events.Expected{ImageID: "i"}, Matched: []string{"a", "b"}, Mismatched: []string{"c"},
		},
		"raw":         json.RawMessage(`{"a":[]}`),
		"other types": map[string]any{"b": "<", "a": 1},
	}
	for name, e := range samples() {
		values[name] = e
	}
	for name, v := range values {
		want, err := json.Marshal(v)
		require.NoError(t, err, name)
		got, err := events.Marshal(v)
		require.NoError(t, err, name)
		require.Equal(t, string(want), string(got), name)
	}
	_, err := events.Marshal(json.RawMessage(`{"a"`))
	require.Error(t, err)
}

// FuzzIsCompact requires that encoding/json copies what is compact unchanged.
func FuzzIsCompact(f *testing.F) {
	for _, text := range []string{
		`{"a":[1,-2.5e+3,0.1,true,false,null,"b\n\u00fc\/ü"],"c":{},"d":[]}`, `{"a": 1}`, `"<"`, "\"\u2028\"", `"\ud800"`, `01`, `-`, `1.`, `1e`, `.5`, `+1`,
		`{"a":1,}`, `[1,]`, `{"a"}`, `{1:2}`, `"\x"`, `"\u12g4"`, "\"\n\"", "\"\xff\"", `"`, `tru`, `{`, `[`, ``, `1 `, `"a""b"`,
		strings.Repeat("[", 60) + strings.Repeat("]", 60), strings.Repeat("[", 99) + strings.Repeat("]", 99),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		written, err := json.Marshal(json.RawMessage(data))
		same := err == nil && bytes.Equal(written, data)
		if events.IsCompact(data) && !same {
			t.Fatalf("%q is not compact: %q (%v)", data, written, err)
		}
		if same && !events.IsCompact(data) && bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) < 60 && len(data) > 0 && json.Valid(data) &&
			!bytes.ContainsAny(data, "\xff\ufffd") && bytes.Equal(bytes.ToValidUTF8(data, nil), data) {
			t.Fatalf("%q is compact", data)
		}
	})
}
