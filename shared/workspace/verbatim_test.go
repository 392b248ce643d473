package workspace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// wholeDesktop has a field of each shape, with every character that needs care.
const wholeDesktop = `{"desktop":{"desktop_id":"d1","computer_name":"PERSONAL","addresses":{"n1":[{"addr":"PERSONAL","version":"4",` +
	`"OS-EXT-IPS-MAC:mac_addr":"fa:16","OS-EXT-IPS:type":"fixed","new":[1,-2.5e+3,0.1,{"a":null,"b":[]}]}],"n2":[]},` +
	`"ip_addresses":["PERSONAL"],"user_list":[],"sid":"PERSONAL","tags":[{"key":"PERSONAL","value":"v"}],` +
	`"metadata":{"metering.image_id":"i1","os_type":"Windows"},"flavor":{"id":"f","links":[{"rel":"r","hrel":"h"}]},` +
	`"status":"ACTIVE","task_status":"","process":50,"is_freeze":false,"isolated":true,"created":"2022-01-21T06:57:47Z",` +
	`"root_volume":{"type":"SSD","size":80,"create_time":"2022-03-28T00:00:00Z"},"data_volumes":[{"size":0},{"size":-1}],` +
	`"ou_name":"","os_version":"5 < 6 & \"7\" > 4 ü \u00fc \/ ` + "\u2028" + `","next_year":{"deep":[[{"x":"PERSONAL"}]]},"flag":true,"none":null}}`

// changed is wholeDesktop with a part replaced.
func changed(from, to string) string {
	if !strings.Contains(wholeDesktop, from) {
		panic(from)
	}
	return strings.Replace(wholeDesktop, from, to, 1)
}

// copied are answers that are passed through.
func copied() map[string]string {
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, []byte(wholeDesktop), "\t", "\r\n "); err != nil {
		panic(err)
	}
	return map[string]string{
		"compact":                   wholeDesktop,
		"with white space":          spaced.String(),
		"space around it":           " " + wholeDesktop + "\n",
		"a time of milliseconds":    changed(`06:57:47Z`, `06:57:47.000Z`),
		"a time with an offset":     changed(`06:57:47Z`, `06:57:47+08:00`),
		"a time without a zone":     changed(`2022-01-21T06:57:47Z`, `2022-01-21 06:57:47`),
		"an empty object":           changed(`"flavor":{"id":"f","links":[{"rel":"r","hrel":"h"}]}`, `"flavor":{}`),
		"no metadata":               changed(`{"metering.image_id":"i1","os_type":"Windows"}`, `{ }`),
		"empty lists":               changed(`[{"size":0},{"size":-1}]`, `[ ]`),
		"half of a surrogate pair":  changed(`\u00fc`, `\ud800`),
		"an escaped control letter": changed(`\u00fc`, `\u0000\n`),
	}
}

// requireSameDesktop requires that an answer that is passed through means the same as if it had been decoded and encoded:
// only fields that are empty may stand in it besides.
func requireSameDesktop(t *testing.T, body []byte) (passed bool) {
	t.Helper()
	got, ok := copyDesktop(body)
	if !ok {
		return false
	}
	d, err := decodeDesktop(body, got.DesktopID)
	require.NoError(t, err, "%s", body)
	want, err := Describe(d)
	require.NoError(t, err)
	require.Equal(t, want.DesktopID, got.DesktopID)
	for _, pair := range [][2]json.RawMessage{{want.JSON, got.JSON}, {want.Impersonal, got.Impersonal}} {
		var a, b any
		require.NoError(t, json.Unmarshal(pair[0], &a))
		require.NoError(t, json.Unmarshal(pair[1], &b), "%s", pair[1])
		requireSame(t, a, b, "desktop")
		written, err := json.Marshal(pair[1])
		require.NoError(t, err)
		require.Equal(t, string(written), string(pair[1]), "it is compact, and escaped as encoding/json escapes")
		var back Desktop
		require.NoError(t, json.Unmarshal(pair[1], &back))
		again, err := Describe(back)
		require.NoError(t, err)
		require.JSONEq(t, string(pair[0]), string(again.JSON), "every reader reads the same")
	}
	return true
}

func requireSame(t *testing.T, want, got any, at string) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		have, is := got.(map[string]any)
		require.True(t, is, at)
		for name, v := range want {
			require.Contains(t, have, name, at)
			requireSame(t, v, have[name], at+"."+name)
		}
		for name, v := range have {
			if _, also := want[name]; !also {
				require.Equal(t, "", v, "%s.%s", at, name)
			}
		}
	case []any:
		have, is := got.([]any)
		require.True(t, is, at)
		require.Len(t, have, len(want), at)
		for i := range want {
			requireSame(t, want[i], have[i], fmt.Sprint(at, i))
		}
	default:
		require.Equal(t, want, got, at)
	}
}

func TestADesktopIsPassedThrough(t *testing.T) {
	t.Parallel()
	for name, body := range copied() {
		require.True(t, requireSameDesktop(t, []byte(body)), name)
	}
	d, _ := copyDesktop([]byte(wholeDesktop))
	require.NotContains(t, string(d.Impersonal), "PERSONAL")
	require.Contains(t, string(d.Impersonal), `"metering.image_id":"i1"`)
	require.Contains(t, string(d.JSON), `"next_year":{"deep":[[{"x":"PERSONAL"}]]}`)
}

// What would have to change, or what readers could take for something else, is decoded.
func TestWhatIsNotPassedThrough(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"the vendor's sample":        vendor(t, "get-desktop"),
		"a second spelling":          changed(`"next_year"`, `"Sid"`),
		"a name twice":               changed(`"next_year"`, `"sid"`),
		"unknown names, twice":       changed(`"flag"`, `"NEXT_year"`),
		"twice in a map":             changed(`"os_type":`, `"Metering.image_ID":`),
		"twice far below":            changed(`{"a":null,"b":[]}`, `{"a":null,"A":[]}`),
		"another spelling alone":     changed(`"sid"`, `"SID"`),
		"the other name of a field":  changed(`"hrel"`, `"href"`),
		"an escaped name":            changed(`"next_year"`, `"next\u005fyear"`),
		"a name that is not ASCII":   changed(`"next_year"`, "\"ſid\""),
		"a number for a text":        changed(`"i1"`, `1`),
		"a text for a number":        changed(`"process":50`, `"process":"50"`),
		"a fraction":                 changed(`"process":50`, `"process":50.0`),
		"a power":                    changed(`"process":50`, `"process":5e1`),
		"a great number":             changed(`"process":50`, `"process":1234567890123456789`),
		"a text for a Boolean":       changed(`"is_freeze":false`, `"is_freeze":"false"`),
		"null":                       changed(`"process":50`, `"process":null`),
		"a null element":             changed(`{"size":0}`, `null`),
		"one for a list":             changed(`["PERSONAL"]`, `"PERSONAL"`),
		"a list for one":             changed(`{"type":"SSD","size":80,"create_time":"2022-03-28T00:00:00Z"}`, `[{}]`),
		"addresses as a list":        changed(`"addresses":{`, `"addresses":[],"others":{`),
		"an unknown time":            changed(`2022-01-21T06:57:47Z`, `yesterday`),
		"no status":                  changed(`"status":"ACTIVE",`, ``),
		"no task_status":             changed(`"task_status":"",`, ``),
		"no id":                      changed(`"desktop_id":"d1",`, ``),
		"an empty id":                changed(`"d1"`, `""`),
		"an error beside it":         changed(`{"desktop":`, `{"error_code":"WKS.1","desktop":`),
		"an error after it":          wholeDesktop[:len(wholeDesktop)-1] + `,"error_code":"WKS.1"}`,
		"more after it":              wholeDesktop + `{}`,
		"cut off":                    wholeDesktop[:len(wholeDesktop)-2],
		"invalid UTF-8":              changed(`ü`, "\xff"),
		"invalid UTF-8 in a name":    changed(`next_year`, "\xff"),
		"a control letter":           changed(`ü`, "\n"),
		"an invalid escape":          changed(`\/`, `\x`),
		"a comma too many":           changed(`"none":null`, `"none":null,`),
		"a comma too many in a list": changed(`{"size":-1}`, `{"size":-1},`),
		"a comma too many in a map":  changed(`"os_type":"Windows"`, `"os_type":"Windows",`),
		"no comma":                   changed(`,"flag"`, `"flag"`),
		"a leading zero":             changed(`"size":80`, `"size":080`),
		"no digits":                  changed(`-2.5e+3`, `-2.e+3`),
		"no exponent":                changed(`-2.5e+3`, `-2.5e+`),
		"a misspelt word":            changed(`"flag":true`, `"flag":trux`),
		"too deep":                   changed(`"flag":true`, `"flag":`+strings.Repeat("[", 99)+strings.Repeat("]", 99)),
		"nothing":                    ``,
	} {
		require.False(t, requireSameDesktop(t, []byte(body)), name)
	}
}

func TestImagesArePassedThrough(t *testing.T) {
	t.Parallel()
	const two = `{"image_infos":[{"desktop_id":"d1","image_id":"i1","image_name":"a & b","new":[1]},{"desktop_id":"d2","image_id":""}]}`
	var spaced bytes.Buffer
	require.NoError(t, json.Indent(&spaced, []byte(two), "", "\t"))
	for _, body := range []string{two, spaced.String(), `{"image_infos":[]}`} {
		got, ok := copyImages([]byte(body))
		require.True(t, ok, body)
		requireSameImages(t, []byte(body), got)
	}
	for name, body := range map[string]string{
		"another case":     strings.Replace(two, "image_id", "Image_ID", 1),
		"a number":         strings.Replace(two, `"i1"`, `1`, 1),
		"null":             strings.Replace(two, `"i1"`, `null`, 1),
		"no desktop":       strings.Replace(two, `"desktop_id":"d1",`, ``, 1),
		"more beside it":   strings.Replace(two, `{"image_infos"`, `{"error_code":"x","image_infos"`, 1),
		"more after it":    two + `1`,
		"no comma":         strings.Replace(two, `},{`, `}{`, 1),
		"a comma too many": strings.Replace(two, `}]`, `},]`, 1),
		"null for a list":  `{"image_infos":null}`,
		"a null element":   `{"image_infos":[null]}`,
		"cut off":          two[:len(two)-1],
		"nothing":          ``,
	} {
		_, ok := copyImages([]byte(body))
		require.False(t, ok, name)
	}
}

func requireSameImages(t *testing.T, body []byte, got []ImageDescription) {
	t.Helper()
	infos, err := decodeCheckImages(body)
	require.NoError(t, err)
	require.Len(t, got, len(infos))
	for i, info := range infos {
		require.Equal(t, info.DesktopID, got[i].DesktopID)
		require.Equal(t, info.ImageID, got[i].ImageID)
		want, err := encodeObject(info)
		require.NoError(t, err)
		var a, b any
		require.NoError(t, json.Unmarshal(want, &a))
		require.NoError(t, json.Unmarshal(got[i].JSON, &b))
		requireSame(t, a, b, "image")
		written, err := json.Marshal(got[i].JSON)
		require.NoError(t, err)
		require.Equal(t, string(written), string(got[i].JSON))
	}
}

func BenchmarkDescribe(b *testing.B) {
	b.Run("passed through", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := copyDesktop([]byte(wholeDesktop)); !ok {
				b.Fatal("decoded")
			}
		}
	})
	b.Run("decoded", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d, err := decodeDesktop([]byte(wholeDesktop), "d1")
			require.NoError(b, err)
			_, err = Describe(d)
			require.NoError(b, err)
		}
	})
}
