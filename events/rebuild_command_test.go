package events_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// Optional fields and their faults.
func TestRebuild(t *testing.T) {
	t.Parallel()
	const idRule = " letters, digits, - or _, beginning with a letter or digit; got "
	delay := func(got string) string { return "delay_time: must be a whole number from 0 to 2147483647; got " + got }
	text := func(n int) string { return `"` + strings.Repeat("保", n) + `"` }
	for name, c := range map[string]struct{ json, want string }{
		"nothing more":            {``, ""},
		"all null":                {`"os_type":null,"delay_time":null,"message":null,"order_id":null,"enterprise_project_id":null,"encrypt_type":null,"kms_id":null,"handle_type":null,"rebuild_current":null,"project_id":null`, ""},
		"all empty":               {`"os_type":"","message":"","order_id":"","enterprise_project_id":"","encrypt_type":"","kms_id":"","handle_type":""`, ""},
		"os_type at its limit":    {`"os_type":` + text(255), ""},
		"os_type over it":         {`"os_type":` + text(256), "os_type: must have at most 255 characters; got 256 characters"},
		"no delay":                {`"delay_time":0`, ""},
		"delay at its limit":      {`"delay_time":2147483647`, ""},
		"delay over it":           {`"delay_time":2147483648`, delay("2147483648")},
		"delay far over it":       {`"delay_time":99999999999999999999999`, delay("99999999999999999999999")},
		"delay negative":          {`"delay_time":-1`, delay("-1")},
		"delay with a fraction":   {`"delay_time":15.5`, delay("15.5")},
		"delay with .0":           {`"delay_time":15.0`, delay("15.0")},
		"delay with an exponent":  {`"delay_time":1e1`, delay("1e1")},
		"delay as a string":       {`"delay_time":"15"`, delay(`"15"`)},
		"delay as a Boolean":      {`"delay_time":true`, delay("true")},
		"delay as a list":         {`"delay_time":[15]`, delay("[15]")},
		"delay of many digits":    {`"delay_time":` + strings.Repeat("1", 1000), delay(strings.Repeat("1", 60) + "…")},
		"message at its limit":    {`"message":` + text(400), ""},
		"message over it":         {`"message":` + text(401), "message: must have at most 400 characters; got 401 characters"},
		"message of pairs":        {`"message":"` + strings.Repeat(`\ud83d\ude00`, 400) + `"`, ""},
		"message as a number":     {`"message":5`, "message: must be a string; got 5"},
		"order at its limit":      {`"order_id":"` + strings.Repeat("o", 255) + `"`, ""},
		"order with a slash":      {`"order_id":"CS/1"`, "order_id: must be 1 to 255" + idRule + `"CS/1"`},
		"enterprise 36":           {`"enterprise_project_id":"` + captured + `"`, ""},
		"enterprise 37":           {`"enterprise_project_id":"` + captured + `0"`, "enterprise_project_id: must be 1 to 36" + idRule + `"` + captured + `0"`},
		"enterprise 0":            {`"enterprise_project_id":"0"`, ""},
		"encrypt KEEP":            {`"encrypt_type":"KEEP"`, ""},
		"encrypt UNENCRYPTED":     {`"encrypt_type":"UNENCRYPTED"`, ""},
		"encrypt ENCRYPTED":       {`"encrypt_type":"ENCRYPTED","kms_id":"k"`, ""},
		"encrypt without key":     {`"encrypt_type":"ENCRYPTED"`, "kms_id: must be given with encrypt_type ENCRYPTED"},
		"encrypt with empty key":  {`"encrypt_type":"ENCRYPTED","kms_id":""`, "kms_id: must be given with encrypt_type ENCRYPTED"},
		"encrypt in lower case":   {`"encrypt_type":"keep"`, `encrypt_type: must be one of KEEP, UNENCRYPTED, ENCRYPTED; got "keep"`},
		"encrypt as a number":     {`"encrypt_type":1`, "encrypt_type: must be one of KEEP, UNENCRYPTED, ENCRYPTED; got 1"},
		"encrypt, a long text":    {`"encrypt_type":"` + strings.Repeat("E", 100_000) + `"`, `encrypt_type: must be one of KEEP, UNENCRYPTED, ENCRYPTED; got "` + strings.Repeat("E", 59) + "…"},
		"key with a dot":          {`"kms_id":"k.1"`, "kms_id: must be 1 to 255" + idRule + `"k.1"`},
		"handle ONLY_FOR_EXPAND":  {`"handle_type":"ONLY_FOR_EXPAND"`, ""},
		"handle IDLE":             {`"handle_type":"FOR_EXPAND_AND_IDLE"`, ""},
		"handle ALL":              {`"handle_type":"FOR_EXPAND_AND_ALL"`, ""},
		"handle other":            {`"handle_type":"x"`, `handle_type: must be one of ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE, FOR_EXPAND_AND_ALL; got "x"`},
		"current":                 {`"rebuild_current":true`, ""},
		"current as a string":     {`"rebuild_current":"true"`, `rebuild_current: must be true or false; got "true"`},
		"os change":               {`"allow_os_change":true`, ""},
		"os change null":          {`"allow_os_change":null`, ""},
		"os change as a string":   {`"allow_os_change":"true"`, `allow_os_change: must be true or false; got "true"`},
		"busy fails":              {`"when_busy":"fail"`, ""},
		"busy waits":              {`"when_busy":"wait"`, ""},
		"busy other":              {`"when_busy":"skip"`, `when_busy: must be one of wait, fail; got "skip"`},
		"override":                {`"override_rollout":true`, ""},
		"override as a string":    {`"override_rollout":"true"`, `override_rollout: must be true or false; got "true"`},
		"then is not for rebuild": {`"then":{}`, "then: is not a field here; the fields are project_id, desktop_ids, image_type, image_id, os_type, delay_time, message, order_id, enterprise_project_id, encrypt_type, kms_id, handle_type, rebuild_current, allow_os_change, when_busy, override_rollout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := `{"desktop_ids":["a"],"image_type":"private","image_id":"i"`
			if c.json != "" {
				data += "," + c.json
			}
			require.Equal(t, c.want, strings.Join(faultsOf(t, events.TypeRebuild, data+`}`), "; "))
		})
	}
}

func TestRebuildNeedsAnImage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ json, want string }{
		"none":          {``, "image_type: must be given; image_id: must be given"},
		"null":          {`,"image_type":null,"image_id":null`, "image_type: must be given; image_id: must be given"},
		"empty":         {`,"image_type":"","image_id":""`, `image_type: must have 1 to 255 characters; got ""; image_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got ""`},
		"wrong types":   {`,"image_type":1,"image_id":2`, "image_type: must be a string; got 1; image_id: must be a string; got 2"},
		"other type":    {`,"image_type":"shared","image_id":"i"`, ""},
		"type too long": {`,"image_type":"` + strings.Repeat("t", 256) + `","image_id":"i"`, "image_type: must have at most 255 characters; got 256 characters"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, strings.Join(faultsOf(t, events.TypeRebuild, `{"desktop_ids":["a"]`+c.json+`}`), "; "))
		})
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 99, 100, 101, 200, 201, 5000} {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprintf("d-%d", i)
		}
		whole := events.Rebuild{ProjectID: "p", DesktopIDs: ids, ImageID: "i", ImageType: "gold", RebuildOptions: events.RebuildOptions{Message: "m"}}
		var joined []string
		for i, part := range whole.Parts() {
			require.Equal(t, min(events.MaxRebuildCall, n-i*events.MaxRebuildCall), len(part))
			joined = append(joined, part...)
			only := whole.Only(part)
			require.Equal(t, part, only.DesktopIDs)
			only.DesktopIDs = whole.DesktopIDs
			require.Equal(t, whole, only)
		}
		require.Equal(t, ids, joined)
	}
	require.Empty(t, events.Rebuild{}.Parts())
}

// The rebuild that a job.completed implies is a valid command.
func TestWithImage(t *testing.T) {
	t.Parallel()
	c, err := events.DecodeDesktopToImage(json.RawMessage(`{"image_name":"n","desktop_id":"a","execute_sysprep":true,
		"then":{"rebuild":{"desktop_ids":["b","c"],"delay_time":5,"encrypt_type":"ENCRYPTED","kms_id":"k","rebuild_current":true}}}`))
	require.NoError(t, err)
	want := c.Then.Rebuild.WithImage(newImage, "private")
	got, err := events.DecodeRebuild(mustJSON(want))
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, events.Rebuild{
		DesktopIDs: []string{"b", "c"}, ImageID: newImage, ImageType: "private",
		RebuildOptions: events.RebuildOptions{DelayTime: 5, EncryptType: "ENCRYPTED", KMSID: "k", RebuildCurrent: true},
	}, got)
}
