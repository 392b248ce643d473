package functiontest

import (
	"maps"

	"recompose/events"
)

// Sample is the expected result of a sample of events/sqs if everything that it names exists. No message is listed as
// failed.
type Sample struct {
	Events  map[string]int // number by type, with the commands for other functions
	Delayed int            // delayed messages
	Dead    int            // dead letters
}

// Counts returns the events by type, never nil.
func (s Sample) Counts() map[string]int {
	counts := map[string]int{}
	maps.Copy(counts, s.Events)
	return counts
}

// Samples are all of events/sqs, by file name without .json.
var Samples = withReads(map[string]Sample{
	"checkimages.reaction":     {Delayed: 1}, // the desktops do not run the image yet
	"desktoptoimage":           {Events: map[string]int{events.TypeJobAccepted: 1}},
	"desktoptoimage.batch":     {Events: map[string]int{events.TypeJobAccepted: 1, events.TypeCommandFailed: 1}, Delayed: 1}, // one desktop is busy
	"desktoptoimage.malformed": {Events: map[string]int{events.TypeCommandFailed: 1}},
	"rebuild":                  {Events: map[string]int{events.TypeJobAccepted: 1}},
	"rebuild.batch":            {Events: map[string]int{events.TypeJobAccepted: 1, events.TypeCommandFailed: 1}, Delayed: 1},
	"rebuild.malformed":        {Events: map[string]int{events.TypeCommandFailed: 1}},
	"rebuild.reaction":         {Events: map[string]int{events.TypeJobAccepted: 1}},
	"rollout":                  {Events: map[string]int{events.TypeListDesktops: 1}, Delayed: 1}, // its timer
	"rollout.batch":            {Events: map[string]int{events.TypeListDesktops: 1, events.TypeCommandFailed: 1, events.TypeRolloutRejected: 1}, Delayed: 1},
	"rollout.malformed":        {Events: map[string]int{events.TypeCommandFailed: 1}},
	"watchjob":                 {Delayed: 1}, // the job has not ended
	"watchjob.batch":           {Events: map[string]int{events.TypeCommandFailed: 1}, Delayed: 2, Dead: 1},
	"watchjob.malformed":       {Dead: 1},
})

// withReads adds the samples of the commands that only read. Their batch has a good, a bad and a good one.
func withReads(samples map[string]Sample) map[string]Sample {
	for _, c := range events.Commands {
		if c.Reads() {
			samples[c.Function] = Sample{Events: map[string]int{c.Answer: 1}}
			samples[c.Function+".batch"] = Sample{Events: map[string]int{c.Answer: 2, events.TypeCommandFailed: 1}}
			samples[c.Function+".malformed"] = Sample{Events: map[string]int{events.TypeCommandFailed: 1}}
		}
	}
	return samples
}
