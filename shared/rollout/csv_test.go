package rollout_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"recompose/shared/rollout"
)

// inUTF16 is text with its byte order mark, as PowerShell writes it.
func inUTF16(text string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func TestTargetsAreReadFromEveryUsualFile(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"one a line":                 "d-1\nd-2\n",
		"with comments":              "# ring a\nd-1 # first\n\nd-2",
		"header alone":               "desktop_id\nd-1\nd-2\n",
		"comma, CRLF":                "name,desktop_id\r\nAnna,d-1\r\n\"Ben, B.\",d-2\r\n",
		"semicolon, mark":            "\ufeffdesktop_id;name\nd-1;Anna\nd-2;Ben\n",
		"tab":                        "name\tDesktop_ID\nAnna\td-1\nBen\td-2\n",
		"first column":               "desktop,name\nd-1,Anna\nd-2,Ben\n",
		"first column, semicolon":    "Desktop ID;name\nd-1;Anna\nd-2;Ben\n",
		"separator of Excel":         "sep=;\nid;name\nd-1;Anna\nd-2;Ben\n",
		"UTF-16 little endian":       inUTF16("name;desktop_id\r\n桌面;d-1\r\nBen;d-2\r\n", binary.LittleEndian),
		"UTF-16 big endian":          inUTF16("d-1\nd-2\n", binary.BigEndian),
		"a cell of two lines":        "desktop_id,note\nd-1,\"two\nlines\"\nd-2,\n",
		"empty rows and white space": "desktop_id,name\n d-1 ,Anna\n,\n\nd-2,Ben\n",
	} {
		got, err := rollout.ReadTargets(strings.NewReader(content))
		require.NoError(t, err, name)
		require.Equal(t, []string{"d-1", "d-2"}, got, name)
	}
}

func TestAFileOfTargetsThatIsUnclearIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ content, want string }{
		"empty":                {"", "must name at least one desktop"},
		"header alone":         {"desktop_id\n", "must name at least one desktop"},
		"twice":                {"d-1\nd-2\n\nD-1\nd-2\n", "line 4: desktop D-1 is on line 1 already; name each desktop once\nline 5: desktop d-2 is on line 2 already; name each desktop once"},
		"twice in CSV":         {"sep=;\nname;desktop_id\nA;d-1\nB;d-1\n", "line 4: desktop d-1 is on line 3 already; name each desktop once"},
		"CSV without a header": {"d-1,Anna\nd-2,Ben\n", "line 1: looks like a desktop, and must be a header with the names of the columns, one of them desktop_id"},
		"two such columns":     {"desktop_id,desktop_id\nd-1,d-2\n", `line 1: "desktop_id,desktop_id" is not a desktop id: it must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; one id a line, or CSV whose header has one column desktop_id; and 1 more line is wrong`},
		"no id":                {"machine,name\n../x,Anna\n", `line 2: column machine: "../x" is not a desktop id: it must be 1 to 255 letters, digits, - or _, beginning with a letter or digit`},
		"a row too short":      {"desktop_id,name\nd-1\n", "line 2: has 1 columns, and the header has 2"},
		"UTF-32":               {"\xff\xfe\x00\x00", "is UTF-32; save it as UTF-8"},
	} {
		_, err := rollout.ReadTargets(strings.NewReader(c.content))
		require.EqualError(t, err, c.want, name)
	}
	_, err := rollout.ReadTargets(strings.NewReader(strings.Repeat("d-1\n", 31)))
	require.ErrorContains(t, err, "line 21: desktop d-1 is on line 1 already")
	require.ErrorContains(t, err, "and 10 more desktops are in the file twice")
}

func FuzzReadTargets(f *testing.F) {
	f.Add([]byte("desktop_id;name\r\nd-1;\"A\nB\"\r\n"))
	f.Add([]byte(inUTF16("a,b\nd-1,d-2", binary.LittleEndian)))
	f.Add([]byte("d-1 # x\nd-2"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ids, err := rollout.ReadTargets(bytes.NewReader(data))
		if err != nil {
			return
		}
		require.NotEmpty(t, ids)
		again, err := rollout.ReadTargets(strings.NewReader(strings.Join(ids, "\n")))
		if len(ids) > 1 && err == nil { // a first id may read as a header
			require.LessOrEqual(t, len(again), len(ids))
		}
	})
}
