package safety_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
)

func TestAnEmptyAllowListAllowsNothing(t *testing.T) {
	t.Parallel()
	refused, err := (&safety.Files{AllowDesktopsFile: list(t, "allow", "# none yet\n")}).Refused([]string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, refused)
}

func TestNoListsAllowAll(t *testing.T) {
	t.Parallel()
	refused, err := (&safety.Files{}).Refused([]string{"a"})
	require.NoError(t, err)
	require.Empty(t, refused)
}

func TestAListThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	_, err := (&safety.Files{DenyDesktopsFile: filepath.Join(t.TempDir(), "none")}).Refused([]string{"a"})
	require.ErrorContains(t, err, "RECOMPOSE_DENY_DESKTOPS_FILE")
}

func TestTheDenyListIgnoresTheLetterCase(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"F7-A", "f7-a"},
		safety.NotAllowedIDs([]string{"F7-A", "b", "f7-a"}, nil, safety.Deny([]string{"f7-A"})))
	require.Equal(t, []string{"f7-a"}, safety.NotAllowedIDs([]string{"F7-A", "f7-a"}, safety.Allow([]string{"F7-A"}), nil),
		"an allow list is case-sensitive")
}
