package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// freeze stops a process, and waits until it stands still.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	eventually(t, p.still, "it is not frozen")
}

// still reports whether every thread of a process stands still, or it has ended.
func (p *process) still() bool {
	pid := p.cmd.Process.Pid
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if len(threads) == 0 { // no such folder on this system
		state, _ := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
		return p.ended() || strings.HasPrefix(strings.TrimSpace(string(state)), "T")
	}
	return p.ended() || !slices.ContainsFunc(threads, func(thread string) bool {
		line, err := os.ReadFile(thread)
		_, state, _ := strings.Cut(string(line), ") ")
		return err == nil && !strings.HasPrefix(state, "T")
	})
}

func (p *process) thaw(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
