package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestEscape(t *testing.T) {
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
		require.Equal(t, want, escape(in))
	}
	require.Equal(t, "two\nlines \\x1b", escapeLines("two\nlines \x1b"))
}

func TestEscapedJSONStaysTheSameJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain <&>", "\x1b[31m", "\u009b \u202e \u2028", "\U000e0001 \U0001f600", "日本", "\x00\x7f"} {
		line, err := escapeJSON(json.RawMessage(mustJSON(t, map[string]string{"k": text})))
		require.NoError(t, err)
		require.True(t, isPrintable(string(line)), "%q", line)
		var back map[string]string
		require.NoError(t, json.Unmarshal(line, &back), "%s", line)
		require.Equal(t, text, back["k"])
	}
}

func TestWrapped(t *testing.T) {
	t.Parallel()
	text := "job accepted: image golden from desktop 93ad9993-3048-402c-891f-cbbb48134d6d"
	require.Equal(t, "head  "+text, wrapped("head  ", text, 6, 0))
	for _, width := range []int{42, 50, 60, 100} {
		got := wrapped("head  ", text, 6, width)
		for line := range strings.SplitSeq(got, "\n") {
			require.LessOrEqual(t, utf8.RuneCountInString(line), width)
		}
		require.True(t, slices.Equal(strings.Fields("head "+text), strings.Fields(got)), "no word is broken")
	}
	require.Equal(t, "  1s\n  "+strings.Repeat("x", 9), wrapped("  1s\n  ", strings.Repeat("x", 9), 2, 5), "a word that fits nowhere stays whole")
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	require.NoError(t, e.Encode(v))
	return []byte(b.String())
}
