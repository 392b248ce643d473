package events_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

var tokenRule = regexp.MustCompile(`^[a-z2-7]{52}$`)

// FuzzDecode feeds any headers and body. Headers are one text: a name, a colon and a value per line.
func FuzzDecode(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(samples())) {
		golden, err := os.ReadFile(samplePath(name))
		require.NoError(f, err)
		f.Add("Content-Type: application/cloudevents+json", golden, true)
	}
	f.Add("ce-specversion:1.0\nCE-id:%C3%BC\nce-source:s\nce-type:t\nce-time:2026-02-10T08:00:00Z\nce-expirytime:x", []byte(getData), true)
	f.Add("ce-id:a\nce-id:b\nCe-Id:c\nce-source:%ff", []byte(`{`), false)
	f.Add("Content-Type: application/cloudevents-batch+json", []byte(`[]`), true)
	f.Add("", []byte(getData), true)
	f.Add("", []byte(`{"specversion":"1.0","id":"a","id":"b","ID":"c","source":"\ud800","data_base64":"e30=","expirytime":"9999-12-31T23:59:59-23:59"}`), false)
	f.Fuzz(func(t *testing.T, lines string, body []byte, isBare bool) {
		h := events.Headers{}
		for line := range strings.Lines(lines) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			h[name] = append(h[name], value)
		}
		b := bare
		if !isBare {
			b.Type = ""
		}
		e, err := events.Decode(h, body, b)
		second, err2 := events.Decode(h, body, b)
		require.Equal(t, err, err2)
		require.Equal(t, e, second, "the same message always decodes to the same envelope")
		require.Regexp(t, tokenRule, e.Identity())
		if err != nil {
			requirePrintable(t, err)
		}
		if _, ok := errors.AsType[*events.UnreadableError](err); ok {
			require.Zero(t, e)
			return
		}
		require.NotEmpty(t, e.ID)
		require.NotEmpty(t, e.Source)
		require.NotEmpty(t, e.Correlation)

		// A message that can be answered can be sent once more unchanged, and answered.
		if e.Type == "" {
			e.Type = "unknown"
		}
		written, err := json.Marshal(e)
		require.NoError(t, err)
		read, err := events.Decode(nil, written, events.Bare{})
		require.NoError(t, err, "%s", written)
		require.Equal(t, e.Identity(), read.Identity())
		require.True(t, e.Expiry.Equal(read.Expiry) && e.Time.Equal(read.Time))
		if json.Valid(e.Data) && string(e.Data) != "null" && strings.TrimSpace(string(e.Data)) != "null" {
			require.JSONEq(t, strings.ToValidUTF8(string(e.Data), "\ufffd"), strings.ToValidUTF8(string(read.Data), "\ufffd"))
		}
		second = read
		written, err = json.Marshal(read)
		require.NoError(t, err)
		read, err = events.Decode(nil, written, events.Bare{})
		require.NoError(t, err)
		require.Equal(t, second, read, "decoded a second time it is unchanged")
	})
}

// FuzzCommands feeds any data to every command but those of a rollout, which have FuzzRollout.
func FuzzCommands(f *testing.F) {
	for _, e := range samples() {
		if events.IsCommand(e.Type) {
			f.Add([]byte(e.Data))
		}
	}
	f.Add([]byte(`{"desktop_ids":["a","A","../x",null,7],"desktop_ids":[],"delay_time":1e9,"then":{"rebuild":null},"image_tags":[{}]}`))
	f.Add([]byte("{\"image_name\":\"\u3000\",\"execute_sysprep\":\"true\",\"max_ram\":1,\"min_ram\":\"\",\"\\u202e\":[[[{}]]]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range events.Commands {
			if c.Fields != nil {
				tryCommand(t, c, data)
			}
		}
	})
}

var idRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$`)

// tryCommand checks the rules that hold for every command.
func tryCommand(t *testing.T, c events.Command, data []byte) {
	t.Helper()
	decoded, err := c.Decode(data)
	if err != nil {
		invalid, ok := errors.AsType[*events.InvalidError](err)
		require.True(t, ok)
		require.NotEmpty(t, invalid.Faults)
		require.LessOrEqual(t, len(invalid.Faults), 20)
		requirePrintable(t, err)
		require.Zero(t, decoded)
		return
	}
	second, err := c.Decode(mustJSON(decoded))
	require.NoError(t, err)
	require.Equal(t, decoded, second)
	require.True(t, json.Valid(data))
	var names struct {
		One     string   `json:"desktop_id"`
		Several []string `json:"desktop_ids"`
	}
	require.NoError(t, json.Unmarshal(mustJSON(decoded), &names))
	ids := names.Several
	if names.One != "" {
		ids = append(ids, names.One)
	}
	if image, is := decoded.(events.DesktopToImage); is && image.Then != nil { // the captured desktop is not allowed
		ids = append(ids, image.Then.Rebuild.DesktopIDs...)
	}
	if slices.ContainsFunc(c.Fields, func(f events.Field) bool { return f.Required && strings.HasPrefix(f.Name, "desktop_id") }) {
		require.NotEmpty(t, ids)
	}
	require.LessOrEqual(t, len(ids), events.MaxDesktops)
	seen := map[string]bool{}
	for _, id := range ids {
		require.Regexp(t, idRule, id)
		require.False(t, seen[strings.ToLower(id)])
		seen[strings.ToLower(id)] = true
	}
}

// FuzzOpen looks for events on which the end of a chain depends on their order, or never comes.
func FuzzOpen(f *testing.F) {
	_, published := goldenChain()
	f.Add([]byte(mustJSON(slices.Collect(maps.Values(published)))))
	f.Add([]byte(`[{"specversion":"1.0","id":"a","source":"s","type":"recompose.event.command.split.v1","causationid":"root","data":{"parts":[{"id":"root"}]}}]`))
	f.Fuzz(func(t *testing.T, list []byte) {
		var all []events.Envelope
		if json.Unmarshal(list, &all) != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range all {
			if seen[e.Identity()] {
				return // two events with one id: the result is undefined
			}
			seen[e.Identity()] = true
		}
		open := events.Open(events.Root{ID: "root"}, all)
		slices.Reverse(all)
		second := events.Open(events.Root{ID: "root"}, all)
		require.Equal(t, len(open), len(second))
		for i := range open {
			require.Equal(t, open[i].ID, second[i].ID)
		}
	})
}
