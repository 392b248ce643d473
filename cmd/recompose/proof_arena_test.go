//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
	"recompose/shared/workspace"
)

// proofWindow is the signature window of the short proofs.
const proofWindow = 6 * time.Second

// stage is an arena for one command about a few desktops, and that command.
func stage(t *testing.T, desktops int, speed string) (*arena, events.Rebuild) {
	t.Helper()
	a := newArena(t, settings{desktops: desktops, window: proofWindow, speed: speed, pace: "20"})
	state := a.state()
	cmd := events.Rebuild{}
	cmd.ImageID, cmd.ImageType = chaostest.OtherImage(t, state)
	for _, d := range state.Desktops {
		cmd.DesktopIDs = append(cmd.DesktopIDs, d.DesktopID)
	}
	return a, cmd
}

// rebuild sends the command under the id c.
func (a *arena) rebuild(cmd events.Rebuild) {
	a.t.Helper()
	a.send("c", events.TypeRebuild, cmd)
}

// honest waits for the end of the command c, and compares all events with the state of the emulator.
func (a *arena) honest(cmd events.Rebuild) {
	a.t.Helper()
	a.settle(within, "c")
	chaostest.Once(a.t, a.events(), []string{"c"})
	chaostest.Take(a.t, a.events(), a.state(), map[string][]string{"c": cmd.DesktopIDs}).Honest()
}

// requested waits until the emulator's journal has n calls of rebuild, and returns them.
func (a *arena) requested(n int) []emulator.Request {
	a.t.Helper()
	eventually(a.t, func() bool { return len(a.calls(emulator.CallRebuild)) >= n }, "the service gets no rebuild")
	return a.calls(emulator.CallRebuild)
}

// accepted are the jobs of rebuilds.
func (a *arena) accepted() []emulator.Job {
	a.t.Helper()
	var jobs []emulator.Job
	for _, j := range a.state().Jobs {
		if j.JobType == chaostest.RebuildJob {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// gate is the list of a worker's desktops as a pipe: the worker stands at it after it has recorded its intent and
// before it makes its call, until the test writes the list.
type gate struct {
	t    *testing.T
	file string
}

// gated starts a worker that stands still before each write.
func (a *arena) gated(cmd events.Rebuild) (*process, gate) {
	a.t.Helper()
	g := gate{a.t, filepath.Join(a.t.TempDir(), "allowed")}
	require.NoError(a.t, os.WriteFile(g.file, []byte(strings.Join(cmd.DesktopIDs, "\n")), 0o600))
	p := a.working("RECOMPOSE_ALLOW_DESKTOPS_FILE=" + g.file) // it reads the list at its start, too
	require.NoError(a.t, os.Remove(g.file))
	require.NoError(a.t, syscall.Mkfifo(g.file, 0o600))
	return p, g
}

// reached waits until the worker stands at the gate, and gives the end to write the list to.
func (g gate) reached() *os.File {
	g.t.Helper()
	var pipe *os.File
	eventually(g.t, func() bool {
		var err error
		pipe, err = os.OpenFile(g.file, os.O_WRONLY|syscall.O_NONBLOCK, 0) // an error while there is no reader
		return err == nil
	}, "the worker does not come to its call")
	g.t.Cleanup(func() { _ = pipe.Close() })
	return pipe
}

// way makes a way to the service on which calls take their time.
func (a *arena) way(hold func(context.Context)) *chaostest.Way {
	a.t.Helper()
	return chaostest.NewWay(a.t, a.url, hold)
}

// along leads a worker along a way.
func along(w *chaostest.Way) string { return "RECOMPOSE_WORKSPACE_ENDPOINT=" + w.URL }

// byHand is the client of another program.
func (a *arena) byHand() *workspace.Client {
	a.t.Helper()
	c, err := workspace.New(workspace.Options{
		Endpoint: a.url, ProjectID: emulator.DefaultProjectID, ReadsPerMinute: -1, WritesPerMinute: -1, SignatureWindow: a.window,
		Auth: workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
	})
	require.NoError(a.t, err)
	return c
}

// token logs in.
func (a *arena) token() string {
	a.t.Helper()
	type names map[string]any
	body, err := json.Marshal(names{"auth": names{
		"identity": names{"methods": []string{"password"}, "password": names{"user": names{
			"name": emulator.DefaultIAMUser, "password": emulator.DefaultIAMPassword, "domain": names{"name": emulator.DefaultIAMDomain},
		}}},
		"scope": names{"project": names{"id": emulator.DefaultProjectID}},
	}})
	require.NoError(a.t, err)
	response, err := http.Post(a.url+"/v3/auth/tokens", "application/json", bytes.NewReader(body))
	require.NoError(a.t, err)
	defer response.Body.Close()
	token := response.Header.Get("X-Subject-Token")
	require.NotEmpty(a.t, token)
	return token
}
