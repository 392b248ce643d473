package emulator

import (
	"slices"
	"time"
)

// Request is the journal's entry of one request. Control calls are not in the journal.
type Request struct {
	// N counts from 1 and never restarts, not even after a reset.
	N      int64     `json:"n"`
	Time   time.Time `json:"time"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Query  string    `json:"query,omitempty"`
	// Call is one of the Call constants, "" for a route that does not exist.
	Call       string   `json:"call"`
	DesktopIDs []string `json:"desktop_ids,omitempty"`
	// Status is 0 if the connection was dropped without an answer.
	Status    int    `json:"status"`
	ErrorCode string `json:"error_code,omitempty"`
	// JobID is the job that this request started; only writes have one.
	JobID string `json:"job_id,omitempty"`
	// Effect is "job" if a write was accepted, else "".
	Effect string `json:"effect"`
	// Dropped is "before" or "after" if the connection was dropped, else "".
	Dropped string `json:"dropped"`
}

// EffectJob is the effect of an accepted write.
const EffectJob = "job"

// journal is a ring of the newest requests.
type journal struct {
	size int
	last int64 // N of the newest entry
	ring []Request
}

func (j *journal) add(r Request) {
	j.last = max(j.last, r.N)
	if len(j.ring) >= 2*j.size {
		j.ring = slices.Clone(j.ring[len(j.ring)-j.size+1:])
	}
	j.ring = append(j.ring, r)
}

// list returns the entries after n, oldest first, at most limit if that is positive.
func (j *journal) list(after int64, limit int) []Request {
	ring := j.ring[max(0, len(j.ring)-j.size):]
	i, _ := slices.BinarySearchFunc(ring, after, func(r Request, n int64) int {
		if r.N <= n {
			return -1
		}
		return 1
	})
	ring = ring[i:]
	if limit > 0 && len(ring) > limit {
		ring = ring[:limit]
	}
	return append([]Request{}, ring...)
}
