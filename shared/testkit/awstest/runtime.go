package awstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Runtime is Lambda's Runtime API for one sandbox: it gives invocations to a program, one at a time.
type Runtime struct {
	http        *httptest.Server
	invocations chan *invocation
	ready       chan struct{}
	once        sync.Once

	mu     sync.Mutex
	number int
	open   map[string]*invocation
}

type invocation struct {
	event  []byte
	time   time.Duration
	answer chan invoked
}

type invoked struct {
	body []byte
	err  error
}

// NewRuntime starts an API; the caller closes it.
func NewRuntime() *Runtime {
	r := &Runtime{invocations: make(chan *invocation), ready: make(chan struct{}), open: map[string]*invocation{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", r.next)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", func(w http.ResponseWriter, q *http.Request) { r.answered(w, q, false) })
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", func(w http.ResponseWriter, q *http.Request) { r.answered(w, q, true) })
	r.http = httptest.NewServer(mux)
	return r
}

// Close stops the API.
func (r *Runtime) Close() {
	r.http.CloseClientConnections()
	r.http.Close()
}

// Address is the value of AWS_LAMBDA_RUNTIME_API.
func (r *Runtime) Address() string { return strings.TrimPrefix(r.http.URL, "http://") }

// Ready is closed when the program has requested its first invocation.
func (r *Runtime) Ready() <-chan struct{} { return r.ready }

func (r *Runtime) next(w http.ResponseWriter, q *http.Request) {
	r.once.Do(func() { close(r.ready) })
	var i *invocation
	select {
	case i = <-r.invocations:
	case <-q.Context().Done():
		return
	}
	r.mu.Lock()
	r.number++
	id := "request-" + strconv.Itoa(r.number)
	r.open[id] = i
	r.mu.Unlock()
	w.Header().Set("Lambda-Runtime-Aws-Request-Id", id)
	w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(i.time).UnixMilli(), 10))
	w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+Region+":"+Account+":function:test")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(i.event)
}

func (r *Runtime) answered(w http.ResponseWriter, q *http.Request, failed bool) {
	body, err := io.ReadAll(q.Body)
	r.mu.Lock()
	i := r.open[q.PathValue("id")]
	delete(r.open, q.PathValue("id"))
	r.mu.Unlock()
	if i == nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if failed {
		err = fmt.Errorf("the function failed: %s", body)
	}
	w.WriteHeader(http.StatusAccepted)
	i.answer <- invoked{body, err}
}

// Invoke gives an event to the program and returns its answer. The error is ErrTimeout if the time was over; Lambda
// ends a sandbox in that case.
func (r *Runtime) Invoke(ctx context.Context, event []byte, within time.Duration) ([]byte, error) {
	i := &invocation{event, within, make(chan invoked, 1)}
	select {
	case r.invocations <- i:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-i.answer:
		return a.body, a.err
	case <-time.After(within):
		return nil, ErrTimeout
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ErrTimeout is the error of an invocation that exceeded its timeout.
var ErrTimeout = errors.New("the task timed out")

// Sandbox is a running program with its own Runtime.
type Sandbox struct {
	*Runtime
	Process *os.Process

	ended chan struct{}
	err   error

	mu  sync.Mutex
	out strings.Builder
}

// Start runs a program in a sandbox. Its environment has Lambda's variables, the server's addresses, and env.
func (s *Server) Start(program string, env map[string]string, args ...string) (*Sandbox, error) {
	b := &Sandbox{Runtime: NewRuntime(), ended: make(chan struct{})}
	cmd := exec.Command(program, args...) //nolint:noctx,gosec // Close ends it; tests name the program
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "AWS_REGION=" + Region, "AWS_ENDPOINT_URL=" + s.URL,
		"AWS_ACCESS_KEY_ID=ASIATEST", "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=token", "AWS_LAMBDA_RUNTIME_API=" + b.Address(),
		"AWS_LAMBDA_FUNCTION_NAME=test", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_LOG_STREAM_NAME=stream", "_HANDLER=bootstrap",
	}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = b, b
	if err := cmd.Start(); err != nil {
		b.Runtime.Close()
		return nil, err
	}
	b.Process = cmd.Process
	go func() {
		b.err = cmd.Wait()
		close(b.ended)
	}()
	return b, nil
}

// Write keeps the program's output.
func (b *Sandbox) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

// Log returns the output of the program so far.
func (b *Sandbox) Log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// Terminate sends the program the signal to end.
func (b *Sandbox) Terminate() error { return b.Process.Signal(syscall.SIGTERM) }

// Ended is closed when the program has ended; then Err is set.
func (b *Sandbox) Ended() <-chan struct{} { return b.ended }

// Err is the error with which the program ended; nil is exit code 0.
func (b *Sandbox) Err() error { return b.err }

// Close ends the program if it still runs.
func (b *Sandbox) Close() {
	_ = b.Process.Kill()
	<-b.ended
	b.Runtime.Close()
}

// Config returns the configuration of a client of this server.
func (s *Server) Config() aws.Config {
	return aws.Config{
		Region: Region, BaseEndpoint: &s.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret"}, nil
		}),
	}
}

// Environment returns the variables that the template sets for a function, with the addresses of this server.
func (s *Server) Environment(function, table string) map[string]string {
	return map[string]string{
		"RECOMPOSE_TOPIC_ARN": TopicARN, "RECOMPOSE_QUEUE_URL": s.QueueURL(function), "RECOMPOSE_DEAD_LETTER_QUEUE_URL": s.QueueURL(function + "-dead"),
		"RECOMPOSE_TABLE": table, "RECOMPOSE_LOG_LEVEL": "debug",
	}
}
