package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

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
