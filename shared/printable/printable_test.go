package printable_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/printable"
)

func TestLinesAreSafeToPrint(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain text, 日本":       "plain text, 日本",
		"a\x1b[31mb":           `a\x1b[31mb`,
		"line\nbreak\ttab":     `line\nbreak\ttab`,
		"c1 \u009b31m":         `c1 \u009b31m`,
		"right-to-left \u202e": `right-to-left \u202e`,
		"not UTF-8 \xff":       `not UTF-8 \xff`,
		"replaced \ufffd":      "replaced \ufffd",
	} {
		require.Equal(t, want, printable.Line(in))
	}
	require.Equal(t, "two\nlines \\x1b", printable.Lines("two\nlines \x1b"))
}

func TestEscapedJSONStaysTheSameJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain <&>", "\x1b[31m", "\u009b \u202e \u2028", "\U000e0001 \U0001f600", "日本", "\x00\x7f"} {
		line, err := printable.JSON(map[string]string{"k": text})
		require.NoError(t, err)
		require.Equal(t, printable.Line(string(line)), string(line))
		var back map[string]string
		require.NoError(t, json.Unmarshal(line, &back), "%s", line)
		require.Equal(t, text, back["k"])
	}
}
