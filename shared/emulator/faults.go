package emulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault makes the emulator give a set answer or show a set behaviour.
//
// Faults are examined in order, for every request that passed authentication. A fault that matches counts the match;
// the first Skip matches do nothing, and the next Times matches apply (all later ones if Times is 0). The first fault
// that applies decides the request, except that Do.Job is decided for each desktop separately.
type Fault struct {
	// Call is one of the Call constants.
	Call string `json:"call"`
	// DesktopID limits the fault to requests that name this desktop, in the path or in the body.
	DesktopID string `json:"desktop_id,omitempty"`
	Skip      int    `json:"skip,omitempty"`
	Times     int    `json:"times,omitempty"`
	Do        Do     `json:"do"`
}

// Do is the effect of a [Fault].
type Do struct {
	// Status is returned without any further processing, so the request has no effect. 200 without ErrorCode is an empty
	// object.
	Status    int
	ErrorCode string
	ErrorMsg  string
	// Delay is waited in real time before the answer is written; it ends early if the client disconnects. The request
	// has taken effect before.
	Delay time.Duration
	// Drop closes the connection without an answer: "before" or "after" the request takes effect.
	Drop string
	// RetryAfter is the header of that name: seconds, or a date.
	RetryAfter string
	// Job "fail" makes the sub-job of the desktop fail, with ErrorCode and ErrorMsg: early, with the old disk in place,
	// unless Quirk is late-failure.
	Job string
	// Quirk is one of [Quirks], or several separated by commas.
	Quirk string
}

// doJSON is Do on the wire.
type doJSON struct {
	Status     int             `json:"status,omitempty"`
	ErrorCode  string          `json:"error_code,omitempty"`
	ErrorMsg   string          `json:"error_msg,omitempty"`
	Delay      json.RawMessage `json:"delay,omitempty"`
	Drop       string          `json:"drop,omitempty"`
	RetryAfter json.RawMessage `json:"retry_after,omitempty"`
	Job        string          `json:"job,omitempty"`
	Quirk      string          `json:"quirk,omitempty"`
}

// MarshalJSON writes the delay as a Go duration.
func (d Do) MarshalJSON() ([]byte, error) {
	w := doJSON{Status: d.Status, ErrorCode: d.ErrorCode, ErrorMsg: d.ErrorMsg, Drop: d.Drop, Job: d.Job, Quirk: d.Quirk}
	if d.Delay != 0 {
		w.Delay = json.RawMessage(strconv.Quote(d.Delay.String()))
	}
	if d.RetryAfter != "" {
		text, err := json.Marshal(d.RetryAfter)
		if err != nil {
			return nil, fmt.Errorf("encode retry_after: %w", err)
		}
		w.RetryAfter = text
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads a delay as a duration or in seconds, and retry_after as a string or a number. Unknown fields are
// an error.
func (d *Do) UnmarshalJSON(data []byte) error {
	var w doJSON
	if err := decodeStrict(data, &w); err != nil {
		return fmt.Errorf("do: %w", err)
	}
	*d = Do{Status: w.Status, ErrorCode: w.ErrorCode, ErrorMsg: w.ErrorMsg, Drop: w.Drop, Job: w.Job, Quirk: w.Quirk}
	var err error
	if d.Delay, err = parseDelay(w.Delay); err != nil {
		return fmt.Errorf("do: delay: %w", err)
	}
	if d.RetryAfter, err = parseText(w.RetryAfter); err != nil {
		return fmt.Errorf("do: retry_after: %w", err)
	}
	return nil
}

func parseDelay(raw json.RawMessage) (time.Duration, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, nil
	}
	var seconds float64
	if err := json.Unmarshal(raw, &seconds); err == nil {
		if seconds < 0 || seconds > longest.Seconds() {
			return 0, fmt.Errorf("%v seconds are out of range", seconds)
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return 0, fmt.Errorf("%s is neither a duration nor a number of seconds", raw)
	}
	delay, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 1.5s", text)
	}
	return delay, nil
}

func parseText(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var n json.Number
	if err := json.Unmarshal(raw, &n); err == nil {
		return n.String(), nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", fmt.Errorf("%s is neither a text nor a number", raw)
	}
	return text, nil
}

func decodeStrict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if dec.More() {
		return fmt.Errorf("more than one JSON value")
	}
	return nil
}

var calls = []string{CallCheckImages, CallDesktopToImage, CallRebuild, CallGetDesktop, CallSysprep, CallListDesktops, CallListSubJobs, CallShowJob,
	CallListImages, CallToken, CallMetadataToken, CallSecurityKey, CallAny}

// startsJob reports whether faults on a call may decide the end of its job.
func startsJob(call string) bool {
	return call == CallDesktopToImage || call == CallRebuild || call == CallAny
}

// check refuses a fault that could never apply: otherwise a mistake would look like a fault that did not occur.
func (f Fault) check() error {
	do := f.Do
	quirks, err := parseQuirks(f.Call, do.Quirk)
	if err != nil {
		return err
	}
	switch {
	case !slices.Contains(calls, f.Call):
		return fmt.Errorf("call %q is unknown; known are %s", f.Call, strings.Join(calls, ", "))
	case f.Skip < 0 || f.Times < 0:
		return fmt.Errorf("skip and times must not be negative")
	case do.Status != 0 && (do.Status < 200 || do.Status > 599):
		return fmt.Errorf("status %d is not from 200 to 599", do.Status)
	case do.Drop != "" && do.Drop != DropBefore && do.Drop != DropAfter:
		return fmt.Errorf("drop %q is neither before nor after", do.Drop)
	case do.Job != "" && do.Job != JobFail:
		return fmt.Errorf("job %q is not fail", do.Job)
	case do.Job != "" && !startsJob(f.Call):
		return fmt.Errorf("job: the call %s starts no job", f.Call)
	case do.Status != 0 && (do.Drop != "" || do.Job != "" || do.Quirk != ""):
		return fmt.Errorf("status excludes drop, job and quirk: it is an answer without effect")
	case quirks.has(quirkLateFailure) && do.Job == "":
		return fmt.Errorf("quirk %s needs job fail", quirkLateFailure)
	case do.Delay < 0:
		return fmt.Errorf("delay must not be negative")
	case do.RetryAfter != "" && do.Status == 0 && !quirks.has(quirkRetryAfter):
		return fmt.Errorf("retry_after needs status, or the quirk %s", quirkRetryAfter)
	case (do.ErrorCode != "" || do.ErrorMsg != "") && do.Status == 0 && do.Job == "" && !quirks.answersError():
		return fmt.Errorf("error_code and error_msg need status, job, or a quirk %s, %s or %s",
			quirkRebuildError, quirkRebuildBoth, quirkTakenError)
	case do == Do{}:
		return fmt.Errorf("do is empty")
	}
	return nil
}

// Values of [Do].
const (
	DropBefore = "before"
	DropAfter  = "after"
	JobFail    = "fail"
)

// injection is the decision of the faults for one request.
type injection struct {
	do       Do // of the fault that decides the request; may be empty
	quirks   quirkSet
	failures map[string]failure
	hits     []int // indexes of faults that matched
}

// inject finds the faults for a call that names these desktops. counts holds the matches so far, one number for each
// fault; it is not changed.
func inject(faults []Fault, counts []int, call string, desktops []string) injection {
	inj := injection{failures: map[string]failure{}}
	decided := false
	for i, f := range faults {
		if f.Call != call && f.Call != CallAny || f.DesktopID != "" && !slices.Contains(desktops, f.DesktopID) {
			continue
		}
		var fails []string
		if f.Do.Job != "" && startsJob(call) {
			for _, id := range desktops {
				if _, done := inj.failures[id]; !done && (f.DesktopID == "" || f.DesktopID == id) {
					fails = append(fails, id)
				}
			}
		}
		decides := !decided && f.Do.decides()
		if !decides && len(fails) == 0 {
			continue
		}
		inj.hits = append(inj.hits, i)
		if n := counts[i]; n < f.Skip || f.Times > 0 && n >= f.Skip+f.Times {
			continue
		}
		quirks, _ := parseQuirks(f.Call, f.Do.Quirk) // checked when it was set
		for _, id := range fails {
			inj.failures[id] = newFailure(call, f.Do, quirks)
		}
		if decides {
			decided, inj.do, inj.quirks = true, f.Do, quirks
		}
	}
	return inj
}

// decides reports whether the fault does more than fail a job.
func (d Do) decides() bool {
	return d.Status != 0 || d.Delay != 0 || d.Drop != "" || d.Quirk != "" && d.Quirk != quirkLateFailure
}

func newFailure(call string, do Do, quirks quirkSet) failure {
	code, reason := codeRebuildFailed, "The system disk could not be rebuilt."
	if call == CallDesktopToImage {
		code, reason = codeImageFailed, "The system disk of the server is not usable for an image."
	}
	return failure{cmp.Or(do.ErrorCode, code), cmp.Or(do.ErrorMsg, reason), quirks.has(quirkLateFailure)}
}
