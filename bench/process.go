package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// process is one that a pass started.
type process struct {
	cmd   *exec.Cmd
	url   string // that it printed
	stdin io.Closer
	log   *tail
	once  sync.Once
}

// helper starts this program in another role, and waits for the URL that it prints.
func helper(ctx context.Context, args ...string) (*process, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, own, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w: %s", args[0], err, p.log)
	}
	p.url = strings.TrimSpace(line)
	return p, nil
}

func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: &tail{}}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin, cmd.Stderr = stdin, p.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// stop ends a process: by the end of its input and an interrupt, and after ten seconds by force.
func (p *process) stop() {
	p.once.Do(func() {
		_ = p.stdin.Close()
		_ = p.cmd.Process.Signal(os.Interrupt)
		force := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
		defer force.Stop()
		_ = p.cmd.Wait()
	})
}

// usage is what a process has used. Where the system does not show it, it is zero.
type usage struct {
	cpu  time.Duration
	most float64 // MiB of memory
}

// tick is the unit of times in /proc.
const tick = 10 * time.Millisecond

func (p *process) usage() usage {
	var u usage
	dir := "/proc/" + strconv.Itoa(p.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "/stat")
	if _, after, ok := strings.Cut(string(stat), ") "); err == nil && ok {
		if fields := strings.Fields(after); len(fields) > 12 {
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			u.cpu = time.Duration(user+system) * tick
		}
	}
	status, _ := os.ReadFile(dir + "/status")
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(text)[0], 64)
			u.most = kib / 1024
		}
	}
	return u
}

// tail keeps the end of what a process logs.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - 4096; over > 0 {
		t.text = t.text[over:]
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

var errSlow = errors.New("the pass did not end in time")
