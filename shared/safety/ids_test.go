package safety_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
)

// inUTF16 is text with its byte order mark.
func inUTF16(text string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func TestReadIDs(t *testing.T) {
	t.Parallel()
	long := "a" + strings.Repeat("-", 254)
	for text, want := range map[string][]string{
		"":                                    nil,
		"\ufeff":                              nil,
		" \r\n\t\n# none\n":                   nil,
		"a\nb\n":                              {"a", "b"},
		"\ufeffa\r\n\r\n  b  # the lab\r\n#c": {"a", "b"},
		"a":                                   {"a"},
		"a\rb\r":                              {"a", "b"},
		"a\n\ufeffb\n":                        {"a", "b"}, // two files, one after the other
		"a\u00a0\n\u3000b":                    {"a", "b"},
		"A_1-x#c\n# B\xfcro\n":                {"A_1-x"}, // a comment in another encoding
		long:                                  {long},
		inUTF16("a\r\nb # Büro\r\n", binary.LittleEndian): {"a", "b"},
		inUTF16("a\r\nb\r\n", binary.BigEndian):           {"a", "b"},

		"desktop_id\na\nb # two\n# c\n\n":                                                                       {"a", "b"},
		"\ufeff\"name\";\"desktop_id\"\r\n\"Smith; John\";\"a\"\r\n\"#1 lab\";b\r\n;\r\n":                       {"a", "b"},
		"#TYPE Selected.System.Management.Automation.PSCustomObject\r\n\"desktop_id\",\"n\"\r\n\"a\",\"x\"\r\n": {"a"},
		"sep=;\r\nDesktop_ID;note\r\na;\r\n":                                                                    {"a"},
		"name,desktop_id\n#1 lab PC,a\n# a comment\n":                                                           {"a"},
		"desktop_id,name\n#a,Bob\nb,Eve\n,\n":                                                                   {"b"},
		"\"full\nname\",desktop_id\n\"x\ny\",a\n":                                                               {"a"},
		"desktop_id,name\n": nil,
		inUTF16("name\tdesktop_id\tstatus\r\nBüro\ta\tACTIVE\r\n", binary.LittleEndian): {"a"},
	} {
		ids, err := safety.ReadIDs(strings.NewReader(text))
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, ids, "%q", text)
	}
}

func TestAFileWithAnUnreadableLineIsAnError(t *testing.T) {
	t.Parallel()
	bare := func(text string) string { return strings.ReplaceAll(text, "", "\x00")[1:] }
	for text, want := range map[string][]string{
		`"a"`:                               {"line 1", `"\"a\"" is not a desktop id`},
		"a\n\n'b'\n":                        {"line 3", "'b'"},
		"{a}":                               {"line 1"},
		`["a", "b"]`:                        {"line 1"},
		"a b":                               {"line 1", "a b"},
		"a,b":                               {"line 1", "CSV", "desktop_id"},
		"# x\r\na\r\nb;c\r\n":               {"line 3", "desktop_id"},
		"a\n-b\n_c\nd e\n":                  {"line 2", "-b", "; and 2 more lines are wrong"},
		"a\n-b\nc d\n":                      {"; and 1 more line is wrong"},
		"a\u2013b":                          {"line 1"}, // a dash of a word processor
		"a\u200b":                           {"line 1"},
		"a\xa0\n":                           {"line 1"}, // Latin-1
		"<html>":                            {"line 1"},
		"+AGEAYg-":                          {"line 1"}, // UTF-7
		"a\x1b[2J":                          {"line 1", `\x1b`},
		strings.Repeat("a", 256):            {"line 1", "255", "…"},
		strings.Repeat("a", 58) + "éé":      {"line 1"},
		bare("a\nb\n"):                      {"line 1", "UTF-16", "save it as UTF-8"},
		"a\n#\x00\n":                        {"line 2", "NUL"},
		"\xff\xfe\x00\x00a\x00\x00\x00":     {"UTF-32"},
		strings.Repeat("#", 16<<20) + "\na": {"more than 16777216 bytes"},

		"name,desktop_id\nx,a\ny,\n":                {"line 3", "column desktop_id", `""`},
		"name,desktop_id\nSmith, John,a\n":          {"line 2", "3 columns", "header has 2"},
		"name,desktop_id\nx\n":                      {"line 2", "1 columns"},
		"name,desktop_id\nx,#a\n":                   {"line 2", "column desktop_id"},
		"name,desktop_id\n# a, comment, long\n":     {"line 2", "columns"},
		"desktop_id\na,b\n":                         {"line 2", "2 columns"},
		"desktop_id;name\na,b\nc;d\n":               {"line 2", "1 columns"},
		"desktop_id,desktop_id\na,b\n":              {"line 1"},
		"\n\nname,desktop_id\n\"x,a\nb,c\n":         {"line", "not a CSV row"},
		"id,name\na,Bob\nb,Eve\n":                   {"line 1", "one column desktop_id", "2 more"},
		"\n\"x\ny\",desktop_id\n\"1\n2\",\"a b\"\n": {"line 4", "a b"},
		"sep=;\na\n":                                {"line 1", "sep=;"},
	} {
		ids, err := safety.ReadIDs(strings.NewReader(text))
		require.Error(t, err, "%.80q gives %q", text, ids)
		for _, part := range want {
			require.ErrorContains(t, err, part, "%.80q", text)
		}
		require.NotContains(t, err.Error(), "\n", "one line for each file")
	}
}

// TestADenyListNeverDeniesLess writes a list in every encoding that programs use, and checks its desktops: either they
// are denied, or nothing may be written.
func TestADenyListNeverDeniesLess(t *testing.T) {
	t.Parallel()
	ids := []string{"0a1b-2c", "f7"}
	encodings := map[string]func(string) string{
		"UTF-8":               func(s string) string { return s },
		"a mark":              func(s string) string { return "\ufeff" + s },
		"UTF-16LE":            func(s string) string { return inUTF16(s, binary.LittleEndian) },
		"UTF-16BE":            func(s string) string { return inUTF16(s, binary.BigEndian) },
		"UTF-16LE, no mark":   func(s string) string { return inUTF16(s, binary.LittleEndian)[2:] },
		"UTF-16BE, no mark":   func(s string) string { return inUTF16(s, binary.BigEndian)[2:] },
		"UTF-16LE, cut":       func(s string) string { return inUTF16(s, binary.LittleEndian)[:5] },
		"the mark of another": func(s string) string { return "\xff\xfe" + s },
	}
	forms := map[string]string{
		"plain": "%s%s%s%s", "quotes": `"%s"%s"%s"%s`, "single quotes": "'%s'%s'%s'%s", "braces": "{%s}%s{%s}%s", "commas": "%s,%s%s,%s",
		"csv": "name,desktop_id\nx,%s%sy,%s%s", "csv with #": "name,desktop_id\n#1,%s%s#2,%s%s", "csv in quotes": "\"desktop_id\"\n\"%s\"%s\"%s\"%s",
		"a comment before": "# x\n%s%s%s%s", "one line": "%s %[3]s",
	}
	for encoding, encode := range encodings {
		for form, format := range forms {
			for _, end := range []string{"\n", "\r\n", "\r", "\u2028", "\v"} {
				text := encode(fmt.Sprintf(format, ids[0], end, ids[1], end))
				got, err := safety.ReadIDs(strings.NewReader(text))
				if err == nil {
					require.Equal(t, ids, safety.Refuse(ids, nil, safety.Deny(got)), "%s, %s, %q: %q", encoding, form, end, text)
				}
			}
		}
	}
}
