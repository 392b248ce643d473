//go:build e2e

package aws_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// names are the functions, as their logical ids in template.yaml begin.
var names = []string{"CheckImages", "DesktopToImage", "Rebuild", "GetDesktop", "WatchJob"}

var build struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) { // nobody has said how many
		_ = p.Value.Set("4") // these tests wait for other processes, not for a processor
	}
	code := m.Run()
	_ = os.RemoveAll(build.dir)
	os.Exit(code)
}

// program is a Lambda program as sam build makes it, for this machine.
func program(t *testing.T, name string) string {
	t.Helper()
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "recompose-e2e-"); build.err != nil {
			return
		}
		for _, n := range names {
			cmd := exec.CommandContext(context.Background(), "make", "-s", "-C", "../..", "build-"+n+"Function",
				"LAMBDA_ARCH="+runtime.GOARCH, "ARTIFACTS_DIR="+filepath.Join(build.dir, n))
			if out, err := cmd.CombinedOutput(); err != nil {
				build.err = fmt.Errorf("build %s: %w: %s", n, err, out)
				return
			}
		}
	})
	require.NoError(t, build.err)
	return filepath.Join(build.dir, name, "bootstrap")
}

// invocation is a request to a sandbox and where its answer goes.
type invocation struct {
	event  []byte
	answer chan answer
}

type answer struct {
	body []byte
	err  error
}

// sandbox is a Lambda program with the Runtime API that it asks for work. It takes one invocation at a time.
type sandbox struct {
	name    string // of the function
	api     *httptest.Server
	cmd     *exec.Cmd
	next    chan invocation
	ended   chan struct{} // the process is gone
	timeout time.Duration // of an invocation
	freezes bool          // it stands still while it has nothing in hand
	doomed  atomic.Bool   // it was killed by a test
	process atomic.Pointer[os.Process]

	mu   sync.Mutex
	hand map[string]invocation
	n    int
}

var errSandbox = errors.New("the sandbox is gone")

func (c *cloud) startSandbox(t *testing.T, name string, more ...string) *sandbox {
	t.Helper()
	s := &sandbox{name: name, next: make(chan invocation), ended: make(chan struct{}), hand: map[string]invocation{}, freezes: c.freezes,
		timeout: time.Duration(c.template.Resources[name+"Function"].Properties.Timeout) * time.Second}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", s.serveNext)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/{what}", s.serveAnswer)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	s.api = httptest.NewServer(mux)
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), program(t, name))
	s.cmd.Env = slices.Concat(c.environment(name), []string{"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(s.api.URL, "http://"),
		"AWS_LAMBDA_FUNCTION_NAME=" + name, "AWS_LAMBDA_LOG_STREAM_NAME=e2e"}, more)
	s.cmd.Stdout, s.cmd.Stderr = c.log, c.log
	require.NoError(t, s.cmd.Start())
	s.process.Store(s.cmd.Process)
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boxes[s] = true
	return s
}

func (s *sandbox) serveNext(w http.ResponseWriter, r *http.Request) {
	if s.freezes {
		s.signal(syscall.SIGSTOP)
	}
	select {
	case i := <-s.next:
		s.mu.Lock()
		s.n++
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", s.n)
		s.hand[id] = i
		s.mu.Unlock()
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", id)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(s.timeout).UnixMilli()))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+region+":000000000000:function:e2e")
		w.Header().Set("Content-Type", "application/json")
		if s.freezes {
			s.signal(syscall.SIGCONT)
		}
		_, _ = w.Write(i.event)
	case <-r.Context().Done():
	case <-s.ended:
	}
}

func (s *sandbox) serveAnswer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil && r.PathValue("what") != "response" {
		err = fmt.Errorf("the function failed: %s", body)
	}
	s.mu.Lock()
	i, ok := s.hand[r.PathValue("id")]
	delete(s.hand, r.PathValue("id"))
	s.mu.Unlock()
	if ok {
		i.answer <- answer{body, err}
	}
	w.WriteHeader(http.StatusAccepted)
}

// invoke gives an event to the program and waits for its answer; errSandbox if the process, or ctx, ends before it comes.
func (s *sandbox) invoke(ctx context.Context, event []byte) ([]byte, error) {
	i := invocation{event, make(chan answer, 1)}
	select {
	case s.next <- i:
	case <-s.ended:
		return nil, errSandbox
	case <-ctx.Done():
		return nil, errSandbox
	}
	select {
	case a := <-i.answer:
		return a.body, a.err
	case <-s.ended:
		return nil, errSandbox
	case <-ctx.Done():
		return nil, errSandbox
	}
}

// busy tells whether it lives and has something in hand.
func (s *sandbox) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.hand) > 0 && !s.doomed.Load()
}

// signal is of no effect where the process has ended, or has only just been started.
func (s *sandbox) signal(what os.Signal) {
	if p := s.process.Load(); p != nil {
		_ = p.Signal(what)
	}
}

// doom kills the process at once, whatever it does, as Lambda does with a sandbox. The poller puts another in its place.
func (s *sandbox) doom() {
	s.doomed.Store(true)
	s.signal(os.Kill)
}

// remove ends a sandbox and all that belongs to it.
func (c *cloud) remove(s *sandbox) {
	s.doom()
	<-s.ended
	s.api.CloseClientConnections()
	s.api.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.boxes, s)
}
