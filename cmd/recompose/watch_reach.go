package main

import (
	"context"
	"fmt"
	"time"

	"recompose/shared/telemetry/health"
)

const (
	unreachedFor = time.Minute     // then a worker is not ready
	probeEvery   = time.Minute     // how often readiness itself calls a service that does not answer
	probeWithin  = 3 * time.Second // so that the page is there in time
)

const unreachable = "no answer; check the address, DNS, TLS and HTTPS_PROXY (RECOMPOSE_PROXY=off: no proxy)"

// reached is the hook of the client: why the service does not answer, nil when it does once more.
func (w *watch) reached(why error) {
	if why == nil {
		w.log.Info("the Workspace service answers")
		return
	}
	w.log.Warn("the Workspace service cannot be reached: "+unreachable, "error", why)
}

// service reports whether the service answers. While it does not, it is called once a minute: a worker without messages
// would not notice that it does.
func (w *watch) service(ctx context.Context) health.Check {
	api, _, _ := w.parts()
	u := api.Unreached()
	if u != nil && u.For >= unreachedFor && u.Latest >= probeEvery {
		ctx, cancel := context.WithTimeout(ctx, probeWithin)
		defer cancel()
		_ = api.Probe(ctx) // Unreached has its end
		u = api.Unreached()
	}
	if u == nil {
		return health.Check{Name: "service", OK: true}
	}
	return health.Check{
		Name: "service", OK: u.For < unreachedFor,
		Detail: fmt.Sprintf("the Workspace service cannot be reached since %s: %s: %s", u.Since.Format(time.RFC3339), unreachable, clean(u.Why.Error())),
	}
}
