package workspace

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxAnswer   = 8 << 20        // bytes of one answer that are read
	maxText     = 4 << 10        // bytes of a message that an Error keeps
	maxEncoded  = 16 << 10       // bytes of an encoded authorization message
	maxToken    = 255            // bytes of a code or request id
	longestWait = 24 * time.Hour // the greatest Retry-After that is used
)

var (
	errEmpty   = errors.New("empty response")
	errNoJobID = errors.New("no job_id in the answer")
	errTooLong = errors.New("the answer is longer than 8 MiB")
)

// answer is a 2xx answer, read to its end.
type answer struct {
	operation string
	status    int
	body      []byte
	date      time.Time
	requestID string
}

// envelope holds the fields of an error body in any of its shapes: two fields or four, with the gateway's request_id,
// or nested in error as other services write it.
type envelope struct {
	code, msg, detail, encoded, requestID string
}

// readEnvelope reads error_code|code|error.code and error_msg|message|error.message. It returns an empty envelope for
// a body that is not a JSON object.
func readEnvelope(body []byte) envelope {
	fields, err := members(body)
	if err != nil {
		return envelope{}
	}
	nested, err := members(fields["error"])
	if err != nil {
		nested = map[string]json.RawMessage{"message": fields["error"]}
	}
	first := func(limit int, candidates ...json.RawMessage) string {
		for _, raw := range candidates {
			if s, ok := scalar(raw); ok && s != "" {
				return clip(s, limit)
			}
		}
		return ""
	}
	return envelope{
		code:      first(maxToken, fields["error_code"], fields["code"], nested["code"]),
		msg:       first(maxText, fields["error_msg"], fields["message"], nested["message"]),
		detail:    first(maxText, fields["error_detail"]),
		encoded:   first(maxEncoded, fields["encoded_authorization_message"]),
		requestID: first(maxToken, fields["request_id"]),
	}
}

// isObject reports whether a body is a JSON object.
func isObject(body []byte) bool {
	_, err := members(body)
	return err == nil
}

// codedError is the error of a 2xx that carries an error_code.
type codedError struct{ code string }

func (e codedError) Error() string { return "success status with error_code " + e.code }

// answerFields splits the body of a 2xx. An empty body, {} and an error_code are errors, although the vendor's SDK
// reads them as success.
func answerFields(body []byte) (map[string]json.RawMessage, error) {
	if firstByte(body) == 0 {
		return nil, errEmpty
	}
	fields, err := members(body)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		return nil, errEmpty
	}
	if code, ok := scalar(fields["error_code"]); ok && code != "" {
		return nil, codedError{clip(code, maxToken)}
	}
	return fields, nil
}

// newError builds the error of an answer that is not a success. The caller sets Class.
func (c *Client) newError(operation string, status int, body []byte, date time.Time, requestID string, err error) *Error {
	e := readEnvelope(body)
	requestID = cmp.Or(requestID, e.requestID)
	return &Error{
		Operation: operation, Status: status, Date: date, RequestID: c.redact(clip(requestID, maxToken)), Err: err,
		Code: c.redact(e.code), Msg: c.redact(e.msg), Detail: c.redact(e.detail),
		EncodedAuthorizationMessage: c.redact(e.encoded),
	}
}

// badAnswer builds the error of a 2xx whose body is not the expected one.
func (c *Client) badAnswer(a answer, err error) *Error {
	e := c.newError(a.operation, a.status, a.body, a.date, a.requestID, err)
	e.Class = BadAnswer
	if errors.Is(err, errGone) {
		e.Class = NotFound
	}
	return e
}

// invalid builds the error of an argument that was refused before anything was sent.
func invalid(operation string, err error) *Error {
	return &Error{Operation: operation, Class: Invalid, Err: err}
}

// retryAfter reads both forms of the header: seconds, and a date. A date counts from the answer's own Date, or from
// now if the answer has none.
func retryAfter(h http.Header, date, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // on ErrRange, seconds is the nearest int64
		return time.Duration(min(max(seconds, 0), int64(longestWait/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		if date.IsZero() {
			date = now
		}
		return min(max(at.Sub(date), 0), longestWait)
	}
	return 0
}

// requestIDOf returns the vendor's id of the request.
func requestIDOf(h http.Header) string {
	id := clip(h.Get("X-Request-Id"), maxToken)
	if !utf8.ValidString(id) {
		return strings.ToValidUTF8(id, "\uFFFD")
	}
	return id
}
