package lambdaboot

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/telemetry/logging"
	"recompose/shared/workspace"
)

// namespace is the CloudWatch namespace of all metrics. CloudWatch makes metrics from each line in its embedded metric
// format (EMF) that a function prints.
const namespace = "recompose"

// Dimensions of metrics. The topic distinguishes the stacks of one account and region.
const (
	dimTopic   = "topic"
	dimKind    = "kind"    // of a command.failed
	dimOutcome = "outcome" // of a job
	dimClass   = "class"   // of a dead letter
	dimWhy     = "why"     // of a halt
)

// meter prints metrics, under the same names as /metrics of a worker. Its methods may be called concurrently.
type meter struct {
	out             io.Writer
	now             func() time.Time
	topic, function string
	// frozen reads the freeze in force; nil for a function that makes no writes, which may not read it.
	frozen func(context.Context) (*safety.Freeze, error)
	// unfit reports whether no write begins because of the ledger; nil for the same functions.
	unfit func() bool

	mu      sync.Mutex
	held    bool // in this invocation: whether a message was held for another reason than the key
	checked bool // in this invocation: whether the key was checked
	refused bool // in this invocation: whether the service refused the key
}

// directive defines the metrics of a line, by the specification of the embedded metric format.
type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []metric
}

type metric struct{ Name, Unit string }

// print prints one line: a metric for each value and each set of dimensions. Other properties can be searched for.
func (m *meter) print(values map[string]float64, dimensions [][]string, properties map[string]string) {
	d := directive{Namespace: namespace, Dimensions: dimensions}
	line := map[string]any{dimTopic: m.topic, logging.KeyFunction: m.function}
	for name, value := range properties {
		line[name] = value
	}
	for name, value := range values {
		unit := "None"
		switch {
		case strings.HasSuffix(name, "_total"):
			unit = "Count"
		case strings.HasSuffix(name, "_seconds"):
			unit = "Seconds"
		}
		d.Metrics = append(d.Metrics, metric{name, unit})
		line[name] = value
	}
	line["_aws"] = map[string]any{"Timestamp": m.now().UnixMilli(), "CloudWatchMetrics": []directive{d}}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err) // it has only texts and numbers
	}
	_, _ = m.out.Write(append(text, '\n')) // one write, so that lines of the log are not mixed into it
}

// count prints a count of one, for the topic and by a label.
func (m *meter) count(name, label, value string, more map[string]string) {
	properties := map[string]string{label: value}
	maps.Copy(properties, more)
	m.print(map[string]float64{name: 1}, [][]string{{dimTopic}, {dimTopic, label}}, properties)
}

// handled counts how messages ended.
func (m *meter) handled(_ context.Context, h awsqueue.Handled) {
	for _, e := range h.Events {
		chain := map[string]string{logging.KeyCorrelation: e.Correlation}
		switch e.Type {
		case events.TypeCommandFailed:
			var d events.CommandFailed
			if err := json.Unmarshal(e.Data, &d); err != nil || d.Error.Kind == "" {
				d.Error.Kind = events.KindInternal // this program's own event always has a kind
			}
			m.count("recompose_commands_failed_total", dimKind, d.Error.Kind, chain)
		case events.TypeJobCompleted:
			var d struct{ Outcome string }
			if err := json.Unmarshal(e.Data, &d); err != nil || d.Outcome == "" {
				d.Outcome = events.Lost
			}
			m.count("recompose_jobs_completed_total", dimOutcome, d.Outcome, chain)
		case events.TypeRolloutHalted:
			var d events.Rollout
			if err := json.Unmarshal(e.Data, &d); err != nil || d.Why == "" {
				d.Why = "unknown"
			}
			m.count("recompose_rollouts_halted_total", dimWhy, d.Why, chain)
		}
	}
	if h.Dead != "" {
		m.count("recompose_dead_letters_total", dimClass, h.Dead, nil)
	}
}

// recovered counts a result of the search for a lost call: unknown, adopted, resent.
func (m *meter) recovered(result string) {
	m.print(map[string]float64{"recompose_writes_" + result + "_total": 1}, [][]string{{dimTopic}}, nil)
}

// readWithin is how long the end of an invocation may wait for the table.
const readWithin = 2 * time.Second

// invoked prints the state at the end of an invocation: whether the service refuses the key, whether the function can
// work, and whether writes are frozen. It also prints a good state, because an alarm would not end otherwise.
func (m *meter) invoked(ctx context.Context) {
	m.mu.Lock()
	checked, refused, held := m.checked, m.refused, m.held
	m.checked, m.refused, m.held = false, false, false
	m.mu.Unlock()
	values := map[string]float64{}
	if checked {
		values["recompose_worker_stopped"] = number(refused)
	}
	if checked || held {
		values["recompose_check_passed"] = number(!held && (m.unfit == nil || !m.unfit()))
	}
	deadline, limited := ctx.Deadline()
	late := limited && time.Until(deadline) < 2*readWithin // Lambda must get the answer in time
	if m.frozen != nil && ctx.Err() == nil && !late {
		ctx, cancel := context.WithTimeout(ctx, readWithin)
		defer cancel()
		f, err := m.frozen(ctx)
		values["recompose_writes_frozen"] = number(f != nil || err != nil) // no write begins while the freeze cannot be read
		if err == nil {
			values["recompose_writes_frozen_seconds"] = 0
		}
		if f != nil {
			values["recompose_writes_frozen_seconds"] = max(0, m.now().Sub(f.At).Seconds())
		}
	}
	if len(values) > 0 {
		m.print(values, [][]string{{dimTopic}}, nil)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// hold records that a message was held.
func (m *meter) hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = true
}

// key records whether the service refuses the key.
func (m *meter) key(refused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checked, m.refused = true, m.refused || refused
}

// meteredKey is a key that reports to the meter why messages are held.
type meteredKey struct {
	queue.Key
	meter *meter
}

// Check calls Check of the key. Other errors than a refusal, such as an unreadable table or another service of the
// deployment, do not show the state of the key.
func (k meteredKey) Check(ctx context.Context) error {
	err := k.Key.Check(ctx)
	_, stored := errors.AsType[*safety.Refusal](err)
	_, later := errors.AsType[*queue.RetryError](err)
	switch {
	case err == nil || stored || workspace.IsUnauthorized(err):
		k.meter.key(err != nil)
	case !later: // else another sandbox is checking the key
		k.meter.hold()
	}
	return err
}

// Refuse calls Refuse of the key.
func (k meteredKey) Refuse(ctx context.Context, why error) {
	k.meter.key(true)
	k.Key.Refuse(ctx, why)
}
