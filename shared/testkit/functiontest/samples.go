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
var Samples = map[string]Sample{
	"checkimages":              {Events: map[string]int{events.TypeImagesChecked: 1}},
	"checkimages.batch":        {Events: map[string]int{events.TypeImagesChecked: 2, events.TypeCommandFailed: 1}},
	"checkimages.malformed":    {Events: map[string]int{events.TypeCommandFailed: 1}},
	"checkimages.reaction":     {Delayed: 1}, // the desktops do not run the image yet
	"desktoptoimage":           {Events: map[string]int{events.TypeJobAccepted: 1}},
	"desktoptoimage.batch":     {Events: map[string]int{events.TypeJobAccepted: 1, events.TypeCommandFailed: 1}, Delayed: 1}, // one desktop is busy
	"desktoptoimage.malformed": {Events: map[string]int{events.TypeCommandFailed: 1}},
	"rebuild":                  {Events: map[string]int{events.TypeJobAccepted: 1}},
	"rebuild.batch":            {Events: map[string]int{events.TypeJobAccepted: 1, events.TypeCommandFailed: 1}, Delayed: 1},
	"rebuild.malformed":        {Events: map[string]int{events.TypeCommandFailed: 1}},
	"rebuild.reaction":         {Events: map[string]int{events.TypeJobAccepted: 1}},
	"getdesktop":               {Events: map[string]int{events.TypeDesktopDescribed: 1}},
	"getdesktop.batch":         {Events: map[string]int{events.TypeDesktopDescribed: 2, events.TypeCommandFailed: 1}},
	"getdesktop.malformed":     {Events: map[string]int{events.TypeCommandFailed: 1}},
	"listdesktops":             {Events: map[string]int{events.TypeDesktopsListed: 1}},
	"listdesktops.batch":       {Events: map[string]int{events.TypeDesktopsListed: 2, events.TypeCommandFailed: 1}},
	"listdesktops.malformed":   {Events: map[string]int{events.TypeCommandFailed: 1}},
	"listimages":               {Events: map[string]int{events.TypeImagesListed: 1}},
	"listimages.batch":         {Events: map[string]int{events.TypeImagesListed: 2, events.TypeCommandFailed: 1}},
	"listimages.malformed":     {Events: map[string]int{events.TypeCommandFailed: 1}},
	"rollout":                  {Events: map[string]int{events.TypeListDesktops: 1}, Delayed: 1}, // its timer
	"rollout.batch":            {Events: map[string]int{events.TypeListDesktops: 1, events.TypeCommandFailed: 1, events.TypeRolloutRejected: 1}, Delayed: 1},
	"rollout.malformed":        {Events: map[string]int{events.TypeCommandFailed: 1}},
	"watchjob":                 {Delayed: 1}, // the job has not ended
	"watchjob.batch":           {Events: map[string]int{events.TypeCommandFailed: 1}, Delayed: 2, Dead: 1},
	"watchjob.malformed":       {Dead: 1},
}
