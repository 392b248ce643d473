package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/telemetry/health"
	"recompose/shared/telemetry/metrics"
	"recompose/shared/workspace"
)

// stuckAfter is the time of one turn of a loop after which the worker counts as not alive.
const stuckAfter = 5 * time.Minute

// monitor serves health and metrics of a worker over HTTP. It starts before the connection to NATS, so that a scheduler
// sees why a worker is not ready.
type monitor struct {
	metrics *metrics.Metrics
	server  *health.Server
	log     *slog.Logger
	lists   *safety.Files
	key     workerKey

	mu     sync.Mutex
	skewed string    // latest logged difference of clocks
	waited error     // why the worker is not ready
	since  time.Time // of waited
	api    *workspace.Client
	queue  *natsqueue.Queue
	safe   *safety.Safety
	ledger ledger.Store
}

// anyPort is the address of a worker whose default port is in use.
const anyPort = "127.0.0.1:0"

// newMonitor listens on the configured address. If the default port is in use, most likely by another worker on this
// machine, it takes a free one.
func newMonitor(ctx context.Context, c *config.Config, log *slog.Logger) (*monitor, error) {
	w := &monitor{log: log, lists: listFiles(c, log)}
	w.metrics = metrics.New(metrics.Options{Version: thisBuild().Version, Functions: functions.Names()})
	w.metrics.Watch(w.parts, w.ready)
	options := health.Options{
		Alive: w.alive, Ready: w.ready, Metrics: w.metrics.Handler(),
		Hosts: strings.FieldsFunc(c.HTTPHosts, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }),
	}
	var err error
	if w.server, err = health.Serve(ctx, c.HTTPListen, options); err == nil {
		return w, nil
	}
	if !c.IsDefault(health.Variable) {
		return nil, nothingDone(err)
	}
	var failed error
	if w.server, failed = health.Serve(ctx, anyPort, options); failed != nil {
		log.WarnContext(ctx, "this worker serves no health and metrics", "error", failed)
	} else {
		log.WarnContext(ctx, "health and metrics are not on the default port", "at", w.server.URL(), "error", err)
	}
	return w, nil
}

func (w *monitor) close() { _ = w.server.Close() }

// called is called by the client after each API call.
func (w *monitor) called(i workspace.CallInfo) {
	w.metrics.Called(i)
	w.logSkew()
}

// maxSkew is the difference of clocks that is not reported.
const maxSkew = time.Minute

// skew describes the difference of this machine's clock from those of the service and of NATS; "" if it is small.
func (w *monitor) skew() string {
	api, q, _ := w.parts()
	if api == nil || q == nil {
		return ""
	}
	var off []string
	for _, c := range []struct {
		whose string
		ahead time.Duration
	}{{"the Workspace service", api.Skew()}, {"the NATS server", q.Skew()}} {
		word := "ahead"
		if c.ahead < 0 {
			word = "behind"
		}
		if c.ahead.Abs() > maxSkew {
			off = append(off, fmt.Sprintf("the clock of %s is %v %s", c.whose, c.ahead.Abs().Round(time.Minute), word))
		}
	}
	if len(off) == 0 {
		return ""
	}
	return strings.Join(off, " and ") + " of this machine's; recompose uses theirs; set the wrong clock by NTP"
}

// clocks reports whether this machine's clock agrees with the others. Signatures and ages use the service's clock, so
// nothing is lost while they differ; but logs and output use this one.
func (w *monitor) clocks() health.Check {
	skew := w.skew()
	if api, _, _ := w.parts(); skew == "" && api != nil {
		if _, known := api.ServiceClock(); !known {
			return health.Check{Name: "clocks", OK: true,
				Detail: "the clock of the Workspace service is not known before its first answer"}
		}
	}
	return health.Check{Name: "clocks", OK: skew == "", Detail: skew}
}

// logSkew logs when the clocks begin or cease to differ.
func (w *monitor) logSkew() {
	skew := w.skew()
	w.mu.Lock()
	changed := skew != w.skewed
	w.skewed = skew
	w.mu.Unlock()
	switch {
	case !changed:
	case skew != "":
		w.log.Warn("clocks differ", "detail", skew)
	default:
		w.log.Info("clocks agree")
	}
}

// hooks connects a queue to the metrics, the status and the key of the worker. The key must be open before the queue
// runs.
func (w *monitor) hooks(o natsqueue.Options) natsqueue.Options {
	o.Observe, o.OnLate, o.Key = w.metrics.Handled, w.metrics.TimerLate, &w.key
	o.Worker, o.Status = workerName(), w.status
	return o
}

// works sets the parts of a worker that is ready.
func (w *monitor) works(api *workspace.Client, q *natsqueue.Queue, safe *safety.Safety, l ledger.Store) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.api, w.queue, w.safe, w.ledger = api, q, safe, l
}

// waits records why the worker is not ready.
func (w *monitor) waits(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waited == nil {
		w.since = time.Now()
	}
	w.waited = err
}

// notYet returns why the worker is not ready.
func (w *monitor) notYet() string {
	_, err := w.whyNotYet()
	if err == nil {
		return "not connected, or not set up yet"
	}
	return "not set up yet, waiting for it: " + escapeLines(err.Error())
}

func (w *monitor) whyNotYet() (since time.Time, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since, w.waited
}

func (w *monitor) parts() (*workspace.Client, *natsqueue.Queue, *safety.Safety) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.api, w.queue, w.safe
}

// alive reports whether the loops run.
func (w *monitor) alive(context.Context) []health.Check {
	_, q, _ := w.parts()
	loops := health.Check{Name: "loops", OK: true, Detail: "not started yet"}
	if q == nil {
		return []health.Check{loops}
	}
	if s := q.Status(); s.Running {
		loops.Detail = ""
		if late := time.Since(s.LastRound); s.Stopped == nil && !s.LastRound.IsZero() && late > stuckAfter {
			loops.OK = false
			loops.Detail = fmt.Sprintf("a loop that takes messages has been stuck for %v: restart this worker",
				late.Round(time.Second))
		}
	}
	return []health.Check{loops}
}

// ready reports whether the worker can handle messages.
func (w *monitor) ready(ctx context.Context) []health.Check {
	_, q, safe := w.parts()
	if q == nil {
		return []health.Check{{Name: "nats", Detail: w.notYet()}, w.allowed(ctx)}
	}
	broker := health.Check{Name: "nats", OK: true}
	if err := q.Check(ctx); err != nil {
		broker.OK, broker.Detail = false, escapeLines(err.Error())
	}
	s := q.Status()
	worker := health.Check{Name: "worker", OK: s.Running}
	switch {
	case s.Stopped != nil:
		worker.OK = false
		worker.Detail = fmt.Sprintf("takes no messages since %s; %s: %s", s.Since.UTC().Format(time.RFC3339),
			refusalAdvice(s.Stopped), escapeLines(s.Stopped.Error()))
	case !s.Running:
		worker.Detail = "not running yet"
	}
	checks := []health.Check{broker, worker, w.clocks(), w.allowed(ctx)}
	if safe != nil && s.Connected {
		writes := health.Check{Name: "writes", OK: true}
		f, err := safe.Frozen(ctx)
		switch {
		case err != nil:
			writes.OK, writes.Detail = false, escapeLines(err.Error())
		case f != nil:
			writes.Detail = fmt.Sprintf("frozen since %s by %s: %s; recompose thaw ends it", f.At.Format(time.RFC3339),
				escapeLines(f.By), escapeLines(f.Reason))
		default:
			if other := otherService(ctx, safe); other != "" {
				writes.OK, writes.Detail = false, escapeLines(other)
			}
		}
		checks = append(checks, writes, w.ledgerFit(ctx))
	}
	return append(checks, w.service(ctx))
}

// describe describes which desktops may be rebuilt. It knows only the files until the store of the deployment is open.
func (w *monitor) describe(ctx context.Context) (string, error) {
	_, q, safe := w.parts()
	if safe == nil {
		text, err := w.lists.Describe()
		return text + " by the files of this worker; the lists of the deployment are not read yet", err
	}
	if !q.Status().Connected {
		return "", errors.New("the lists of the deployment cannot be read: not connected to NATS")
	}
	return safe.Describe(ctx)
}

// allowed reports which desktops may be rebuilt: none while a list cannot be read.
func (w *monitor) allowed(ctx context.Context) health.Check {
	text, err := w.describe(ctx)
	if err != nil {
		return health.Check{Name: "desktops", Detail: escapeLines("no desktop may be rebuilt: " + placeOf(err))}
	}
	return health.Check{Name: "desktops", OK: true, Detail: escapeLines(text)}
}

// printLists prints which desktops may be rebuilt, at the start of a worker.
func (w *monitor) printLists(ctx context.Context, out io.Writer) {
	text, err := w.describe(ctx)
	if err != nil {
		w.log.Error("all writes wait until the list of desktops can be read", "error", err)
		text = "no desktop may be rebuilt until this list can be read: " + err.Error()
	}
	printLine(out, "%s", escape(text))
}

// ledgerFit reports whether the ledger has all its records.
func (w *monitor) ledgerFit(ctx context.Context) health.Check {
	w.mu.Lock()
	l := w.ledger
	w.mu.Unlock()
	if err := l.Fit(ctx, ""); err != nil {
		return health.Check{Name: "ledger", Detail: escapeLines(err.Error())}
	}
	return health.Check{Name: "ledger", OK: true}
}

const (
	unreachedFor = time.Minute     // time until a worker counts as not ready
	probeEvery   = time.Minute     // period of probes of a service that does not answer
	probeWithin  = 3 * time.Second // shorter than the timeout of usual health checks
)

const unreachable = "no answer; check the address, DNS, TLS and HTTPS_PROXY (RECOMPOSE_PROXY=off: no proxy)"

// reached is called by the client when the service ceases to answer, and with nil when it recovers.
func (w *monitor) reached(why error) {
	if why == nil {
		w.log.Info("the Workspace service answers")
		return
	}
	w.log.Warn("the Workspace service cannot be reached: "+unreachable, "error", why)
}

// service reports whether the service answers. While it does not, it is probed once a minute, because a worker without
// messages makes no calls.
func (w *monitor) service(ctx context.Context) health.Check {
	api, _, _ := w.parts()
	u := api.Unreached()
	if u != nil && u.For >= unreachedFor && u.Latest >= probeEvery {
		ctx, cancel := context.WithTimeout(ctx, probeWithin)
		defer cancel()
		_ = api.Probe(ctx) // Unreached has the result
		u = api.Unreached()
	}
	if u == nil {
		return health.Check{Name: "service", OK: true}
	}
	return health.Check{
		Name: "service", OK: u.For < unreachedFor,
		Detail: fmt.Sprintf("the Workspace service cannot be reached since %s: %s: %s", u.Since.Format(time.RFC3339),
			unreachable, escapeLines(u.Why.Error())),
	}
}
