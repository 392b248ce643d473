package workspace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Accepted is the answer to a write: the service has started a job.
type Accepted struct {
	// JobID names the parent job; never empty.
	JobID string
	// RequestID is the vendor's id of the request, for support cases.
	RequestID string
	// Warning is set if the answer has a job_id and an error_code at once: the job runs, and should be watched.
	Warning *Error
	// Date is the service's clock at the answer; zero if the answer has no Date header.
	Date time.Time
}

// accepted reads the answer to a write. An answer without a job_id is an error of unknown outcome, even if its status
// is 2xx: look the job up, do not send the write a second time.
func (c *Client) accepted(a answer) (Accepted, error) {
	jobID, err := decodeAccepted(a.body)
	if err != nil {
		return Accepted{}, c.badAnswer(a, err)
	}
	out := Accepted{JobID: jobID, RequestID: a.requestID, Date: a.date}
	if e := readEnvelope(a.body); e.code != "" {
		out.Warning = c.badAnswer(a, codedError{e.code})
	}
	if out.RequestID == "" {
		out.RequestID = readEnvelope(a.body).requestID
	}
	return out, nil
}

func decodeAccepted(body []byte) (string, error) {
	if firstByte(body) == 0 {
		return "", errEmpty
	}
	fields, err := members(body)
	if err != nil {
		return "", err
	}
	first := firstByte(fields["job_id"])
	if jobID, ok := scalar(fields["job_id"]); ok && strings.TrimSpace(jobID) != "" && first != 't' && first != 'f' { // a Boolean names none
		return jobID, nil
	}
	switch e := readEnvelope(body); {
	case len(fields) == 0:
		return "", errEmpty
	case e.code != "":
		return "", codedError{e.code}
	}
	return "", errNoJobID
}

// encodeBody returns the bytes that are both signed and sent: no trailing line feed, no HTML escapes.
func encodeBody(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// checkIDs checks a list of 1 to most ids of desktops.
func checkIDs(ids []string, most int, repeats bool) error {
	const field = "desktop_ids"
	if len(ids) == 0 || len(ids) > most {
		return fmt.Errorf("%s has %d ids: give 1 to %d", field, len(ids), most)
	}
	seen := make(map[string]int, len(ids))
	for i, id := range ids {
		if err := CheckID(fmt.Sprintf("%s[%d]", field, i), id); err != nil {
			return err
		}
		if first, twice := seen[id]; twice && !repeats {
			return fmt.Errorf("%s[%d] %q is the same as %s[%d]: give each once", field, i, id, field, first)
		}
		seen[id] = i
	}
	return nil
}
