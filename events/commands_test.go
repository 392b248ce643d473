package events_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// faultsOf returns the faults of a command with this type and data; nil if it is valid.
func faultsOf(t *testing.T, typ, data string) []string {
	t.Helper()
	_, err := decodeCommand(typ, json.RawMessage(data))
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*events.InvalidError](err)
	require.True(t, ok, "%T %v", err, err)
	require.NotEmpty(t, invalid.Faults)
	var texts []string
	for _, f := range invalid.Faults {
		texts = append(texts, f.String())
	}
	if invalid.More == 0 {
		require.Equal(t, strings.Join(texts, "; "), err.Error())
	}
	return texts
}

// The example requests of the vendor's pages, with ids instead of "string" where the page has no real ids.
func TestVendorExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	check, err := events.DecodeCheckImages(json.RawMessage(`{
  "desktop_ids" : [ "f77db5cd-c020-47d4-bbbe-9b979a38d18c", "f77db5cd-c020-47d4-bbbe-9b979a38d18b" ]
}`))
	require.NoError(t, err)
	require.Equal(t, events.CheckImages{DesktopIDs: []string{first, second}}, check)

	image, err := events.DecodeDesktopToImage(json.RawMessage(`{
"image_name" : "win10_office",
"image_description" : "office 2026.02",
"desktop_id" : "21616aa6-061d-4b2f-bd83-b230d7a9a14c",
"execute_sysprep" : "true",
"image_tags" : [ {
"key" : "team",
"value" : "workplace"
} ],
"enterprise_project_id" : "d94a5c3e-6a8c-4b41-9d0b-8a4b3d1b6f11",
"max_ram" : "65536",
"min_ram" : "4096"
}`))
	require.NoError(t, err)
	require.Equal(t, events.DesktopToImage{
		ImageName: "win10_office", ImageDescription: "office 2026.02", DesktopID: captured, ExecuteSysprep: true,
		ImageTags: []events.Tag{{Key: "team", Value: "workplace"}}, EnterpriseProjectID: "d94a5c3e-6a8c-4b41-9d0b-8a4b3d1b6f11",
		MaxRAM: "65536", MinRAM: "4096",
	}, image)

	rebuild, err := events.DecodeRebuild(json.RawMessage(`{
  "desktop_ids" : [ "f77db5cd-c020-47d4-bbbe-9b979a38d18c" ],
  "image_type" : "gold",
  "image_id" : "b669106a-1395-4f24-92af-d884c227e558",
  "os_type" : "Windows",
  "delay_time" : 2147483647,
  "message" : "Save your work.",
  "order_id" : "CS2201211457G0PUY",
  "enterprise_project_id" : "0"
}`))
	require.NoError(t, err)
	require.Equal(t, events.Rebuild{
		DesktopIDs: []string{first}, ImageType: "gold", ImageID: newImage,
		RebuildOptions: events.RebuildOptions{
			OSType: "Windows", DelayTime: 2147483647, Message: "Save your work.", OrderID: "CS2201211457G0PUY", EnterpriseProjectID: "0",
		},
	}, rebuild)

	get, err := events.DecodeGetDesktop(json.RawMessage(
		`{"project_id": "0bec5db98280d2d02fd6c00c2de791ce", "desktop_id": "a130ab3a-72bf-4b71-baa9-af4987c8e338"}`))
	require.NoError(t, err)
	require.Equal(t, events.GetDesktop{ProjectID: project, DesktopID: third}, get)
}

// Rules that hold for every command, tested with the simplest one.
func TestDataThatIsRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, c := range map[string]struct{ data, want string }{
		"nothing":               {``, "must be given"},
		"white space":           {" \n", "must be given"},
		"null":                  {`null`, "must be a JSON object; got null"},
		"no object":             {`["a"]`, `must be a JSON object; got ["a"]`},
		"string":                {`"{}"`, `must be a JSON object; got "{}"`},
		"no JSON":               {`hello`, "must be JSON (invalid character 'h' looking for beginning of value, byte 1); got hello"},
		"cut off":               {`{"desktop_id": "a"`, `must be JSON (it ends too early); got {"desktop_id": "a"`},
		"single quotes":         {`{'desktop_id': 'a'}`, `must be JSON (invalid character '\'' looking for beginning of object key string, byte 2); got {'desktop_id': 'a'}`},
		"trailing comma":        {`{"desktop_id": "a",}`, `must be JSON (invalid character '}' looking for beginning of object key string, byte 20); got {"desktop_id": "a",}`},
		"comment":               {`{"desktop_id": "a"} // b`, `must be JSON (invalid character '/' after top-level value, byte 21); got {"desktop_id": "a"} // b`},
		"two objects":           {`{"desktop_id":"a"}{"desktop_id":"b"}`, `must be JSON (invalid character '{' after top-level value, byte 19); got {"desktop_id":"a"}{"desktop_id":"b"}`},
		"trailing brace":        {`{"desktop_id":"a"}}`, `must be JSON (invalid character '}' after top-level value, byte 19); got {"desktop_id":"a"}}`},
		"trailing NUL":          {"{\"desktop_id\":\"a\"}\x00", `must be JSON (invalid character '\x00' after top-level value, byte 19); got {"desktop_id":"a"}\u0000`},
		"byte order mark":       {"\ufeff{\"desktop_id\":\"a\"}", `must be JSON (invalid character 'ï' looking for beginning of value, byte 1); got \ufeff{"desktop_id":"a"}`},
		"invalid UTF-8":         {"{\"desktop_id\":\"a\xff\"}", "must be UTF-8; got {\"desktop_id\":\"a\ufffd\"}"},
		"invalid UTF-8 name":    {"{\"desktop_id\xc3\":\"a\"}", "must be UTF-8; got {\"desktop_id\ufffd\":\"a\"}"},
		"nested too deep":       {`{"desktop_id":` + deep + `}`, "must be JSON (invalid character '[' exceeded max depth, byte 10014); got {\"desktop_id\":" + strings.Repeat("[", 46) + "…"},
		"missing":               {`{}`, "desktop_id: must be given"},
		"field null":            {`{"desktop_id":null}`, "desktop_id: must be given"},
		"number":                {`{"desktop_id":7}`, "desktop_id: must be a string; got 7"},
		"list":                  {`{"desktop_id":["a"]}`, `desktop_id: must be a string; got ["a"]`},
		"object":                {`{"desktop_id":{"a":{}}}`, `desktop_id: must be a string; got {"a":{}}`},
		"Boolean":               {`{"desktop_id":true}`, "desktop_id: must be a string; got true"},
		"twice":                 {`{"desktop_id":"a","desktop_id":"b"}`, "desktop_id: is given twice; give it once"},
		"twice, escaped":        {`{"desktop_id":"a","desktop\u005fid":"a"}`, "desktop_id: is given twice; give it once"},
		"twice, the first null": {`{"desktop_id":null,"desktop_id":"b"}`, "desktop_id: is given twice; give it once; desktop_id: must be given"},
		"unknown":               {`{"desktop_id":"a","x":1}`, "x: is not a field here; the fields are project_id, desktop_id"},
		"unknown null":          {`{"desktop_id":"a","x":null}`, "x: is not a field here; the fields are project_id, desktop_id"},
		"letter case":           {`{"desktop_id":"a","Project_id":"p"}`, "Project_id: is not a field here; the fields are project_id, desktop_id"},
		"Kelvin sign":           {`{"des\u212atop_id":"a"}`, "desktop_id: must be given; des\u212atop_id: is not a field here; the fields are project_id, desktop_id"},
		"empty name":            {`{"desktop_id":"a","":1}`, `"": is not a field here; the fields are project_id, desktop_id`},
		"list field":            {`{"desktop_ids":["a"]}`, "desktop_id: must be given; desktop_ids: is not a field here; the fields are project_id, desktop_id"},
		"project":               {`{"desktop_id":"a","project_id":"../p"}`, `project_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "../p"`},
		"huge unknown name":     {`{"desktop_id":"a","` + strings.Repeat("x", 200_000) + `":1}`, `"` + strings.Repeat("x", 60) + `…": is not a field here; the fields are project_id, desktop_id`},
		"unknown name acts":     {"{\"desktop_id\":\"a\",\"\\u001b[2J\":1}", `"\u001b[2J": is not a field here; the fields are project_id, desktop_id`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, strings.Join(faultsOf(t, events.TypeGetDesktop, c.data), "; "))
		})
	}
}

func TestDataThatIsAccepted(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"white space":     " \t\r\n{ \"desktop_id\"\n:\t\"a\" , \"project_id\" : null }\n ",
		"escaped name":    `{"desktop\u005fid":"\u0061"}`,
		"tight":           `{"desktop_id":"a"}`,
		"optional, empty": `{"desktop_id":"a","project_id":""}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := events.DecodeGetDesktop(json.RawMessage(data))
			require.NoError(t, err)
			require.Equal(t, events.GetDesktop{DesktopID: "a"}, c)
		})
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	quoted := func(s string) string { return string(mustJSON(s)) }
	for _, good := range []string{
		"a", "7", "A-_", "a--", "f77db5cd-c020-47d4-bbbe-9b979a38d18c", project, strings.Repeat("a", 255),
	} {
		require.Empty(t, faultsOf(t, events.TypeGetDesktop, `{"desktop_id":`+quoted(good)+`}`), good)
	}
	for _, bad := range []string{
		"", "../x", "..", ".", "a/b", "a.b", "-a", "_a", "a ", " a", "a\n", "\na", "a\x00", "ä", "ａ", "a%2f", "a?b", "a#b", "a\\b",
		"٣", "a\u200b", "\u202ea", strings.Repeat("a", 256),
	} {
		got := faultsOf(t, events.TypeGetDesktop, `{"desktop_id":`+quoted(bad)+`}`)
		require.Len(t, got, 1, bad)
		require.True(t, strings.HasPrefix(got[0], "desktop_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got \""), got[0])
		require.Less(t, len(got[0]), 500)
	}
}

func TestDesktopLists(t *testing.T) {
	t.Parallel()
	list := func(n int) string {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprintf(`"d-%d"`, i)
		}
		return "[" + strings.Join(ids, ",") + "]"
	}
	for name, c := range map[string]struct{ list, want string }{
		"one":            {`["a"]`, ""},
		"limit":          {list(5000), ""},
		"over the limit": {list(5001), ": must have at most 5000 ids; send several commands; got 5001 ids"},
		"empty":          {`[]`, ": must name at least one desktop; got []"},
		"empty, spaced":  {"[ \n]", ": must name at least one desktop; got []"},
		"null":           {`null`, ": must be given"},
		"string":         {`"a,b"`, `: must be a list of ids; got "a,b"`},
		"object":         {`{"0":"a"}`, `: must be a list of ids; got {"0":"a"}`},
		"number within":  {`["a",7]`, `[1]: must be a string; got 7`},
		"null within":    {`[null]`, `[0]: must be a string; got null`},
		"empty within":   {`["a",""]`, `[1]: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got ""`},
		"path within":    {`["a","../x"]`, `[1]: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "../x"`},
		"too long":       {`["` + strings.Repeat("a", 256) + `"]`, `[0]: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "` + strings.Repeat("a", 59) + "…"},
		"twice":          {`["a","b","a"]`, `[2]: is in the list twice (first as [0], letter case apart); name each desktop once; got "a"`},
		"thrice":         {`["a","a","a"]`, `[1]: is in the list twice (first as [0], letter case apart); name each desktop once; got "a"; desktop_ids[2]: is in the list twice (first as [0], letter case apart); name each desktop once; got "a"`},
		"letter case":    {`["f77db5cd","F77DB5CD"]`, `[1]: is in the list twice (first as [0], letter case apart); name each desktop once; got "F77DB5CD"`},
		"escaped twice":  {`["a","\u0061"]`, `[1]: is in the list twice (first as [0], letter case apart); name each desktop once; got "\u0061"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := c.want
			if want != "" {
				want = "desktop_ids" + want
			}
			require.Equal(t, want, strings.Join(faultsOf(t, events.TypeCheckImages, `{"desktop_ids":`+c.list+`}`), "; "))
			got := faultsOf(t, events.TypeRebuild, `{"image_id":"i","image_type":"gold","desktop_ids":`+c.list+`}`)
			require.Equal(t, want, strings.Join(got, "; "))
			got = faultsOf(t, events.TypeDesktopToImage, `{"image_name":"n","desktop_id":"other","execute_sysprep":true,"then":{"rebuild":{"desktop_ids":`+c.list+`}}}`)
			require.Equal(t, strings.ReplaceAll(want, "desktop_ids", "then.rebuild.desktop_ids"), strings.Join(got, "; "))
		})
	}
}

// An error lists all faults at once, up to the limit.
func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{
		"project_id: must be a string; got 1",
		"desktop_ids: must name at least one desktop; got []",
		"image_type: must be given",
		`image_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "a/b"`,
		"delay_time: must be a whole number from 0 to 2147483647; got -1",
		"message: must have at most 400 characters; got 401 characters",
		"kms_id: must be given with encrypt_type ENCRYPTED",
		`handle_type: must be one of ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE, FOR_EXPAND_AND_ALL; got "ALL"`,
		"rebuild_current: must be true or false; got \"yes\"",
		"imageType: is not a field here; the fields are project_id, desktop_ids, image_type, image_id, os_type, delay_time, message, " +
			"order_id, enterprise_project_id, encrypt_type, kms_id, handle_type, rebuild_current, allow_os_change, when_busy, override_rollout",
	}, faultsOf(t, events.TypeRebuild, `{"project_id":1,"desktop_ids":[],"imageType":"gold","image_id":"a/b","delay_time":-1,
		"message":"`+strings.Repeat("x", 401)+`","encrypt_type":"ENCRYPTED","handle_type":"ALL","rebuild_current":"yes"}`))

	_, err := events.DecodeCheckImages(json.RawMessage(`{"desktop_ids":[` + strings.Repeat(`"",`, 4999) + `""]}`))
	invalid, ok := errors.AsType[*events.InvalidError](err)
	require.True(t, ok)
	require.Len(t, invalid.Faults, 20)
	require.Equal(t, 4980, invalid.More)
	require.True(t, strings.HasSuffix(err.Error(), "; and 4980 more faults"), err.Error())

	var many strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&many, `"x%d":1,`, i)
	}
	_, err = events.DecodeGetDesktop(json.RawMessage(`{` + many.String() + `"desktop_id":"a"}`))
	require.Less(t, len(err.Error()), 10_000)
}

// Foreign text in an error must not contain characters that act on a terminal or a log.
func TestErrorTextsArePrintable(t *testing.T) {
	t.Parallel()
	for name, nasty := range map[string]string{
		"escape": "\x1b[31m", "bell": "\x07", "DEL": "\x7f", "C1 CSI": "\u009b31m", "next line": "\u0085", "line separator": "\u2028",
		"paragraph separator": "\u2029", "right to left": "\u202e", "isolate": "\u2066", "zero width": "\u200b", "BOM": "\ufeff",
		"no-break space": "\u00a0", "carriage return": "\r", "tag": "\U000e0041", "private use": "\ue000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := string(mustJSON("a" + nasty + "b"))
			raw := `"a` + nasty + `b"`
			for _, text := range []string{s, raw} {
				for _, data := range []string{
					`{"desktop_ids":[` + text + `],` + text + `:1,"image_id":` + text + `,"image_type":7,"encrypt_type":` + text + `,"delay_time":` + text + `}`,
					`{"image_name":` + text + `,"image_description":` + text + `,"image_tags":` + text + `,"execute_sysprep":` + text + `,"max_ram":` + text + `}`,
					text, `{` + text, `{"a":1}` + text, nasty,
				} {
					for _, typ := range []string{events.TypeRebuild, events.TypeDesktopToImage} {
						_, err := decodeCommand(typ, json.RawMessage(data))
						requirePrintable(t, err)
					}
				}
			}
		})
	}
}
