package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// In a new folder no list is set and no command is known: on a real service up reports that, once.
func TestUpOnARealServiceReportsANewFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	env := append(realService("X=1"), "RECOMPOSE_HTTP_LISTEN=127.0.0.1:0")
	for _, first := range []bool{true, false} {
		p := start(t, env, binary(t, "recompose"), "up", "--data", dir, "--nats-listen", "127.0.0.1:0")
		p.prints(t, "REAL https://workspace.example.com p1")
		p.prints(t, "NATS")
		require.Equal(t, first, strings.Contains(p.out.String(), "has no state yet: no list of desktops and no freeze is set"), p.out.String())
		p.interrupt(t)
	}
}
