package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// dataOf is the data of the envelope that --dry-run prints.
func dataOf(t *testing.T, stdin string, args ...string) map[string]any {
	t.Helper()
	r := program(t, stdin, append([]string{"send"}, append(args, "--dry-run")...)...)
	require.Equal(t, exitDone, r.code, r.errOut)
	var e events.Envelope
	require.NoError(t, json.Unmarshal([]byte(r.out), &e), r.out)
	require.Equal(t, events.CommandType(args[0]), e.Type)
	require.Equal(t, sendSource, e.Source)
	require.NotEmpty(t, e.ID)
	require.Equal(t, e.ID, e.Correlation)
	var data map[string]any
	require.NoError(t, json.Unmarshal(e.Data, &data))
	return data
}

func TestEveryFieldHasAFlag(t *testing.T) {
	t.Parallel()
	for _, s := range sendables {
		var want, got []string
		empty, _ := s.Decode(json.RawMessage(`{}`))
		for _, f := range reflect.VisibleFields(reflect.TypeOf(empty)) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				want = append(want, name)
			}
		}
		for _, f := range s.Fields {
			got = append(got, f.Name)
		}
		require.ElementsMatch(t, want, got, s.Function)
	}
}

func TestFlagsBecomeData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := filepath.Join(dir, "fleet.txt")
	require.NoError(t, os.WriteFile(list, []byte("\ufeff# the fleet\r\nd1\r\n\r\n  d2 # the second\r\n"), 0o600))
	object := filepath.Join(dir, "then.json")
	require.NoError(t, os.WriteFile(object, []byte(`{"desktop_ids": ["d1"], "delay_time": 5, "message": "bye"}`), 0o600))
	data := filepath.Join(dir, "data.json")
	require.NoError(t, os.WriteFile(data, []byte(`{"desktop_id": "from-file"}`), 0o600))

	for name, test := range map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"checkimages":           {"", []string{"checkimages", "--desktop-ids", "a,b", "--desktop-ids", "c", "--project-id", "p"}, `{"project_id":"p","desktop_ids":["a","b","c"]}`},
		"ids of a file":         {"", []string{"checkimages", "--desktop-ids-file", list}, `{"desktop_ids":["d1","d2"]}`},
		"ids of both":           {"", []string{"checkimages", "--desktop-ids", "a, b", "--desktop-ids-file", list}, `{"desktop_ids":["a","b","d1","d2"]}`},
		"ids of standard input": {"x\ny\n", []string{"checkimages", "--desktop-ids-file", "-"}, `{"desktop_ids":["x","y"]}`},
		"ids by line":           {"", []string{"checkimages", "--desktop-ids", "a\nb,c\r\n\n"}, `{"desktop_ids":["a","b","c"]}`},
		"ids of CSV":            {"\ufeffname;desktop_id\r\nx;a\r\ny;b\r\n", []string{"checkimages", "--desktop-ids-file", "-"}, `{"desktop_ids":["a","b"]}`},
		"ids in UTF-16":         {utf16Of("a\r\nb\r\n"), []string{"checkimages", "--desktop-ids-file", "-"}, `{"desktop_ids":["a","b"]}`},
		"data with a mark":      {"\ufeff" + `{"desktop_id":"c"}`, []string{"getdesktop", "-f", "-"}, `{"desktop_id":"c"}`},
		"data in UTF-16":        {utf16Of(`{"desktop_id":"c"}`), []string{"getdesktop", "-f", "-"}, `{"desktop_id":"c"}`},
		"inline with a mark":    {"", []string{"getdesktop", "--data", "\ufeff" + `{"desktop_id":"c"}`}, `{"desktop_id":"c"}`},
		"then, JSON in UTF-16": {utf16Of(`{"desktop_ids":["d1"]}`), []string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", "-"},
			`{"desktop_id":"a","image_name":"n","execute_sysprep":true,"then":{"rebuild":{"desktop_ids":["d1"]}}}`},
		"then as CSV": {"desktop_id,name\nd1,x\n", []string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", "-"},
			`{"desktop_id":"a","image_name":"n","execute_sysprep":true,"then":{"rebuild":{"desktop_ids":["d1"]}}}`},
		"getdesktop":             {"", []string{"getdesktop", "--desktop-id", "a"}, `{"desktop_id":"a"}`},
		"data":                   {"", []string{"getdesktop", "--data", `{"desktop_id":"b"}`}, `{"desktop_id":"b"}`},
		"data of a file":         {"", []string{"getdesktop", "-f", data}, `{"desktop_id":"from-file"}`},
		"data of standard input": {`{"desktop_id":"c"}`, []string{"getdesktop", "-f", "-"}, `{"desktop_id":"c"}`},
		"rebuild, least":         {"", []string{"rebuild", "--desktop-ids", "a", "--image-type", "gold", "--image-id", "i"}, `{"desktop_ids":["a"],"image_type":"gold","image_id":"i"}`},
		"rebuild, every flag": {"", []string{
			"rebuild", "--project-id", "p", "--desktop-ids", "a", "--image-type", "private", "--image-id", "i", "--os-type", "Windows", "--delay-time", "15",
			"--message", "save, please", "--order-id", "o", "--enterprise-project-id", "0", "--encrypt-type", "ENCRYPTED", "--kms-id", "k",
			"--handle-type", "ONLY_FOR_EXPAND", "--rebuild-current", "--allow-os-change", "--when-busy", "fail", "--override-rollout",
		}, `{"project_id":"p","desktop_ids":["a"],"image_type":"private","image_id":"i","os_type":"Windows","delay_time":15,"message":"save, please","order_id":"o",
			"enterprise_project_id":"0","encrypt_type":"ENCRYPTED","kms_id":"k","handle_type":"ONLY_FOR_EXPAND","rebuild_current":true,"allow_os_change":true,
			"when_busy":"fail","override_rollout":true}`},
		"unknown words, unchecked": {"", []string{"rebuild", "--desktop-ids", "a", "--image-type", "shared", "--image-id", "i", "--os-type", "BSD", "--image-type-unchecked"},
			`{"desktop_ids":["a"],"image_type":"shared","image_id":"i","os_type":"BSD"}`},
		"every known word": {"", []string{"rebuild", "--desktop-ids", "a", "--image-type", "market", "--image-id", "i", "--os-type", "Other"},
			`{"desktop_ids":["a"],"image_type":"market","image_id":"i","os_type":"Other"}`},
		"desktoptoimage, least": {"", []string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep"}, `{"desktop_id":"a","image_name":"n","execute_sysprep":true}`},
		"desktoptoimage, every flag": {"", []string{
			"desktoptoimage", "--project-id", "p", "--desktop-id", "a", "--image-name", "n 1", "--image-description", "d", "--execute-sysprep=false", "--is-clear-data",
			"--image-tag", "os=win", "--image-tag", "k=a=b,c", "--enterprise-project-id", "0", "--max-ram", "8192", "--min-ram", "4096", "--then-rebuild", list,
		}, `{"project_id":"p","desktop_id":"a","image_name":"n 1","image_description":"d","execute_sysprep":false,"is_clear_data":true,
			"image_tags":[{"key":"os","value":"win"},{"key":"k","value":"a=b,c"}],"enterprise_project_id":"0","max_ram":"8192","min_ram":"4096",
			"then":{"rebuild":{"desktop_ids":["d1","d2"]}}}`},
		"then as JSON": {"", []string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", object},
			`{"desktop_id":"a","image_name":"n","execute_sysprep":true,"then":{"rebuild":{"desktop_ids":["d1"],"delay_time":5,"message":"bye"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(dataOf(t, test.stdin, test.args...))
			require.NoError(t, err)
			require.JSONEq(t, test.want, string(got))
		})
	}
}

func TestInvalidCommandsAreNotSent(t *testing.T) {
	t.Parallel()
	list := func(content string) string {
		file := filepath.Join(t.TempDir(), "ids")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		return file
	}
	many := strings.TrimSuffix(strings.Repeat("x,", events.MaxDesktops+1), ",")
	for name, test := range map[string]struct {
		args []string
		want []string // field, rule, value
	}{
		"nothing given":           {[]string{"getdesktop"}, []string{"--desktop-id: must be given"}},
		"bad id":                  {[]string{"getdesktop", "--desktop-id", "../etc"}, []string{"--desktop-id: must be", "letters, digits", "../etc"}},
		"empty id":                {[]string{"checkimages", "--desktop-ids", "a,,b"}, []string{"--desktop-ids[1]: "}},
		"id twice":                {[]string{"checkimages", "--desktop-ids", "a,b,a"}, []string{"--desktop-ids[2]: ", "twice", "a"}},
		"no ids in the file":      {[]string{"checkimages", "--desktop-ids-file", list("# none\n")}, []string{"--desktop-ids-file: /", "ids names no desktop\n"}},
		"an empty fleet":          {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", list("")}, []string{"--then-rebuild: /", "ids names no desktop\n"}},
		"an empty file of data":   {[]string{"getdesktop", "-f", list(" \n")}, []string{"-f: /", "ids is empty\n"}},
		"a file of two bad ids":   {[]string{"checkimages", "--desktop-ids-file", list("a b\nx\nc d\n")}, []string{"--desktop-ids-file: /", "ids: line 1: \"a b\"", "1 more line is wrong\n"}},
		"CSV without its column":  {[]string{"checkimages", "--desktop-ids-file", list("id,name\na,b\n")}, []string{"line 1", "column desktop_id"}},
		"a file with ids twice":   {[]string{"checkimages", "--desktop-ids-file", list("a\nb\nA\nB\n")}, []string{"ids: desktops are in the file twice", "2: A, B\n"}},
		"a fleet of bad ids":      {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", list("b\n\"c\"\n")}, []string{"--then-rebuild: /", "ids: line 2: "}},
		"data in UTF-32":          {[]string{"getdesktop", "-f", list("\xff\xfe\x00\x00{\x00\x00\x00")}, []string{"UTF-32"}},
		"UTF-16 without a mark":   {[]string{"getdesktop", "-f", list("{\x00}\x00")}, []string{"UTF-16", "save it as UTF-8"}},
		"too many ids":            {[]string{"checkimages", "--desktop-ids", many}, []string{"--desktop-ids: ", "5000", "5001"}},
		"no file":                 {[]string{"checkimages", "--desktop-ids-file", "/nonexistent"}, []string{"--desktop-ids-file", "no such file"}},
		"every fault at once":     {[]string{"rebuild", "--delay-time", "-1", "--encrypt-type", "SOME"}, []string{"--desktop-ids: ", "--image-id: ", "--image-type: ", "--delay-time: ", "-1", "--encrypt-type: ", "SOME"}},
		"an unknown image type":   {[]string{"rebuild", "--desktop-ids", "a", "--image-id", "i", "--image-type", "golden"}, []string{"--image-type: must be one of gold, private, market", `"golden"`, "--image-type-unchecked"}},
		"in capital letters":      {[]string{"rebuild", "--desktop-ids", "a", "--image-id", "i", "--image-type", "Private"}, []string{"--image-type: ", `"Private"`}},
		"unknown words in data":   {[]string{"rebuild", "--data", `{"desktop_ids":["a"],"image_id":"i","image_type":" gold","os_type":"Win"}`}, []string{"  image_type: ", `" gold"`, "  os_type: ", "Windows, Linux, Other", `"Win"`}},
		"unknown words in a file": {[]string{"rebuild", "-f", list(`{"desktop_ids":["a"],"image_id":"i","image_type":"gold","os_type":"windows"}`)}, []string{"os_type", `"windows"`}},
		"unknown words in then":   {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", list(`{"desktop_ids":["b"],"os_type":"Win"}`)}, []string{"--then-rebuild: os_type: ", "Windows, Linux, Other", `"Win"`}},
		"delay that is no number": {[]string{"rebuild", "--delay-time", "soon"}, []string{"--delay-time", "whole number: minutes", "soon"}},
		"sysprep not given":       {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n"}, []string{"--execute-sysprep: must be given"}},
		"captured and rebuilt":    {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", list("a\n")}, []string{"--then-rebuild: desktop_ids[0]: ", "captured desktop"}},
		"then that is no JSON":    {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", list("{")}, []string{"--then-rebuild", "JSON"}},
		"unknown field in then":   {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--then-rebuild", list(`{"desktop_ids":["b"],"image_id":"i"}`)}, []string{"--then-rebuild: image_id: is not a field here; the fields are desktop_ids,", "enterprise_project_id"}},
		"a tag twice":             {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--image-tag", "os=a", "--image-tag", "os=b"}, []string{"--image-tag[1].key: ", `"os"`, "once"}},
		"a tag twice in a file":   {[]string{"desktoptoimage", "-f", list(`{"desktop_id":"a","image_name":"n","execute_sysprep":true,"image_tags":[{"key":"os"},{"key":"os"}]}`)}, []string{"image_tags[1].key", `"os"`}},
		"a tag without =":         {[]string{"desktoptoimage", "--image-tag", "os"}, []string{"--image-tag", "key=value", "os"}},
		"data that is no JSON":    {[]string{"getdesktop", "--data", "{"}, []string{"JSON"}},
		"data with more":          {[]string{"getdesktop", "--data", `{"desktop_id":"a"} {}`}, []string{"JSON"}},
		"unknown field":           {[]string{"getdesktop", "--data", `{"desktop_id":"a","desktopid":"b"}`}, []string{"desktopid", "desktop_id"}},
		"two ways":                {[]string{"getdesktop", "--desktop-id", "a", "--data", "{}"}, []string{"by --data, or by -f"}},
		"control characters":      {[]string{"getdesktop", "--desktop-id", "a\x1b[2J"}, []string{"--desktop-id: "}},
		"too old":                 {[]string{"getdesktop", "--desktop-id", "a", "--not-after", "2020-01-01T00:00:00Z"}, []string{"--not-after", "is in the past"}},
		"no time":                 {[]string{"getdesktop", "--desktop-id", "a", "--not-after", "soon"}, []string{"--not-after", "soon"}},
		"id too long":             {[]string{"getdesktop", "--desktop-id", "a", "--id", strings.Repeat("x", 2000)}, []string{"--id: may have at most 1024"}},
		"an odd correlation":      {[]string{"getdesktop", "--desktop-id", "a", "--correlation", "a\x1b"}, []string{"--correlation: may not have control characters"}},
		"a flag for another":      {[]string{"rebuild", "--desktop-ids", "a", "--image-id", "i", "--image-type", "gold", "--encrypt-type", "ENCRYPTED"}, []string{"--kms-id: must be given with --encrypt-type ENCRYPTED"}},
		"a list of words":         {[]string{"listdesktops", "--fields", "bogus"}, []string{"--fields[0]: must be one of computer_name, "}},
		"text that is not UTF-8":  {[]string{"rebuild", "--message", "a\xffb"}, []string{"--message: must be UTF-8"}},
		"many faults":             {[]string{"checkimages", "--desktop-ids", strings.Repeat("a b,", 29) + "c"}, []string{"--desktop-ids[19]: ", "\n  and 9 more faults\n"}},
		"too large":               {[]string{"desktoptoimage", "--desktop-id", "a", "--image-name", "n", "--execute-sysprep", "--data", strings.Repeat(" ", events.MaxMessage) + "{}"}, []string{"by --data, or by -f"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := program(t, "", append([]string{"send"}, append(test.args, "--dry-run")...)...)
			require.Equal(t, exitUsage, r.code, r.out)
			require.Empty(t, r.out)
			require.NotContains(t, r.errOut, "\x1b")
			for _, want := range test.want {
				require.Contains(t, r.errOut, want)
			}
		})
	}
}

// utf16Of is text as PowerShell writes it to a file.
func utf16Of(text string) string {
	b := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		b = append(b, byte(unit), byte(unit>>8))
	}
	return string(b)
}

func TestMessageOverTheLimitIsNotSent(t *testing.T) {
	t.Parallel()
	ids := make([]string, 2000)
	for i := range ids {
		ids[i] = strings.Repeat("x", 140) + string(rune('a'+i%26)) + strings.Repeat("y", i/26+1)
	}
	file := filepath.Join(t.TempDir(), "ids")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(ids, "\n")), 0o600))
	r := program(t, "", "send", "checkimages", "--desktop-ids-file", file, "--dry-run")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "262144")
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	r := program(t, "", "send", "getdesktop", "--desktop-id", "a", "--id", "my-id", "--correlation", "my-chain", "--not-after", "2h", "--dry-run")
	require.Equal(t, exitDone, r.code, r.errOut)
	var e events.Envelope
	require.NoError(t, json.Unmarshal([]byte(r.out), &e))
	require.Equal(t, "my-id", e.ID)
	require.Equal(t, "my-chain", e.Correlation)
	require.InDelta(t, 2*3600, e.Expiry.Sub(e.Time).Seconds(), 1)
	lower := program(t, "", "send", "getdesktop", "--desktop-id", "a", "--not-after", "2100-01-02t03:04:05z", "--dry-run")
	require.Contains(t, lower.out, `"expirytime":"2100-01-02T03:04:05Z"`)
	require.Equal(t, "my-chain --command my-id", waitArguments(e, false))
	require.Equal(t, "my-chain --command my-id --digest "+events.Digest(events.GetDesktop{DesktopID: "a"}), waitArguments(e, true))
}
