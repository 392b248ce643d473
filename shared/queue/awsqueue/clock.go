package awsqueue

import (
	"strconv"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
)

// clockDoubt is how long a message may be on its way from SQS into this function: less shows nothing of the clocks.
const clockDoubt = time.Minute

// clockMost is more than a clock of AWS is ever off: an event that is older was kept in a file.
const clockMost = 24 * time.Hour

// now is the time by the clock of SQS, as far as messages show it: delayed forms of one sandbox are due in others.
func (h *Handler) now() time.Time { return h.o.Now().Add(time.Duration(h.ahead.Load())) }

// learnClock compares our clock with the times at which SQS has handed over messages just now: those that it has handed
// over only once.
func (h *Handler) learnClock(records []lambda.SQSMessage) {
	ours, latest := h.o.Now(), time.Time{}
	for _, m := range records {
		ms, err := strconv.ParseInt(m.Attributes["ApproximateFirstReceiveTimestamp"], 10, 64)
		if err != nil || m.Attributes["ApproximateReceiveCount"] != "1" {
			continue
		}
		if at := time.UnixMilli(ms); at.After(latest) {
			latest = at
		}
	}
	switch off := latest.Sub(ours); {
	case latest.IsZero():
	case off.Abs() <= clockDoubt || off.Abs() > clockMost:
		h.ahead.Store(0)
	default:
		h.ahead.Store(int64(off))
	}
}
