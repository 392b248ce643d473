package events_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

const inAlphabet = "may have CJK (U+4E00 to U+9FA5), ASCII letters, digits, white space, - _ and . only"

func TestImageName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ json, want string }{
		"one character":       {`"a"`, ""},
		"all kinds":           {`"Win 10_office-2026.02"`, ""},
		"CJK":                 {`"一龥办公"`, ""},
		"128 ASCII":           {`"` + strings.Repeat("a", 128) + `"`, ""},
		"128 CJK":             {`"` + strings.Repeat("办", 128) + `"`, ""},
		"tab within":          {`"a\tb"`, ""},
		"129 ASCII":           {`"` + strings.Repeat("a", 129) + `"`, "must have at most 128 characters; got 129 characters"},
		"129 CJK":             {`"` + strings.Repeat("办", 129) + `"`, "must have at most 128 characters; got 129 characters"},
		"empty":               {`""`, `must have 1 to 128 characters; got ""`},
		"null":                {`null`, "must be given"},
		"number":              {`10`, "must be a string; got 10"},
		"behind CJK":          {`"龦"`, inAlphabet + "; got 龦"},
		"before CJK":          {`"䷿"`, inAlphabet + "; got ䷿"},
		"CJK extension":       {`"𠀀"`, inAlphabet + "; got 𠀀"},
		"comma":               {`"a,b"`, inAlphabet + "; got ,"},
		"slash":               {`"a/b"`, inAlphabet + "; got /"},
		"emoji":               {`"a😀"`, inAlphabet + "; got 😀"},
		"accent":              {`"é"`, inAlphabet + "; got é"},
		"full width":          {`"Ａ"`, inAlphabet + "; got Ａ"},
		"NUL":                 {`"a\u0000"`, inAlphabet + `; got \u0000`},
		"lone surrogate":      {`"a\ud800"`, inAlphabet + "; got \ufffd"},
		"leading space":       {`" a"`, `may not begin or end with white space; got " a"`},
		"trailing space":      {`"a "`, `may not begin or end with white space; got "a "`},
		"trailing newline":    {`"a\n"`, `may not begin or end with white space; got "a\n"`},
		"leading tab":         {`"\ta"`, `may not begin or end with white space; got "\ta"`},
		"trailing form feed":  {`"a\f"`, `may not begin or end with white space; got "a\f"`},
		"leading vertical":    {`"\u000ba"`, `may not begin or end with white space; got "\va"`},
		"only white space":    {`" "`, `may not begin or end with white space; got " "`},
		"ideographic space":   {`"a\u3000"`, inAlphabet + `; got \u3000`},
		"no-break space":      {`"\u00a0a"`, inAlphabet + `; got \u00a0`},
		"narrow no-break":     {`"a\u202f"`, inAlphabet + `; got \u202f`},
		"line separator":      {`"a\u2028"`, inAlphabet + `; got \u2028`},
		"next line":           {`"a\u0085"`, inAlphabet + `; got \u0085`},
		"zero width":          {`"\u200ba"`, inAlphabet + `; got \u200b`},
		"long and out of it":  {`"` + strings.Repeat("é", 129) + `"`, "must have at most 128 characters; got 129 characters"},
		"trailing name of mb": {`"办公 "`, `may not begin or end with white space; got "办公 "`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := c.want
			if want != "" {
				want = "image_name: " + want
			}
			got := faultsOf(t, events.TypeDesktopToImage, `{"desktop_id":"a","execute_sysprep":true,"image_name":`+c.json+`}`)
			require.Equal(t, want, strings.Join(got, "; "))
		})
	}
	require.Equal(t, []string{"image_name: must be given"}, faultsOf(t, events.TypeDesktopToImage, `{"desktop_id":"a","execute_sysprep":true}`))
}

// The remaining fields: optional ones and their faults.
func TestDesktopToImage(t *testing.T) {
	t.Parallel()
	const fields = "the fields are project_id, image_name, image_description, desktop_id, execute_sysprep, image_tags, " +
		"enterprise_project_id, is_clear_data, max_ram, min_ram, then"
	long := func(n int) string { return `"` + strings.Repeat("办", n) + `"` }
	tags := func(n int) string {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, `,{"key":"k%d","value":"v"}`, i)
		}
		return `[` + all.String()[1:] + `]`
	}
	for name, c := range map[string]struct{ json, want string }{
		"nothing more":               {``, ""},
		"description at its limit":   {`"image_description":` + long(1024), ""},
		"description over it":        {`"image_description":` + long(1025), "image_description: must have at most 1024 characters; got 1025 characters"},
		"description empty":          {`"image_description":""`, ""},
		"description spaced":         {`"image_description":" a "`, ""},
		"description with a colon":   {`"image_description":"a:b"`, "image_description: " + inAlphabet + "; got :"},
		"description with U+9FA6":    {`"image_description":"龦"`, "image_description: " + inAlphabet + "; got 龦"},
		"clear data without sysprep": {`"is_clear_data":true`, ""},
		"clear data as a string":     {`"is_clear_data":"true"`, `is_clear_data: must be true or false; got "true"`},
		"clear data null":            {`"is_clear_data":null`, ""},
		"tags":                       {`"image_tags":[{"key":"k","value":"v"},{"key":"","value":""},{}]`, ""},
		"no tags":                    {`"image_tags":[]`, ""},
		"tags at their limit":        {`"image_tags":` + tags(1000), ""},
		"tags over it":               {`"image_tags":` + tags(1001), "image_tags: must have at most 1000 tags; got 1001 tags"},
		"tags as an object":          {`"image_tags":{"k":"v"}`, `image_tags: must be a list of {key, value}; got {"k":"v"}`},
		"tag null":                   {`"image_tags":[null]`, "image_tags[0]: must be a JSON object; got null"},
		"tag as a string":            {`"image_tags":[{},"k=v"]`, `image_tags[1]: must be a JSON object; got "k=v"`},
		"tag at its limit":           {`"image_tags":[{"key":` + long(1024) + `,"value":` + long(1024) + `}]`, ""},
		"tag key over it":            {`"image_tags":[{"key":` + long(1025) + `}]`, "image_tags[0].key: must have at most 1024 characters; got 1025 characters"},
		"tag value over it":          {`"image_tags":[{"value":` + long(1025) + `}]`, "image_tags[0].value: must have at most 1024 characters; got 1025 characters"},
		"tag value number":           {`"image_tags":[{"value":1}]`, "image_tags[0].value: must be a string; got 1"},
		"tag field unknown":          {`"image_tags":[{"Key":"k"}]`, "image_tags[0].Key: is not a field here; the fields are key, value"},
		"tag key twice":              {`"image_tags":[{"key":"k"},{"key":"K"},{"key":"k","value":"v"}]`, `image_tags[2].key: is the key of an earlier tag too; give each key once; got "k"`},
		"tag field twice":            {`"image_tags":[{"key":"k","key":"l"}]`, "image_tags[0].key: is given twice; give it once"},
		"enterprise project 0":       {`"enterprise_project_id":"0"`, ""},
		"enterprise project empty":   {`"enterprise_project_id":""`, ""},
		"enterprise project 255":     {`"enterprise_project_id":"` + strings.Repeat("e", 255) + `"`, ""},
		"enterprise project path":    {`"enterprise_project_id":"../x"`, `enterprise_project_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "../x"`},
		"enterprise project number":  {`"enterprise_project_id":0`, "enterprise_project_id: must be a string; got 0"},
		"RAM as strings":             {`"max_ram":"65536","min_ram":"0"`, ""},
		"RAM as numbers":             {`"max_ram":65536,"min_ram":0`, ""},
		"RAM empty":                  {`"max_ram":""`, ""},
		"RAM at its limit":           {`"max_ram":2147483647`, ""},
		"RAM over it":                {`"max_ram":2147483648`, ram("max_ram", "2147483648")},
		"RAM negative":               {`"min_ram":-1`, ram("min_ram", "-1")},
		"RAM with a unit":            {`"min_ram":"4096MB"`, ram("min_ram", `"4096MB"`)},
		"RAM with a fraction":        {`"min_ram":1.0`, ram("min_ram", "1.0")},
		"RAM with an exponent":       {`"min_ram":1e3`, ram("min_ram", "1e3")},
		"RAM with zeros":             {`"min_ram":"0064"`, ram("min_ram", `"0064"`)},
		"RAM with a sign":            {`"min_ram":"+64"`, ram("min_ram", `"+64"`)},
		"RAM minus zero":             {`"min_ram":-0`, ram("min_ram", "-0")},
		"RAM spaced":                 {`"min_ram":" 64"`, ram("min_ram", `" 64"`)},
		"RAM Boolean":                {`"min_ram":true`, ram("min_ram", "true")},
		"RAM word":                   {`"min_ram":"true"`, ram("min_ram", `"true"`)},
		"RAM list":                   {`"min_ram":[1]`, ram("min_ram", "[1]")},
		"unknown":                    {`"image_id":"i"`, "image_id: is not a field here; " + fields},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := `{"image_name":"n","desktop_id":"a","execute_sysprep":false`
			if c.json != "" {
				data += "," + c.json
			}
			require.Equal(t, c.want, strings.Join(faultsOf(t, events.TypeDesktopToImage, data+`}`), "; "))
		})
	}
}

func ram(field, got string) string {
	return field + ": must be whole MB from 0 to 2147483647, as a string or a number; got " + got
}

func TestExecuteSysprep(t *testing.T) {
	t.Parallel()
	const missing = "execute_sysprep: must be given: true deletes the user profiles on the desktop, and is the service's default when the field is absent"
	for name, c := range map[string]struct {
		json string
		set  bool
		want string
	}{
		"true":                {json: `,"execute_sysprep":true`, set: true},
		"false":               {json: `,"execute_sysprep":false`},
		"string true":         {json: `,"execute_sysprep":"true"`, set: true},
		"string false":        {json: `,"execute_sysprep":"false"`},
		"escaped string":      {json: `,"execute_sysprep":"tru\u0065"`, set: true},
		"missing":             {want: missing},
		"null":                {json: `,"execute_sysprep":null`, want: missing},
		"other letter case":   {json: `,"execute_sysprep":"True"`, want: `execute_sysprep: must be true or false; got "True"`},
		"number":              {json: `,"execute_sysprep":1`, want: "execute_sysprep: must be true or false; got 1"},
		"empty":               {json: `,"execute_sysprep":""`, want: `execute_sysprep: must be true or false; got ""`},
		"string null":         {json: `,"execute_sysprep":"null"`, want: `execute_sysprep: must be true or false; got "null"`},
		"with clear data":     {json: `,"execute_sysprep":"true","is_clear_data":true`, want: "is_clear_data: has a meaning only with execute_sysprep false; got true"},
		"with no clear data":  {json: `,"execute_sysprep":true,"is_clear_data":false`, set: true},
		"wrong, clear data":   {json: `,"execute_sysprep":"yes","is_clear_data":true`, want: `execute_sysprep: must be true or false; got "yes"`},
		"missing, clear data": {json: `,"is_clear_data":true`, want: missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := `{"image_name":"n","desktop_id":"a"` + c.json + `}`
			require.Equal(t, c.want, strings.Join(faultsOf(t, events.TypeDesktopToImage, data), "; "))
			if c.want == "" {
				command, err := events.DecodeDesktopToImage([]byte(data))
				require.NoError(t, err)
				require.Equal(t, c.set, command.ExecuteSysprep)
			}
		})
	}
}

func TestThen(t *testing.T) {
	t.Parallel()
	const self = "may not be the captured desktop itself; rebuild it by a command of its own; got "
	for name, c := range map[string]struct{ json, want string }{
		"nothing":             {`null`, ""},
		"rebuild":             {`{"rebuild":{"desktop_ids":["b"]}}`, ""},
		"all options":         {`{"rebuild":{"desktop_ids":["b"],"os_type":"Linux","delay_time":5,"message":"m","order_id":"o","enterprise_project_id":"0","encrypt_type":"ENCRYPTED","kms_id":"k","handle_type":"ONLY_FOR_EXPAND","rebuild_current":true,"allow_os_change":true,"when_busy":"fail","override_rollout":true}}`, ""},
		"empty":               {`{}`, "then: must contain rebuild"},
		"rebuild null":        {`{"rebuild":null}`, "then: must contain rebuild"},
		"no object":           {`"rebuild"`, `then: must be a JSON object; got "rebuild"`},
		"list":                {`[]`, "then: must be a JSON object; got []"},
		"rebuild no object":   {`{"rebuild":["b"]}`, `then.rebuild: must be a JSON object; got ["b"]`},
		"unknown":             {`{"rebuild":{"desktop_ids":["b"]},"check":{}}`, "then.check: is not a field here; the fields are rebuild"},
		"only unknown":        {`{"Rebuild":{"desktop_ids":["b"]}}`, "then.Rebuild: is not a field here; the fields are rebuild; then: must contain rebuild"},
		"rebuild twice":       {`{"rebuild":{"desktop_ids":["b"]},"rebuild":{"desktop_ids":["c"]}}`, "then.rebuild: is given twice; give it once"},
		"no desktops":         {`{"rebuild":{}}`, "then.rebuild.desktop_ids: must be given"},
		"image already given": {`{"rebuild":{"desktop_ids":["b"],"image_id":"i"}}`, "then.rebuild.image_id: is not a field here; the fields are desktop_ids, os_type, delay_time, message, order_id, enterprise_project_id, encrypt_type, kms_id, handle_type, rebuild_current, allow_os_change, when_busy, override_rollout"},
		"delay":               {`{"rebuild":{"desktop_ids":["b"],"delay_time":-1}}`, "then.rebuild.delay_time: must be a whole number from 0 to 2147483647; got -1"},
		"message":             {`{"rebuild":{"desktop_ids":["b"],"message":"` + strings.Repeat("m", 401) + `"}}`, "then.rebuild.message: must have at most 400 characters; got 401 characters"},
		"key":                 {`{"rebuild":{"desktop_ids":["b"],"encrypt_type":"ENCRYPTED"}}`, "then.rebuild.kms_id: must be given with encrypt_type ENCRYPTED"},
		"captured desktop":    {`{"rebuild":{"desktop_ids":["b","a"]}}`, "then.rebuild.desktop_ids[1]: " + self + "a"},
		"captured, in caps":   {`{"rebuild":{"desktop_ids":["b","c","A"]}}`, "then.rebuild.desktop_ids[2]: " + self + "A"},
		"two faults":          {`{"rebuild":{"desktop_ids":["../x","a"]},"x":1}`, `then.x: is not a field here; the fields are rebuild; then.rebuild.desktop_ids[0]: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "../x"; then.rebuild.desktop_ids[1]: ` + self + "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := faultsOf(t, events.TypeDesktopToImage, `{"image_name":"n","desktop_id":"a","execute_sysprep":true,"then":`+c.json+`}`)
			require.Equal(t, c.want, strings.Join(got, "; "))
		})
	}
}
