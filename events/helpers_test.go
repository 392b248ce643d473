package events_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// requirePrintable requires an error whose text is bounded and printable.
func requirePrintable(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.Less(t, len(err.Error()), 32_000)
	at := strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) })
	require.Equal(t, -1, at, "%q", err.Error())
}
