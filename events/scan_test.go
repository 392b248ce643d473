package events

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzMembers compares the walk over JSON with encoding/json.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, "[ \n]", `{"a":1,"b":[{},[]],"c":"}\"]","d":null}`, `[1, -2.5e3 ,true,"\\",{"a":{}},[[]]]`, "{ \"a\" :\t1\r\n, \"\\u0061\":2 }", `{"":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.TrimSpace(data)
		if wellFormed(data) != "" || (data[0] != '{' && data[0] != '[') {
			return
		}
		before := bytes.Clone(data)
		var values []json.RawMessage
		byName := map[string]json.RawMessage{}
		for name, v := range members(data) {
			require.True(t, json.Valid(v), "%q", v)
			require.Equal(t, bytes.TrimSpace(v), []byte(v))
			values = append(values, v)
			if name != nil {
				text, ok := unquoted(name)
				require.True(t, ok)
				byName[text] = v
			}
			var want string
			if text, ok := unquoted(v); ok {
				require.NoError(t, json.Unmarshal(v, &want))
				require.Equal(t, want, text)
			}
		}
		require.Equal(t, before, data)
		if data[0] == '[' {
			var want []json.RawMessage
			require.NoError(t, json.Unmarshal(data, &want))
			require.True(t, slices.EqualFunc(want, values, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }), "%q %q", want, values)
			return
		}
		var want map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &want))
		require.Equal(t, len(want), len(byName))
		for name, v := range want {
			require.Equal(t, string(v), string(byName[name]))
		}
	})
}

// A caller may stop before the end.
func TestMembersStop(t *testing.T) {
	t.Parallel()
	for _, v := range members([]byte(`[1,2,3]`)) {
		require.Equal(t, "1", string(v))
		break
	}
}
