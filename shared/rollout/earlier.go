package rollout

import (
	"encoding/json"
	"slices"
	"time"
)

// Expected is how long a batch of a rollout takes, by those of earlier rollouts: from its command to the end of its jobs, in
// seconds, without the time that users have to save their work.
type Expected struct {
	P50 int `json:"p50"`
	P90 int `json:"p90"`
}

const (
	mostEarlier   = 5 // rollouts that are looked at
	fewestBatches = 3 // that show how long one takes
)

// expect finds out how long the batches of the last rollouts took; nil if there were too few. It returns false if records
// must be read first.
func (s *step) expect() (*Expected, bool) {
	index, ok := peek[Index](s, IndexKey)
	if !ok {
		return nil, false
	}
	var took []int
	looked := 0
	for _, name := range slices.Backward(index.Names) {
		if name == s.name {
			continue
		}
		if looked++; looked > mostEarlier {
			break
		}
		h, there := peek[Head](s, HeadKey(name))
		ok = ok && there
		for _, seconds := range h.Took {
			took = append(took, max(seconds-60*int(h.Spec.Users.DelayTime), 1))
		}
	}
	if !ok || len(took) < fewestBatches {
		return nil, ok
	}
	return &Expected{P50: int(share(took, 5) / time.Second), P90: int(share(took, 9) / time.Second)}, true
}

// peek is record for a record of another rollout, or of all: the step does not store it. One that cannot be read is zero.
func peek[T any](s *step, key string) (*T, bool) {
	value, known := s.in[key]
	if !known {
		if !slices.Contains(s.missing, key) {
			s.missing = append(s.missing, key)
		}
		return new(T), false
	}
	r := new(T)
	if value != nil && json.Unmarshal(value, r) != nil {
		return new(T), true
	}
	return r, true
}

// p90 is how long nine of ten batches take, by the batches of this rollout, or else of earlier ones.
func (s *step) p90() time.Duration {
	switch {
	case len(s.head.Took) > 0:
		return share(s.head.Took, 9)
	case s.head.Expected != nil:
		return time.Duration(s.head.Expected.P90)*time.Second + s.delay()
	}
	return s.wait(defaultP90) + s.delay()
}

// share is the time in which so many of ten batches have ended.
func share(took []int, ofTen int) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return time.Duration(sorted[(len(sorted)*ofTen-1)/10]) * time.Second
}
