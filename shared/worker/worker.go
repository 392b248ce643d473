// Package worker is what a process needs around its functions to handle messages from NATS.
//
// A [Worker] serves health and metrics, opens the streams and stores of its deployment, records the service that it
// works on, and keeps the state of its access key. New, Client, SetUp, Claim, Start and Run are called in this order.
package worker

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/telemetry/health"
	"recompose/shared/telemetry/metrics"
	"recompose/shared/workspace"
)

// Options are the options of a worker.
type Options struct {
	Config  *config.Config
	Routes  []queue.Function // of all functions of the program
	Version string           // of the program
	Log     *slog.Logger
}

// Worker is a process that handles messages from NATS.
type Worker struct {
	o       Options
	owner   string // name in the ledger
	metrics *metrics.Metrics
	server  *health.Server
	lists   *safety.Files
	key     key

	// The goroutine that starts the worker sets these; all others read them with running.
	api   *workspace.Client
	parts *deployment.Parts
	safe  *safety.Safety

	mu      sync.Mutex
	started bool
	skewed  string    // latest logged difference of clocks
	waited  error     // why the worker is not ready
	since   time.Time // of waited
}

// anyPort is the address of a worker whose default port is in use.
const anyPort = "127.0.0.1:0"

// New returns a worker that serves health and metrics at the configured address. It does so before the connection to
// NATS, so that a scheduler sees why a worker is not ready. If the default port is in use, most likely by another worker
// on this machine, it takes a free one.
func New(ctx context.Context, o Options) (*Worker, error) {
	w := &Worker{o: o, owner: Owner(), lists: Lists(o.Config, o.Log)}
	names := make([]string, len(o.Routes))
	for i, f := range o.Routes {
		names[i] = f.Name
	}
	w.metrics = metrics.New(metrics.Options{Version: o.Version, Functions: names})
	w.metrics.Watch(w.running, w.ready)
	options := health.Options{
		Alive: w.alive, Ready: w.ready, Metrics: w.metrics.Handler(),
		Hosts: strings.FieldsFunc(o.Config.HTTPHosts, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }),
	}
	var err error
	if w.server, err = health.Serve(ctx, o.Config.HTTPListen, options); err == nil {
		return w, nil
	}
	if !o.Config.IsDefault(health.Variable) {
		return nil, err
	}
	var failed error
	if w.server, failed = health.Serve(ctx, anyPort, options); failed != nil {
		o.Log.WarnContext(ctx, "this worker serves no health and metrics", "error", failed)
	} else {
		o.Log.WarnContext(ctx, "health and metrics are not on the default port", "at", w.server.URL(), "error", err)
	}
	return w, nil
}

// Close ends the serving of health and metrics.
func (w *Worker) Close() { _ = w.server.Close() }

// URL is the address of health and metrics; "" if they are not served.
func (w *Worker) URL() string { return w.server.URL() }

// Lists returns the files with the allow and deny lists of a worker.
func Lists(c *config.Config, log *slog.Logger) *safety.Files {
	return &safety.Files{AllowDesktopsFile: c.AllowDesktopsFile, DenyDesktopsFile: c.DenyDesktopsFile, Log: log}
}

// Owner returns a name for this process in the ledger, by which people find the worker that holds a command.
func Owner() string {
	return name() + "/" + rand.Text()[:8]
}

// name returns the name of this process for people.
func name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// Waits records why the worker is not ready.
func (w *Worker) Waits(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waited == nil {
		w.since = time.Now()
	}
	w.waited = err
}

func (w *Worker) whyNotYet() (since time.Time, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since, w.waited
}

// running returns the parts of a worker that is started, else nil.
func (w *Worker) running() (*workspace.Client, *natsqueue.Queue, *safety.Safety) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started {
		return nil, nil, nil
	}
	return w.api, w.parts.Queue, w.safe
}
