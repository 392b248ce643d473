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

// stuckAfter is how long a loop may take for one turn before the worker is not taken for alive.
const stuckAfter = 5 * time.Minute

// watch is what a worker shows of itself over HTTP. It is there before NATS is, so that a scheduler sees why a worker
// does not work yet.
type watch struct {
	metrics *metrics.Metrics
	server  *health.Server
	log     *slog.Logger
	lists   *safety.Files
	key     workerKey

	mu     sync.Mutex
	skewed string    // what was last logged of the clocks
	waited error     // why the queue does not work yet
	since  time.Time // of waited
	api    *workspace.Client
	queue  *natsqueue.Queue
	safe   *safety.Safety
	ledger ledger.Store
}

// anyPort is where a worker listens whose default address is taken.
const anyPort = "127.0.0.1:0"

// newWatch listens where the settings say. Where they say nothing and the port is taken, most likely by another worker on
// this machine, it takes a free one.
func newWatch(ctx context.Context, c *config.Config, log *slog.Logger) (*watch, error) {
	w := &watch{log: log, lists: listFiles(c, log), metrics: metrics.New(metrics.Options{Version: thisBuild().Version, Functions: functions.Names()})}
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
	var none error
	if w.server, none = health.Serve(ctx, anyPort, options); none != nil {
		log.WarnContext(ctx, "this worker serves no health and metrics", "error", none)
	} else {
		log.WarnContext(ctx, "health and metrics are at another port than the usual one", "at", w.server.URL(), "error", err)
	}
	return w, nil
}

func (w *watch) close() { _ = w.server.Close() }

// called is the hook of the client.
func (w *watch) called(i workspace.CallInfo) {
	w.metrics.Called(i)
	w.logSkew()
}

// greatSkew is how far a clock must be off to be reported.
const greatSkew = time.Minute

// skew describes how far this machine's clock is off from those that messages and jobs go by; "" where it is not.
func (w *watch) skew() string {
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
		if c.ahead.Abs() > greatSkew {
			off = append(off, fmt.Sprintf("the clock of %s is %v %s", c.whose, c.ahead.Abs().Round(time.Minute), word))
		}
	}
	if len(off) == 0 {
		return ""
	}
	return strings.Join(off, " and ") + " of this machine's; recompose goes by theirs; set the wrong clock by NTP"
}

// clocks reports whether this machine's clock agrees with the others. Calls are signed and times compared by the service's
// clock, so nothing is lost while they differ; but one of the clocks is wrong, and what is logged and shown goes by it.
func (w *watch) clocks() health.Check {
	skew := w.skew()
	if api, _, _ := w.parts(); skew == "" && api != nil {
		if _, known := api.ServiceClock(); !known {
			return health.Check{Name: "clocks", OK: true, Detail: "the clock of the Workspace service is not known before its first answer"}
		}
	}
	return health.Check{Name: "clocks", OK: skew == "", Detail: skew}
}

// logSkew logs the clocks when they begin or cease to differ.
func (w *watch) logSkew() {
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

// hooks lets a queue tell what it does, and ask the key of the worker, which must be opened before the queue runs.
func (w *watch) hooks(o natsqueue.Options) natsqueue.Options {
	o.Observe, o.OnLate, o.Key = w.metrics.Handled, w.metrics.TimerLate, &w.key
	o.Worker, o.Status = workerName(), w.status
	return o
}

// works tells what the worker works with.
func (w *watch) works(api *workspace.Client, q *natsqueue.Queue, safe *safety.Safety, l ledger.Store) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.api, w.queue, w.safe, w.ledger = api, q, safe, l
}

// waits records why the worker does not work yet.
func (w *watch) waits(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waited == nil {
		w.since = time.Now()
	}
	w.waited = err
}

// notYet is why the worker does not work yet.
func (w *watch) notYet() string {
	_, err := w.whyNotYet()
	if err == nil {
		return "not connected, or not set up yet"
	}
	return "not set up yet, waiting for it: " + clean(err.Error())
}

func (w *watch) whyNotYet() (since time.Time, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since, w.waited
}

func (w *watch) parts() (*workspace.Client, *natsqueue.Queue, *safety.Safety) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.api, w.queue, w.safe
}

// alive tells whether the loops turn.
func (w *watch) alive(context.Context) []health.Check {
	_, q, _ := w.parts()
	loops := health.Check{Name: "loops", OK: true, Detail: "not begun yet"}
	if q == nil {
		return []health.Check{loops}
	}
	if s := q.Status(); s.Running {
		loops.Detail = ""
		if late := time.Since(s.Turned); s.Stopped == nil && !s.Turned.IsZero() && late > stuckAfter {
			loops.OK = false
			loops.Detail = fmt.Sprintf("a loop that takes messages has not come round for %v: restart this worker", late.Round(time.Second))
		}
	}
	return []health.Check{loops}
}

// ready tells whether the worker can work.
func (w *watch) ready(ctx context.Context) []health.Check {
	_, q, safe := w.parts()
	if q == nil {
		return []health.Check{{Name: "nats", Detail: w.notYet()}, w.allowed(ctx)}
	}
	broker := health.Check{Name: "nats", OK: true}
	if err := q.Check(ctx); err != nil {
		broker.OK, broker.Detail = false, clean(err.Error())
	}
	s := q.Status()
	worker := health.Check{Name: "worker", OK: s.Running}
	switch {
	case s.Stopped != nil:
		worker.OK = false
		worker.Detail = fmt.Sprintf("takes no messages since %s; %s: %s", s.Since.UTC().Format(time.RFC3339), afterRefusal(s.Stopped), clean(s.Stopped.Error()))
	case !s.Running:
		worker.Detail = "does not run yet"
	}
	checks := []health.Check{broker, worker, w.clocks(), w.allowed(ctx)}
	if safe != nil && s.Connected {
		writes := health.Check{Name: "writes", OK: true}
		f, err := safe.Frozen(ctx)
		switch {
		case err != nil:
			writes.OK, writes.Detail = false, clean(err.Error())
		case f != nil:
			writes.Detail = fmt.Sprintf("frozen since %s by %s: %s; recompose thaw ends it", f.At.Format(time.RFC3339), clean(f.By), clean(f.Reason))
		default:
			if other := otherService(ctx, safe); other != "" {
				writes.OK, writes.Detail = false, clean(other)
			}
		}
		checks = append(checks, writes, w.remembers(ctx))
	}
	return append(checks, w.service(ctx))
}

// describe reports which desktops may be rebuilt. Before the store of the deployment is open, it knows the files alone.
func (w *watch) describe(ctx context.Context) (string, error) {
	_, q, safe := w.parts()
	if safe == nil {
		text, err := w.lists.Describe()
		return text + ", by the files of this worker; the lists of the deployment are not read yet", err
	}
	if !q.Status().Connected {
		return "", errors.New("the lists of the deployment cannot be read: not connected to NATS")
	}
	return safe.Describe(ctx)
}

// allowed reports which desktops may be rebuilt. While a list cannot be read, none may be.
func (w *watch) allowed(ctx context.Context) health.Check {
	text, err := w.describe(ctx)
	if err != nil {
		return health.Check{Name: "desktops", Detail: clean("no desktop may be rebuilt: " + placeOf(err))}
	}
	return health.Check{Name: "desktops", OK: true, Detail: clean(text)}
}

// sayLists prints which desktops may be rebuilt, at the start of a worker.
func (w *watch) sayLists(ctx context.Context, out io.Writer) {
	text, err := w.describe(ctx)
	if err != nil {
		w.log.Error("all writes wait until the list of desktops can be read", "error", err)
		text = "no desktop may be rebuilt until this list can be read: " + err.Error()
	}
	say(out, "%s", foreign(text))
}

// remembers reports whether the ledger has all its records.
func (w *watch) remembers(ctx context.Context) health.Check {
	w.mu.Lock()
	l := w.ledger
	w.mu.Unlock()
	if err := l.Fit(ctx, ""); err != nil {
		return health.Check{Name: "ledger", Detail: clean(err.Error())}
	}
	return health.Check{Name: "ledger", OK: true}
}
