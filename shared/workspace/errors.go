package workspace

import (
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Class is the kind of failure of an [Error]. The HTTP status decides it; error codes decide only where the vendor
// gives one status two meanings.
type Class string

// The classes. In brackets: whether a write that ended with this class may have been executed.
const (
	// Invalid: an argument breaks a rule of the API; nothing was sent, and a retry cannot succeed. [no]
	Invalid Class = "invalid"
	// NotSent: the service got no complete request: no address, no connection, no TLS, a context that ended while
	// waiting for the rate limit, a signing date outside the window. [no]
	NotSent Class = "not_sent"
	// Lost: reset, end of file, time-out or an ended context after sending may have begun. [yes]
	Lost Class = "lost"
	// Refused: 400, 405, 413, 415. [no]
	Refused Class = "refused"
	// DiskBusy: 400 with WKS.0407, another disk change is in progress; Terraform waits 5 minutes. [no]
	DiskBusy Class = "disk_busy"
	// Unauthorized: 401, refused before the request reached the service. More than 5 in a row lock the key for 5
	// minutes. Without a status: IAM refused the login, or the server has no agency, and nothing was sent. [no]
	Unauthorized Class = "unauthorized"
	// Forbidden: 403; EncodedAuthorizationMessage may give the reason. [no]
	Forbidden Class = "forbidden"
	// NotFound: 404 of the service itself, or a desktop answer with an empty list. [no]
	NotFound Class = "not_found"
	// Endpoint: 404 of the gateway (codes ending in 0101 or 0103): the API is not published in this region, or the
	// endpoint is wrong. It is no evidence about the desktop. [no]
	Endpoint Class = "endpoint"
	// Conflict: 409, the desktop is busy or in a wrong state. [no]
	Conflict Class = "conflict"
	// Throttled: 429, refused by the gateway. [no]
	Throttled Class = "throttled"
	// Unavailable: 5xx. [yes]
	Unavailable Class = "unavailable"
	// BadAnswer: a 2xx that cannot be read, is empty, carries an error or lacks its job_id; any 3xx; a status that the
	// API does not have; for a read also a 400, 403, 404 or 409 that is not JSON. [yes]
	BadAnswer Class = "bad_answer"
)

// Error is the only error type of the client's calls. It keeps the status even if the body is not JSON.
type Error struct {
	// Operation is check-images, desktop-to-image, rebuild, get-desktop, list-sub-jobs or list-images; in a
	// wrapped error also token (the login) or security-key (the metadata).
	Operation string
	// Class is the kind of failure; decide by it.
	Class Class
	// Status is the HTTP status, 0 without an answer.
	Status int
	// Code is the vendor's error code, such as WKS.00010032 or APIGW.0308; Msg and Detail are the vendor's texts.
	Code, Msg, Detail string
	// EncodedAuthorizationMessage is decoded by the STS call decode-authorization-message.
	EncodedAuthorizationMessage string
	// RequestID is the vendor's, from the X-Request-Id header or the body.
	RequestID string
	// RetryAfter is the wait that the service requested; 0 if it requested none. The vendor does not document it.
	RetryAfter time.Duration
	// Date is the service's clock at the answer, zero without one.
	Date time.Time
	// Err is the wrapped transport, context, argument or decoding error.
	Err error
}

// MayHaveExecuted is false only if it is certain that the service did nothing. In every other case, look a write up
// before sending it a second time. It is true for an unknown class.
func (e *Error) MayHaveExecuted() bool {
	switch e.Class {
	case Invalid, NotSent, Refused, DiskBusy, Unauthorized, Forbidden, NotFound, Endpoint, Conflict, Throttled:
		return false
	case Lost, Unavailable, BadAnswer:
		return true
	default:
		return true
	}
}

// Coded reports whether the error is a 2xx with an error_code and without a job_id: the service's own refusal under
// the wrong status.
func (e *Error) Coded() bool { return e.Class == BadAnswer && e.Status/100 == 2 && e.Code != "" }

// CodeBusy is the error_code of a desktop whose state denies an operation. Source: Terraform provider.
const CodeBusy = "WKS.00010032"

// Error returns operation, class, status, code, message, the wrapped error and the request id on one line, with
// control characters escaped.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Operation)
	b.WriteString(": ")
	b.WriteString(strings.ReplaceAll(string(e.Class), "_", " "))
	if e.Status != 0 {
		b.WriteString(", status ")
		b.WriteString(strconv.Itoa(e.Status))
	}
	if e.Code != "" {
		b.WriteString(", ")
		b.WriteString(printable(e.Code))
	}
	for _, s := range []string{e.Msg, e.Detail} {
		if s != "" {
			b.WriteString(": ")
			b.WriteString(printable(s))
		}
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(printable(e.Err.Error()))
	}
	if e.RequestID != "" {
		b.WriteString(" (request id ")
		b.WriteString(printable(e.RequestID))
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns the wrapped error, so that errors.Is finds context.DeadlineExceeded and its like.
func (e *Error) Unwrap() error { return e.Err }

// LogValue is a group of the fields that may be logged: neither the body nor the encoded message.
func (e *Error) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("operation", e.Operation), slog.String("class", string(e.Class))}
	if e.Status != 0 {
		attrs = append(attrs, slog.Int("status", e.Status))
	}
	for _, f := range []struct{ key, value string }{
		{"error_code", e.Code}, {"error_msg", e.Msg}, {"error_detail", e.Detail}, {"request_id", e.RequestID},
	} {
		if f.value != "" {
			attrs = append(attrs, slog.String(f.key, printable(f.value)))
		}
	}
	if e.RetryAfter > 0 {
		attrs = append(attrs, slog.Duration("retry_after", e.RetryAfter))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("err", printable(e.Err.Error())))
	}
	return slog.GroupValue(attrs...)
}

// ClassOf returns the class of the [Error] in err's chain, or "" if there is none.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ""
}

// IsNotFound reports whether the service answered that the desktop, job or image does not exist. It is false for a 404
// of the gateway: see [Endpoint].
func IsNotFound(err error) bool { return ClassOf(err) == NotFound }

// IsUnauthorized reports a 401. Do not repeat it in a loop: the service locks the key.
func IsUnauthorized(err error) bool { return ClassOf(err) == Unauthorized }

// classOfStatus classifies an answer by its status, and by the few codes that give one status two meanings.
func classOfStatus(status int, code string) Class {
	switch status {
	case 400:
		if code == "WKS.0407" {
			return DiskBusy
		}
		return Refused
	case 405, 413, 415:
		return Refused
	case 401:
		return Unauthorized
	case 403:
		return Forbidden
	case 404:
		if d := gatewayDigits(code); d == "0101" || d == "0103" {
			return Endpoint
		}
		return NotFound
	case 409:
		return Conflict
	case 429:
		return Throttled
	}
	if status >= 500 && status <= 599 {
		return Unavailable
	}
	return BadAnswer
}

// aboutResource reports whether a status concerns the requested desktop, job or image.
func aboutResource(status int) bool {
	return status == 400 || status == 403 || status == 404 || status == 409
}

// gatewayDigits returns the digits of an API gateway code; the prefix is APIGW. or APIG., depending on the region.
func gatewayDigits(code string) string {
	prefix, digits, found := strings.Cut(code, ".")
	if found && (strings.EqualFold(prefix, "APIGW") || strings.EqualFold(prefix, "APIG")) {
		return digits
	}
	return ""
}
