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
	"regexp"
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

// names are the functions, as prefixes of their logical ids in template.yaml.
var names = functionIDs()

func functionIDs() (ids []string) {
	text, err := os.ReadFile("../../template.yaml")
	if err != nil {
		panic(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^  (\w+)Function:$`).FindAllStringSubmatch(string(text), -1) {
		ids = append(ids, m[1])
	}
	return ids
}

var build struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) { // no -parallel flag
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

// invocation is a request to a sandbox, and the channel for its answer.
type invocation struct {
	event  []byte
	answer chan answer
}

type answer struct {
	body []byte
	err  error
}

// sandbox is a Lambda program and its Runtime API. It handles one invocation at a time.
type sandbox struct {
	name    string // of the function
	api     *httptest.Server
	cmd     *exec.Cmd
	next    chan invocation
	ended   chan struct{} // closed when the process has ended
	timeout time.Duration // of an invocation
	freezes bool          // frozen between invocations
	asked   atomic.Bool   // it has asked for work: its cold start is over
	killed  atomic.Bool   // it was killed by a test
	process atomic.Pointer[os.Process]

	mu      sync.Mutex
	current map[string]invocation
	n       int
}

var errSandbox = errors.New("the sandbox has ended")

func (c *cloud) startSandbox(t *testing.T, name string, more ...string) *sandbox {
	t.Helper()
	s := &sandbox{name: name, next: make(chan invocation), ended: make(chan struct{}), current: map[string]invocation{}, freezes: c.freezes,
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
	s.asked.Store(true)
	if s.freezes {
		s.signal(syscall.SIGSTOP)
	}
	select {
	case i := <-s.next:
		s.mu.Lock()
		s.n++
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", s.n)
		s.current[id] = i
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
	i, ok := s.current[r.PathValue("id")]
	delete(s.current, r.PathValue("id"))
	s.mu.Unlock()
	if ok {
		i.answer <- answer{body, err}
	}
	w.WriteHeader(http.StatusAccepted)
}

// invoke gives an event to the program and waits for its answer. The error is errSandbox if the process or ctx ends
// first.
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

// busy reports whether the sandbox runs and handles an invocation.
func (s *sandbox) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.current) > 0 && !s.killed.Load()
}

// signal has no effect if the process has ended, or has only just been started.
func (s *sandbox) signal(what os.Signal) {
	if p := s.process.Load(); p != nil {
		_ = p.Signal(what)
	}
}

// kill ends the process at once, in any state, as Lambda does with a sandbox. The poller starts another in its place.
func (s *sandbox) kill() {
	s.killed.Store(true)
	s.signal(os.Kill)
}

// remove ends a sandbox and removes all its resources.
func (c *cloud) remove(s *sandbox) {
	s.kill()
	<-s.ended
	s.api.CloseClientConnections()
	s.api.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.boxes, s)
}
