// Package check_test tests the files of deploy/ against a real worker: it runs a worker of bin/recompose, sends a chain
// through it, and checks rules, dashboard and manifest against the pages of the worker.
package check_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// series is one line of /metrics.
type series struct {
	labels labels.Labels
	value  float64
}

// worker is the one worker of all tests.
var worker struct {
	url           string   // of its pages
	before, after []series // its metrics, before and after a chain from capture to verification
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "recompose-deploy-check-")
	if err != nil {
		panic(err)
	}
	code := 1
	if err := startWorker(dir, func() { code = m.Run() }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// startWorker runs an emulator and a worker on it, sends a chain through it, runs the tests and stops both.
func startWorker(dir string, tests func()) error {
	program, err := filepath.Abs("../../bin/recompose")
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("%w; `make deploy-check` builds it", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	env := append(os.Environ(), "RECOMPOSE_HTTP_LISTEN=127.0.0.1:0")
	emulator, stop, err := start(ctx, env, program, "emulator", "--desktops", "3", "--speed", "400", "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer stop()
	for _, line := range emulator {
		if variable, ok := strings.CutPrefix(line, "export "); ok {
			env = append(env, variable)
		}
	}
	up, stop, err := start(ctx, env, program, "up", "--data", filepath.Join(dir, "data"), "--nats-listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer stop()
	var nats string
	for _, line := range up {
		if at, ok := strings.CutPrefix(line, "health "); ok {
			worker.url = strings.TrimSuffix(strings.TrimSpace(at), "/readyz")
		}
		if at, ok := strings.CutPrefix(line, "NATS "); ok {
			nats = strings.TrimSpace(at)
		}
	}
	if worker.before, err = ready(ctx); err != nil {
		return err
	}
	_, state, err := get(ctx, strings.Fields(emulator[0])[1]+"/_emulator/state")
	if err != nil {
		return err
	}
	var world struct {
		Desktops []struct {
			ID string `json:"desktop_id"`
		}
	}
	if err := json.Unmarshal(state, &world); err != nil || len(world.Desktops) != 3 {
		return fmt.Errorf("state of the emulator: %d desktops, want 3: %w", len(world.Desktops), err)
	}
	fleet := filepath.Join(dir, "fleet.txt")
	if err := os.WriteFile(fleet, []byte(world.Desktops[1].ID+"\n"+world.Desktops[2].ID+"\n"), 0o600); err != nil {
		return err
	}
	send := exec.CommandContext(ctx, program, "send", "desktoptoimage", "--desktop-id", world.Desktops[0].ID, "--image-name", "golden",
		"--execute-sysprep=true", "--then-rebuild", fleet, "--nats-url", nats, "--wait")
	if out, err := send.CombinedOutput(); err != nil {
		return fmt.Errorf("send a chain: %w\n%s", err, out)
	}
	if worker.after, err = ready(ctx); err != nil {
		return err
	}
	tests()
	return nil
}

// start runs a command and returns what it prints until it is up.
func start(ctx context.Context, env []string, program string, args ...string) (lines []string, stop func(), err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() }
	for text := bufio.NewScanner(out); text.Scan(); {
		lines = append(lines, strings.TrimSpace(text.Text()))
		if strings.HasPrefix(text.Text(), "Ctrl-C") {
			return lines, stop, nil
		}
	}
	stop()
	return nil, nil, fmt.Errorf("recompose %s ended: %q", args[0], lines)
}

// ready waits until the worker is ready, and reads its metrics.
func ready(ctx context.Context) ([]series, error) {
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		status, text, err := get(ctx, worker.url+"/readyz")
		if err != nil {
			return nil, fmt.Errorf("%w; last answer: %s", err, text)
		}
		if status == http.StatusOK {
			return scrape(ctx)
		}
	}
}

func get(ctx context.Context, url string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, text, err
}

func scrape(ctx context.Context) ([]series, error) {
	_, text, err := get(ctx, worker.url+"/metrics")
	if err != nil {
		return nil, err
	}
	var all []series
	p := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
	for {
		entry, err := p.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parse /metrics: %w", err)
		}
		if entry == textparse.EntrySeries {
			var s series
			_, _, s.value = p.Series()
			p.Labels(&s.labels)
			all = append(all, s)
		}
	}
}
