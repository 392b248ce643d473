package awsqueue

import (
	"strconv"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
)

// A difference shows that the clocks differ only if it is larger than these. A message may be in transit from SQS to this
// function while Lambda throttles, up to the longest visibility timeout of a queue.
const (
	clockDoubt  = time.Minute
	longTransit = 30 * time.Minute
)

// clockMost is more than a clock of AWS ever differs: an older event was read from a file.
const clockMost = 24 * time.Hour

// now is the time by the clock of SQS, as far as messages show it. The sandboxes of a function share it, because one
// sandbox makes a delayed form and another handles it.
func (h *Handler) now() time.Time { return h.o.Now().Add(time.Duration(h.ahead.Load())) }

// learnClock compares our clock with the times at which SQS delivered these messages. It uses only messages on their
// first delivery, whose time is that of this delivery.
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
	case -longTransit <= off && off <= clockDoubt || off.Abs() > clockMost:
		h.ahead.Store(0)
	default:
		h.ahead.Store(int64(off))
	}
}
