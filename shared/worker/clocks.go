package worker

import (
	"fmt"
	"strings"
	"time"

	"recompose/shared/telemetry/health"
	"recompose/shared/workspace"
)

// Called records an API call. The client calls it after each.
func (w *Worker) Called(i workspace.CallInfo) {
	w.metrics.Called(i)
	w.logSkew()
}

// maxSkew is the difference of clocks that is not reported.
const maxSkew = time.Minute

// skew describes the difference of this machine's clock from those of the service and of NATS; "" if it is small.
func (w *Worker) skew() string {
	api, q, _ := w.running()
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
func (w *Worker) clocks() health.Check {
	skew := w.skew()
	if api, _, _ := w.running(); skew == "" && api != nil {
		if _, known := api.ServiceClock(); !known {
			return health.Check{Name: "clocks", OK: true,
				Detail: "the clock of the Workspace service is not known before its first answer"}
		}
	}
	return health.Check{Name: "clocks", OK: skew == "", Detail: skew}
}

// logSkew logs when the clocks begin or cease to differ.
func (w *Worker) logSkew() {
	skew := w.skew()
	w.mu.Lock()
	changed := skew != w.skewed
	w.skewed = skew
	w.mu.Unlock()
	switch {
	case !changed:
	case skew != "":
		w.o.Log.Warn("clocks differ", "detail", skew)
	default:
		w.o.Log.Info("clocks agree")
	}
}
