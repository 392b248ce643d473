package permit_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/permit"
)

func TestReadIDs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                                    nil,
		"a\nb\n":                              {"a", "b"},
		"\ufeffa\r\n\r\n  b  # the lab\r\n#c": {"a", "b"},
		"a":                                   {"a"},
	} {
		ids, err := permit.ReadIDs(strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, want, ids, "%q", text)
	}
}

func TestAnEmptyAllowListAllowsNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "allow")
	require.NoError(t, os.WriteFile(file, []byte("# nobody yet\n"), 0o600))
	refused, err := permit.Lists{AllowFile: file}.Refused([]string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, refused)
}

func TestNoListsAllowAll(t *testing.T) {
	t.Parallel()
	refused, err := permit.Lists{}.Refused([]string{"a"})
	require.NoError(t, err)
	require.Empty(t, refused)
}

func TestAListThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	_, err := permit.Lists{DenyFile: filepath.Join(t.TempDir(), "none")}.Refused([]string{"a"})
	require.ErrorContains(t, err, "RECOMPOSE_DENY_DESKTOPS_FILE")
}
