package datafolder_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/datafolder"
)

func TestTheDataFolderOfAService(t *testing.T) {
	t.Parallel()
	service := events.Service{Kind: events.ServiceReal, Host: "workspace.example.org", Project: "p"}
	spellings := []string{
		"https://workspace.example.org", "https://Workspace.Example.ORG", "https://workspace.example.org:443/",
		"https://workspace.example.org.", "https://WORKSPACE.example.org.:443",
	}
	folder := func(data, endpoint string) string {
		t.Helper()
		name, err := datafolder.Of(data, service, endpoint)
		require.NoError(t, err)
		return name
	}
	for _, endpoint := range spellings {
		require.Equal(t, "workspace.example.org_p", folder(filepath.Join(t.TempDir(), "new"), endpoint))
	}
	for _, old := range []string{
		"Workspace.Example.ORG_p", "workspace.example.org_443_p", "workspace.example.org._p", "WORKSPACE.example.org._443_p",
	} {
		data := t.TempDir()
		for _, name := range []string{old, "workspace.example.org_8443_p", "workspace.example.org_q", "emulator"} {
			require.NoError(t, os.Mkdir(filepath.Join(data, name), 0o700))
		}
		for _, endpoint := range spellings {
			require.Equal(t, old, folder(data, endpoint), "the ledger of an earlier version is kept, however it is called now")
		}
		require.NoError(t, os.Mkdir(filepath.Join(data, "workspace.example.org_p"), 0o700))
		require.Equal(t, "workspace.example.org_p", folder(data, spellings[1]))
	}

	data := t.TempDir()
	for _, name := range []string{"Workspace.example.org_p", "workspace.example.org_443_p"} {
		require.NoError(t, os.Mkdir(filepath.Join(data, name), 0o700))
	}
	_, err := datafolder.Of(data, service, spellings[0])
	require.ErrorContains(t, err, "Workspace.example.org_p, workspace.example.org_443_p")
	require.ErrorContains(t, err, "Rename the one to use to "+filepath.Join(data, "workspace.example.org_p"))

	service.Project = "../x"
	require.Equal(t, "127.0.0.1_8080_.._x", folder(t.TempDir(), "http://127.0.0.1:8080"))
	require.Equal(t, "127.0.0.1_.._x", folder(t.TempDir(), "http://127.0.0.1:80"))
}
