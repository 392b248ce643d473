package emulator

import (
	"net/http"
	"time"
)

// throttle counts the calls of the current minute.
type throttle struct {
	since         time.Time
	reads, writes int
}

// take counts a call, or refuses it if there were too many this minute.
func (t *throttle) take(write bool, cfg Options, now time.Time) *refusal {
	if now.Sub(t.since) >= time.Minute || now.Before(t.since) {
		*t = throttle{since: now}
	}
	count, limit := &t.reads, cfg.ReadsPerMinute
	if write {
		count, limit = &t.writes, cfg.WritesPerMinute
	}
	if limit > 0 && *count >= limit {
		return refuse(http.StatusTooManyRequests, codeThrottled, "%s", throttleText(limit))
	}
	*count++
	return nil
}
