package textfile_test

import (
	"encoding/binary"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"recompose/shared/textfile"
)

// inUTF16 is text with its byte order mark, as PowerShell writes it.
func inUTF16(text string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func TestDecode(t *testing.T) {
	t.Parallel()
	const text = "a\r\nÄ 桌面 🖥\n"
	for name, content := range map[string]string{
		"UTF-8":                text,
		"UTF-8 with a mark":    "\ufeff" + text,
		"UTF-16 little endian": inUTF16(text, binary.LittleEndian),
		"UTF-16 big endian":    inUTF16(text, binary.BigEndian),
	} {
		got, err := textfile.Decode([]byte(content))
		require.NoError(t, err, name)
		require.Equal(t, text, string(got), name)
	}
	for _, mark := range []string{"", "\ufeff", "\xff\xfe", "\xfe\xff"} {
		got, err := textfile.Decode([]byte(mark))
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

func TestWhatCannotBeDecodedIsRefusedByName(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ content, want string }{
		"UTF-32 little endian":      {"\xff\xfe\x00\x00a\x00\x00\x00", "UTF-32"},
		"UTF-32 big endian":         {"\x00\x00\xfe\xff\x00\x00\x00a", "UTF-32"},
		"UTF-16 without a mark":     {"a\x00\n\x00b\x00", "line 1: has a NUL byte, perhaps because it is UTF-16"},
		"a NUL in a comment":        {"a\n# x\x00y\n", "line 2: has a NUL byte"},
		"a NUL in UTF-16":           {inUTF16("a\n\x00", binary.LittleEndian), "line 2: has a NUL byte"},
		"UTF-16 cut":                {inUTF16("ab", binary.LittleEndian)[:5], "ends within a character"},
		"half of a character":       {"\xff\xfe\x3d\xd8a\x00", "unpaired surrogates"},
		"UTF-16 and then something": {inUTF16("a\n", binary.LittleEndian) + "bc", ""},
	} {
		_, err := textfile.Decode([]byte(test.content))
		if test.want == "" {
			require.NoError(t, err, name) // decodes to another letter; the parser must refuse it
			continue
		}
		require.ErrorContains(t, err, test.want, name)
		require.ErrorContains(t, err, "UTF-8", name)
	}
}
