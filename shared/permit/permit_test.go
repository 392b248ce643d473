package permit_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/permit"
)

func TestAnEmptyAllowListAllowsNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "allow")
	require.NoError(t, os.WriteFile(file, []byte("# nobody yet\n"), 0o600))
	refused, err := (&permit.Files{AllowDesktopsFile: file}).Refused(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, refused)
}

func TestNoListsAllowAll(t *testing.T) {
	t.Parallel()
	refused, err := (&permit.Files{}).Refused(t.Context(), []string{"a"})
	require.NoError(t, err)
	require.Empty(t, refused)
}

func TestAListThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	_, err := (&permit.Files{DenyDesktopsFile: filepath.Join(t.TempDir(), "none")}).Refused(t.Context(), []string{"a"})
	require.ErrorContains(t, err, "RECOMPOSE_DENY_DESKTOPS_FILE")
}

func TestTheDenyListHoldsInEveryLetterCase(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"F7-A", "f7-a"}, permit.Refuse([]string{"F7-A", "b", "f7-a"}, nil, permit.Deny([]string{"f7-A"})))
	require.Equal(t, []string{"f7-a"}, permit.Refuse([]string{"F7-A", "f7-a"}, permit.Allow([]string{"F7-A"}), nil), "what is allowed is allowed as it is written")
}

type refuses []string

func (r refuses) Refused(context.Context, []string) ([]string, error) { return r, nil }

func TestWhatOneOfAllRefusesIsRefused(t *testing.T) {
	t.Parallel()
	ids := []string{"a", "b", "c"}
	refused, err := permit.All{refuses{"c"}, refuses{"a", "c"}, refuses{}}.Refused(t.Context(), ids)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "c"}, refused)
	_, err = permit.All{refuses{"c"}, &permit.Files{DenyDesktopsFile: "none"}}.Refused(t.Context(), ids)
	require.ErrorIs(t, err, fs.ErrNotExist, "even where another one refuses already")
	refused, err = permit.All{}.Refused(t.Context(), ids)
	require.NoError(t, err)
	require.Empty(t, refused)
}
