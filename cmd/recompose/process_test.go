package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// within is how long anything may take that a test waits for.
const within = 90 * time.Second

// binaries are built once for all tests, into a folder that TestMain takes away.
var binaries struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) { // the default
		_ = p.Value.Set("6") // these tests wait for other processes, not for a processor
	}
	code := m.Run()
	_ = os.RemoveAll(binaries.dir)
	os.Exit(code)
}

// binary is the path of a built program: recompose, or nats-server.
func binary(t *testing.T, name string) string {
	t.Helper()
	binaries.Do(func() {
		if binaries.dir, binaries.err = os.MkdirTemp("", "recompose-e2e-"); binaries.err != nil {
			return
		}
		for out, pkg := range map[string]string{"recompose": ".", "nats-server": "github.com/nats-io/nats-server/v2"} {
			build := exec.Command("go", "build", "-o", filepath.Join(binaries.dir, out), pkg)
			if output, err := build.CombinedOutput(); err != nil {
				binaries.err = errors.New(string(output))
				return
			}
		}
	})
	require.NoError(t, binaries.err)
	return filepath.Join(binaries.dir, name)
}

// process is a program at work.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	out  output
	err  output
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a program with this environment and nothing else of ours. It is killed at the end of the test.
func start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + t.TempDir(), "RECOMPOSE_HTTP_LISTEN=off"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s\nout: %s\nerr: %s", filepath.Base(name), strings.Join(args, " "), p.out.String(), tail(p.err.String()))
		}
	})
	return p
}

func tail(s string) string { return s[max(0, len(s)-6000):] }

// kill ends it as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// interrupt is Ctrl-C. It returns the exit code.
func (p *process) interrupt(t *testing.T) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	return p.wait(t)
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		require.Fail(t, "the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// prints waits until the output has this text.
func (p *process) prints(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() bool {
		select {
		case <-p.done:
			require.Contains(t, p.out.String(), text, "it ended with: %s", p.err.String())
		default:
		}
		return strings.Contains(p.out.String(), text)
	}, "it does not print %q", text)
}

// field is what stands behind a word at the beginning of a line of the output.
func (p *process) field(t *testing.T, word string) string {
	t.Helper()
	for line := range strings.SplitSeq(p.out.String(), "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), word); ok {
			return strings.TrimSpace(rest)
		}
	}
	require.Fail(t, "no such line", "%s in %s", word, p.out.String())
	return ""
}

// finish runs a program to its end.
func finish(t *testing.T, env []string, args ...string) ran {
	t.Helper()
	p := start(t, env, binary(t, "recompose"), args...)
	code := p.wait(t)
	return ran{code, p.out.String(), p.err.String()}
}

// eventually waits for a condition.
func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !condition() {
		if time.Now().After(deadline) {
			require.FailNow(t, "the condition was not met in time", append([]any{message}, args...)...)
		}
		<-time.After(20 * time.Millisecond) // between two looks
	}
}

// freePort is an address on this machine that is free.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		// Below the ports that systems give out by themselves, and each once: no other process takes it before it is used.
		at := fmt.Sprint("127.0.0.1:", 20_000+int(nextPort.Add(1))%12_000)
		if l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", at); err == nil {
			require.NoError(t, l.Close())
			return at
		}
	}
	require.FailNow(t, "no port is free")
	return ""
}

// nextPort counts the ports that were given out, from a beginning that differs from process to process.
var nextPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(int64(os.Getpid()) * 97)
	return &n
}()

// getJSON reads JSON from an emulator.
func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*within) // the state of 100,000 desktops is large
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NoError(t, json.NewDecoder(response.Body).Decode(into))
}

// putJSON replaces a list of an emulator: its faults or its users.
func putJSON(t *testing.T, url string, list any) {
	t.Helper()
	body, err := json.Marshal(list)
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", body, text)
}

// call is an entry of the emulator's journal.
type call struct {
	Call       string   `json:"call"`
	DesktopIDs []string `json:"desktop_ids"`
	JobID      string   `json:"job_id"`
}

// acceptedWrites are the calls that began a job.
func acceptedWrites(t *testing.T, emulatorURL string) []call {
	t.Helper()
	var journal, accepted []call
	getJSON(t, emulatorURL+"/_emulator/requests", &journal)
	for _, c := range journal {
		if c.JobID != "" && (c.Call == "rebuild" || c.Call == "desktop-to-image") {
			accepted = append(accepted, c)
		}
	}
	return accepted
}

// rebuilds is how often each desktop was rebuilt.
func rebuilds(t *testing.T, emulatorURL string) map[string]int {
	t.Helper()
	var state struct {
		Desktops []struct {
			DesktopID string `json:"desktop_id"`
			Notes     struct {
				Rebuilds int `json:"rebuilds"`
			} `json:"_emulator"`
		} `json:"desktops"`
	}
	getJSON(t, emulatorURL+"/_emulator/state", &state)
	counts := map[string]int{}
	for _, d := range state.Desktops {
		counts[d.DesktopID] = d.Notes.Rebuilds
	}
	return counts
}

func (o *output) has(text string) bool { return strings.Contains(o.String(), text) }
