package events_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// Ledgers and events keep digests, so they must never change. Other spellings of the same data have the same digest.
func TestDigestsAreFrozen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		typ    string
		digest string
		data   []string
	}{
		"checkimages": {events.TypeCheckImages, "3b251ccd81b17d7191a2201925dc3d618e83bf651719c114e83ee3c5ed04e77d", []string{
			`{"desktop_ids":["d-1","d-2"]}`,
			"\n{ \"project_id\": null,\t\"desktop_ids\": [ \"d-1\", \"d\\u002d2\" ] } ",
		}},
		"getdesktop": {events.TypeGetDesktop, "736d75417eca3015ab53c82365245201198c65df48195398118d8a773ef81b46", []string{
			`{"desktop_id":"d-1","project_id":"p"}`, `{"project_id":"p","desktop_id":"d-1"}`,
		}},
		"rebuild": {events.TypeRebuild, "bba6e59a4ee92e3363f1d3431868e5659f4c1c6e0f94babca1fa13abbe66c54e", []string{
			`{"desktop_ids":["d-1"],"image_type":"gold","image_id":"i-1"}`,
			`{"image_id":"i-1","image_type":"gold","desktop_ids":["d-1"],"delay_time":0,"message":"","rebuild_current":false,"allow_os_change":false,"when_busy":"wait","override_rollout":false}`,
		}},
		"rebuild, every field": {events.TypeRebuild, "e2c61453ee1cf7f4b36d17183fa3439fc4ab552f31cca6c1d53163c0899285f7", []string{
			`{"project_id":"p","desktop_ids":["d-1","d-2"],"image_type":"private","image_id":"i-1","os_type":"Windows","delay_time":15,"message":"请保存 <now> & \"go\"","order_id":"o","enterprise_project_id":"0","encrypt_type":"ENCRYPTED","kms_id":"k","handle_type":"ONLY_FOR_EXPAND","rebuild_current":true}`,
		}},
		"rebuild, another OS": {events.TypeRebuild, "f4bb531c81c2328fc228fe0e5b28d8304c2c4c68afa02eae59cd1046b9809372", []string{
			`{"desktop_ids":["d-1"],"image_type":"gold","image_id":"i-1","allow_os_change":true}`,
		}},
		"rebuild of a rollout": {events.TypeRebuild, "c291e0876e1a850c0da0a9f7ecada59df2c5b1bc27e732d393cc24ece0c7be51", []string{
			`{"desktop_ids":["d-1"],"image_type":"gold","image_id":"i-1","when_busy":"fail","override_rollout":true}`,
		}},
		"rollout start": {events.TypeRolloutStart, "44b793352eca88b0a7156a82d707fbae2279cb52cc429686f60f695c860ecad7", []string{
			`{"spec":{"name":"nov","image":{"image_id":"i-1"}},"plan_only":true,"targets":{"pages":2,"sha256":"1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014"}}`,
			`{"targets":{"sha256":"1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014","pages":2},"plan_only":true,"spec":{"image":{ "image_id":"i\u002d1"},"name":"nov"}}`,
		}},
		"rollout approve": {events.TypeRolloutApprove, "2cd846f4f72e6a467e28b158aaf9545f2ea3a62d600aaec8ce4ea51dccfc2ac3", []string{
			`{"name":"nov","plan_sha256":"1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014","by":"ada"}`,
		}},
		"rollout set": {events.TypeRolloutSet, "47d496e31d9b0f614792efd53e171fae3a870e40f8e228ddc190b4fdc60ebe3d", []string{
			`{"name":"nov","max_unavailable":5,"max_failed":"2%"}`, `{"max_failed":"2%","name":"nov","max_unavailable":5}`,
		}},
		"rollout set, a window": {events.TypeRolloutSet, "d2a67533f16624af3c0932a89500bb8c5af873ca3158e6420d8c07353ba902ce", []string{
			`{"name":"nov","window":{"from":"20:00","to":"06:00"}}`, `{"name":"nov","window":{"to":"06:00","from":"20:00"}}`,
		}},
		"desktoptoimage": {events.TypeDesktopToImage, "1375c8399ebbc3c6c8e88a494762ad4246249ee24bffde77afa2ffb65dac8e03", []string{
			`{"image_name":"n","desktop_id":"d-1","execute_sysprep":true}`,
			`{"desktop_id":"d-1","execute_sysprep":"true","image_name":"n","is_clear_data":false,"image_tags":[]}`,
		}},
		"desktoptoimage, every field": {events.TypeDesktopToImage, "c734ae4697bf39e414dc11fdc2d3352314cb0e122a2ad6aca8eac11e9e878803", []string{
			`{"project_id":"p","image_name":"n","image_description":"d","desktop_id":"d-1","execute_sysprep":false,"image_tags":[{"key":"k","value":"v"}],"enterprise_project_id":"0","is_clear_data":true,"max_ram":4096,"min_ram":"1024","then":{"rebuild":{"desktop_ids":["d-2"],"delay_time":5}}}`,
			`{"project_id":"p","image_name":"n","image_description":"d","desktop_id":"d-1","execute_sysprep":"false","image_tags":[{"value":"v","key":"k"}],"enterprise_project_id":"0","is_clear_data":true,"max_ram":"4096","min_ram":1024,"then":{"rebuild":{"delay_time":5,"desktop_ids":["d-2"]}}}`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, data := range c.data {
				e := events.Envelope{ID: "a", Source: "s", Type: c.typ, Data: json.RawMessage(data)}
				require.Equal(t, c.digest, e.Digest(), data)
				decoded, err := decodeCommand(c.typ, e.Data)
				require.NoError(t, err)
				require.Equal(t, c.digest, events.Digest(decoded), data)
				require.Equal(t, c.digest, events.Envelope{Type: c.typ, Data: mustJSON(decoded)}.Digest(), "as it is sent on")
			}
		})
	}
}

// A field that is added later has omitempty, so that the digest of a command without it stays.
func TestNewFieldsOfCommandsLeaveOldDigests(t *testing.T) {
	t.Parallel()
	always := []string{"desktop_ids", "desktop_id", "image_type", "image_id", "image_name", "execute_sysprep", "key", "value", "pages", "sha256"}
	var check func(of reflect.Type)
	check = func(of reflect.Type) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice:
			check(of.Elem())
		case reflect.Struct:
			for f := range of.Fields() {
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				require.True(t, f.Anonymous || options == "omitempty" || slices.Contains(always, name), "%v.%s needs omitempty", of, f.Name)
				check(f.Type)
			}
		}
	}
	for _, typ := range typeConstants(t) {
		if events.IsCommand(typ) {
			e := samples()[typ]
			require.Len(t, e.Digest(), 64, "%s needs a sample, and a row in Commands", typ)
			decoded, err := decodeCommand(typ, e.Data)
			require.NoError(t, err)
			check(reflect.TypeOf(decoded))
		}
	}
}

func TestDifferentDataHasDifferentDigests(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, data := range []string{
		`{"desktop_ids":["a"],"image_type":"gold","image_id":"i"}`, `{"desktop_ids":["b"],"image_type":"gold","image_id":"i"}`,
		`{"desktop_ids":["a","b"],"image_type":"gold","image_id":"i"}`, `{"desktop_ids":["b","a"],"image_type":"gold","image_id":"i"}`,
		`{"desktop_ids":["a"],"image_type":"private","image_id":"i"}`, `{"desktop_ids":["a"],"image_type":"gold","image_id":"j"}`,
		`{"desktop_ids":["a"],"image_type":"gold","image_id":"i","delay_time":1}`, `{"desktop_ids":["a"],"image_type":"gold","image_id":"i","rebuild_current":true}`,
		`{"desktop_ids":["a"],"image_type":"gold","image_id":"i","project_id":"p"}`,
	} {
		digest := events.Envelope{Type: events.TypeRebuild, Data: json.RawMessage(data)}.Digest()
		require.Len(t, digest, 64)
		require.Empty(t, seen[digest], data)
		seen[digest] = data
	}
	for _, e := range []events.Envelope{
		{}, {Type: events.TypeRebuild}, {Type: events.TypeRebuild, Data: json.RawMessage(`{`)}, {Type: events.TypeRebuild, Data: json.RawMessage(`{"desktop_ids":["a"]}`)},
		{Type: events.TypeGetDesktop, Data: json.RawMessage(`{"desktop_id":"a","more":1}`)}, {Type: "recompose.command.getdesktop.v9", Data: json.RawMessage(`{"desktop_id":"a"}`)},
		{Type: events.TypeJobAccepted, Data: json.RawMessage(`{"desktop_id":"a"}`)}, {Type: "recompose.command.watchjob.v1", Data: json.RawMessage(`{}`)},
	} {
		require.Empty(t, e.Digest(), "%s %s", e.Type, e.Data)
	}
	require.Panics(t, func() { events.Digest(func() {}) }, "no command")
}

func TestAnswered(t *testing.T) {
	t.Parallel()
	want := events.CommandRef{Type: events.TypeRebuild, ID: "a", Source: "s", Digest: "d"}
	data := mustJSON(events.CommandFailed{Command: want})
	require.Equal(t, want, events.Envelope{Type: events.TypeCommandFailed, Data: data}.Answered())
	require.Equal(t, want, events.Envelope{Type: "recompose.event.later.v3", Data: data}.Answered())
	for typ, text := range map[string]string{
		events.TypeRebuild: string(data), events.TypeCommandFailed: `no`, events.TypeJobAccepted: `{"command":5}`, events.TypeImagesChecked: `{}`, "": string(data),
	} {
		require.Zero(t, events.Envelope{Type: typ, Data: json.RawMessage(text)}.Answered(), "%s %s", typ, text)
	}
}

func TestWithDigest(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		`{"a":[1,{"b":"<"}],"command":{"type":"t","id":"i"},"z":null}`: `{"a":[1,{"b":"<"}],"command":{"type":"t","id":"i","digest":"new"},"z":null}`,
		`{"command":{"id":"i","digest":""}}`:                           `{"command":{"id":"i","digest":"new"}}`,
		`{"command":{"id":"i","digest":"old"}}`:                        `{"command":{"id":"i","digest":"old"}}`,
		`{"command":null}`:                                             `{"command":null}`, `{"command":"x"}`: `{"command":"x"}`, `{}`: `{}`, `[1]`: `[1]`, `"x"`: `"x"`, `null`: `null`,
	} {
		require.JSONEq(t, want, string(events.WithDigest(json.RawMessage(data), "new")), data)
		require.Equal(t, data, string(events.WithDigest(json.RawMessage(data), "")), "no digest is known")
	}
	require.Equal(t, "no JSON", string(events.WithDigest(json.RawMessage("no JSON"), "new")))
}

func TestDesktopIDsOfReadableData(t *testing.T) {
	t.Parallel()
	many := make([]string, events.MaxDesktops+1)
	for i := range many {
		many[i] = fmt.Sprint("d", i)
	}
	long := strings.Repeat("x", 250)
	tooLong := make([]string, 1100)
	for i := range tooLong {
		tooLong[i] = fmt.Sprint(long, i)
	}
	for data, want := range map[string][]string{
		`{"desktop_ids":["a","b"],"image_id":"i"}`:                             {"a", "b"},
		`{"desktop_ids":["a","../x",5,null,"a","","b"],"imageId":"misspelt"}`:  {"a", "b"},
		`{"desktop_id":"a","then":{"rebuild":{"desktop_ids":["b"]}},"more":1}`: {"a"},
		`{"desktop_ids":null,"desktop_id":"a"}`:                                {"a"},
		`{"desktop_ids":[],"desktop_id":"a"}`:                                  nil,
		`{"desktop_ids":"a"}`:                                                  nil,
		`{"Desktop_Ids":["a"]}`:                                                nil,
		`{"desktop_id":["a"]}`:                                                 nil,
		`["a"]`:                                                                nil,
		`{"desktop_ids":["a"`:                                                  nil,
		``:                                                                     nil,
		string(mustJSON(map[string]any{"desktop_ids": many})):                  nil,
		string(mustJSON(map[string]any{"desktop_ids": many[1:]})):              many[1:],
		string(mustJSON(map[string]any{"desktop_ids": tooLong})):               nil,
	} {
		require.Equal(t, want, events.DesktopIDs(json.RawMessage(data)), "%.80s", data)
	}
}

func TestDataIsCheckedByTheTypeOfItsCommand(t *testing.T) {
	t.Parallel()
	require.NoError(t, events.CheckData(events.TypeGetDesktop, json.RawMessage(`{"desktop_id":"d1"}`)))
	invalid := new(events.InvalidError)
	require.ErrorAs(t, events.CheckData(events.TypeGetDesktop, json.RawMessage(`{}`)), &invalid)
	require.ErrorContains(t, events.CheckData(events.TypeJobAccepted, json.RawMessage(`{}`)), `"`+events.TypeJobAccepted+`" is not the type of a command`)
}
