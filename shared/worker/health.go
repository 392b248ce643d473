package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"recompose/shared/printable"
	"recompose/shared/telemetry/health"
	"recompose/shared/workspace"
)

// stuckAfter is the time of one turn of a loop after which the worker counts as not alive.
const stuckAfter = 5 * time.Minute

// notYet returns why the worker is not ready.
func (w *Worker) notYet() string {
	_, err := w.whyNotYet()
	if err == nil {
		return "not connected, or not set up yet"
	}
	return "not set up yet, waiting for it: " + printable.Lines(err.Error())
}

// alive reports whether the loops run.
func (w *Worker) alive(context.Context) []health.Check {
	_, q, _ := w.running()
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
func (w *Worker) ready(ctx context.Context) []health.Check {
	api, q, safe := w.running()
	if q == nil {
		return []health.Check{{Name: "nats", Detail: w.notYet()}, w.allowed(ctx)}
	}
	broker := health.Check{Name: "nats", OK: true}
	if err := q.Check(ctx); err != nil {
		broker.OK, broker.Detail = false, printable.Lines(err.Error())
	}
	s := q.Status()
	worker := health.Check{Name: "worker", OK: s.Running}
	switch {
	case s.Stopped != nil:
		worker.OK = false
		worker.Detail = fmt.Sprintf("takes no messages since %s; %s: %s", s.Since.UTC().Format(time.RFC3339),
			refusalAdvice(s.Stopped), printable.Lines(s.Stopped.Error()))
	case !s.Running:
		worker.Detail = "not running yet"
	}
	checks := []health.Check{broker, worker, w.clocks(), w.allowed(ctx)}
	if safe != nil && s.Connected {
		writes := health.Check{Name: "writes", OK: true}
		f, err := safe.Frozen(ctx)
		switch {
		case err != nil:
			writes.OK, writes.Detail = false, printable.Lines(err.Error())
		case f != nil:
			writes.Detail = fmt.Sprintf("frozen since %s by %s: %s; recompose thaw ends it", f.At.Format(time.RFC3339),
				printable.Lines(f.By), printable.Lines(f.Reason))
		default:
			if other := otherService(ctx, safe); other != "" {
				writes.OK, writes.Detail = false, printable.Lines(other)
			}
		}
		checks = append(checks, writes, w.ledgerFit(ctx))
	}
	return append(checks, w.service(ctx, api))
}

// describe describes which desktops may be rebuilt. It knows only the files until the store of the deployment is open.
func (w *Worker) describe(ctx context.Context) (string, error) {
	_, q, safe := w.running()
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
func (w *Worker) allowed(ctx context.Context) health.Check {
	text, err := w.describe(ctx)
	if err != nil {
		return health.Check{Name: "desktops", Detail: printable.Lines("no desktop may be rebuilt: " + placeOf(err))}
	}
	return health.Check{Name: "desktops", OK: true, Detail: printable.Lines(text)}
}

// Desktops describes which desktops may be rebuilt, at the start of a worker.
func (w *Worker) Desktops(ctx context.Context) string {
	text, err := w.describe(ctx)
	if err != nil {
		w.o.Log.Error("all writes wait until the list of desktops can be read", "error", err)
		text = "no desktop may be rebuilt until this list can be read: " + err.Error()
	}
	return text
}

// ledgerFit reports whether the ledger has all its records.
func (w *Worker) ledgerFit(ctx context.Context) health.Check {
	if err := w.parts.Ledger.Fit(ctx, ""); err != nil {
		return health.Check{Name: "ledger", Detail: printable.Lines(err.Error())}
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
func (w *Worker) reached(why error) {
	if why == nil {
		w.o.Log.Info("the Workspace service answers")
		return
	}
	w.o.Log.Warn("the Workspace service cannot be reached: "+unreachable, "error", why)
}

// service reports whether the service answers. While it does not, it is probed once a minute, because a worker without
// messages makes no calls.
func (w *Worker) service(ctx context.Context, api *workspace.Client) health.Check {
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
			unreachable, printable.Lines(u.Why.Error())),
	}
}
