package functiontest

import (
	"maps"

	"recompose/events"
)

// Sample is what comes of a sample of events/sqs where everything is there that it names. No message is listed as
// failed.
type Sample struct {
	Says    map[string]int // events by type
	Delayed int            // messages that come again
	Dead    int            // dead letters
}

// Counts are the events by type, never nil.
func (s Sample) Counts() map[string]int {
	counts := map[string]int{}
	maps.Copy(counts, s.Says)
	return counts
}

// Samples are all of events/sqs, by file name without .json.
var Samples = map[string]Sample{
	"checkimages":              {Says: map[string]int{events.TypeImagesChecked: 1}},
	"checkimages.batch":        {Says: map[string]int{events.TypeImagesChecked: 2, events.TypeCommandFailed: 1}},
	"checkimages.malformed":    {Says: map[string]int{events.TypeCommandFailed: 1}},
	"checkimages.reaction":     {Delayed: 1}, // the desktops do not run the image yet
	"desktoptoimage":           {Says: map[string]int{events.TypeJobAccepted: 1}},
	"desktoptoimage.batch":     {Says: map[string]int{events.TypeJobAccepted: 1, events.TypeCommandFailed: 1}, Delayed: 1}, // one desktop is busy
	"desktoptoimage.malformed": {Says: map[string]int{events.TypeCommandFailed: 1}},
	"rebuild":                  {Says: map[string]int{events.TypeJobAccepted: 1}},
	"rebuild.batch":            {Says: map[string]int{events.TypeJobAccepted: 1, events.TypeCommandFailed: 1}, Delayed: 1},
	"rebuild.malformed":        {Says: map[string]int{events.TypeCommandFailed: 1}},
	"rebuild.reaction":         {Says: map[string]int{events.TypeJobAccepted: 1}},
	"getdesktop":               {Says: map[string]int{events.TypeDesktopDescribed: 1}},
	"getdesktop.batch":         {Says: map[string]int{events.TypeDesktopDescribed: 2, events.TypeCommandFailed: 1}},
	"getdesktop.malformed":     {Says: map[string]int{events.TypeCommandFailed: 1}},
	"watchjob":                 {Delayed: 1}, // it looks later
	"watchjob.batch":           {Says: map[string]int{events.TypeCommandFailed: 1}, Delayed: 2, Dead: 1},
	"watchjob.malformed":       {Dead: 1},
}
