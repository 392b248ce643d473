// Package metrics counts what a worker does, for Prometheus. It is the only package that imports the client library. It
// has a registry of its own. Labels take their values from short lists: never an id, a name or an address.
package metrics

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/workspace"
)

// Options are the options of New.
type Options struct {
	Version   string   // of the program
	Functions []string // tokens of the functions
}

// Metrics are the metrics of one process. All methods that count may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry
	known    map[string][]string // label to its values

	messages, redeliveries   *prometheus.CounterVec
	handling                 *prometheus.HistogramVec
	failed, jobs, dead       *prometheus.CounterVec
	halted                   *prometheus.CounterVec
	calls                    *prometheus.CounterVec
	callSeconds              *prometheus.HistogramVec
	unknown, adopted, resent prometheus.Counter
	late                     prometheus.Counter
}

const namespace = "recompose"

// New makes the metrics. Each counter begins with zero for all values of its labels, so that an alarm sees the first
// increase.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), known: map[string][]string{
		"function": o.Functions, "end": ends, "kind": kinds, "outcome": outcomes, "operation": operations, "class": classes,
		"why": whys,
	}}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	m.messages = counters("messages_total", "Deliveries handled, by function and how each ended.", "function", "end")
	m.redeliveries = counters("message_redeliveries_total", "Deliveries that were not the first of their message.", "function")
	m.handling = histograms("message_handling_seconds", "Time to handle a delivery and store its result.",
		[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}, "function")
	m.failed = counters("commands_failed_total", "Commands that ended in command.failed, by function and kind.", "function", "kind")
	m.jobs = counters("jobs_completed_total", "Jobs ended in job.completed, by outcome.", "outcome")
	m.halted = counters("rollouts_halted_total", "Rollouts that halted, by why.", "why")
	m.dead = counters("dead_letters_total", "Messages given up, by function and class.", "function", "class")
	m.calls = counters("api_calls_total", "HTTP calls of the service, by operation and status; status none is no answer.", "operation", "status")
	m.callSeconds = histograms("api_call_seconds", "Time from sending a call to its whole answer.",
		[]float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30}, "operation")
	m.unknown = counter("writes_unknown_total", "Writes with an unknown outcome, whose job was looked for.")
	m.adopted = counter("writes_adopted_total", "Jobs found at the service and adopted by the command that must have started them.")
	m.resent = counter("writes_resent_total", "Writes sent once more after their first call was proved absent.")
	m.late = counter("timers_late_total", "Delayed messages that the server did not move in time and this worker moved.")
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info", Help: "1, with the version of the program."}, []string{"version"})
	info.WithLabelValues(o.Version).Set(1)
	m.registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.zero()
	return m
}

func (m *Metrics) zero() {
	for _, f := range m.known["function"] {
		m.redeliveries.WithLabelValues(f)
		m.handling.WithLabelValues(f)
		for _, end := range m.known["end"] {
			m.messages.WithLabelValues(f, end)
		}
		for _, kind := range m.known["kind"] {
			m.failed.WithLabelValues(f, kind)
		}
		for _, class := range m.known["class"] {
			m.dead.WithLabelValues(f, class)
		}
	}
	for _, outcome := range m.known["outcome"] {
		m.jobs.WithLabelValues(outcome)
	}
	for _, why := range m.known["why"] {
		m.halted.WithLabelValues(why)
	}
	for _, operation := range m.known["operation"] {
		m.calls.WithLabelValues(operation, "200")
		m.callSeconds.WithLabelValues(operation)
	}
}

// value returns the value of a label, or "other" if it is not in the label's list.
func (m *Metrics) value(label, value string) string {
	if slices.Contains(m.known[label], value) {
		return value
	}
	return other
}

// Handled counts a delivery that a worker handled.
func (m *Metrics) Handled(h natsqueue.Handled) {
	function := m.value("function", h.Function)
	m.handling.WithLabelValues(function).Observe(h.Took.Seconds())
	if h.Delivery > 1 {
		m.redeliveries.WithLabelValues(function).Inc()
	}
	end := endOf[h.Verdict]
	for _, e := range h.Events {
		var d struct {
			Error   struct{ Kind string } // of command.failed
			Outcome string                // of job.completed
			Why     string                // of rollout.halted
		}
		switch e.Type {
		case events.TypeCommandFailed:
			_ = json.Unmarshal(e.Data, &d) // this program's own event; without a kind it counts as other
			m.failed.WithLabelValues(function, m.value("kind", d.Error.Kind)).Inc()
		case events.TypeJobCompleted:
			_ = json.Unmarshal(e.Data, &d)
			m.jobs.WithLabelValues(m.value("outcome", d.Outcome)).Inc()
		case events.TypeRolloutHalted:
			_ = json.Unmarshal(e.Data, &d)
			m.halted.WithLabelValues(m.value("why", d.Why)).Inc()
		}
		end = cmp.Or(end, short(e.Type))
	}
	m.messages.WithLabelValues(function, m.value("end", cmp.Or(end, endNothing))).Inc()
	if h.Dead != "" {
		m.dead.WithLabelValues(function, m.value("class", h.Dead)).Inc()
	}
}

// short returns the name of an event type: job.completed of recompose.event.job.completed.v1.
func short(typ string) string {
	name := strings.TrimPrefix(typ, "recompose.event.")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return name
}

// Called counts an HTTP call of the service.
func (m *Metrics) Called(i workspace.CallInfo) {
	operation, status := m.value("operation", i.Operation), other
	switch {
	case i.Status == 0:
		status = "none"
	case i.Status >= 100 && i.Status <= 599:
		status = strconv.Itoa(i.Status)
	}
	m.calls.WithLabelValues(operation, status).Inc()
	m.callSeconds.WithLabelValues(operation).Observe(i.Duration.Seconds())
}

// Write counts a result of the search for a lost call: unknown, adopted or resent.
func (m *Metrics) Write(result string) {
	switch result {
	case "unknown":
		m.unknown.Inc()
	case "adopted":
		m.adopted.Inc()
	case "resent":
		m.resent.Inc()
	}
}

// TimerLate counts a delayed message that the server did not move in time.
func (m *Metrics) TimerLate() { m.late.Inc() }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
