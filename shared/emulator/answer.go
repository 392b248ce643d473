package emulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Error codes that the documentation of the service names.
const (
	codeNoAPI       = "APIGW.0101"
	codeBadRequest  = "APIGW.0201"
	codeTimeout     = "APIGW.0203"
	codeAuth        = "APIGW.0301"
	codeThrottled   = "APIGW.0308"
	codeEmptyBody   = "WKS.0001"
	codeBusy        = "WKS.00010032"
	codeNotEnabled  = "WKS.00010099"
	codeMediaType   = "WKS.00000415"
	codeUnavailable = "WKS.00050902"
)

// Error codes that the documentation does not name. These are INVENTED to fill the field; no client may depend on
// them.
const (
	codeInvalid       = "WKS.00990400" // a value breaks a limit, a type is wrong, a field is missing
	codeForbidden     = "WKS.00990403" // the path's project is not the caller's
	codeNoDesktop     = "WKS.00990404" // no such desktop
	codeNoJob         = "WKS.00990405" // no such job
	codeNoImage       = "WKS.00990406" // no such image
	codeImageType     = "WKS.00990407" // the image is not of the image_type given
	codeInternal      = "WKS.00990500" // an internal error
	codeRebuildFailed = "WKS.00990501" // a sub-job of a rebuild failed
	codeImageFailed   = "IMG.0005"     // exists in the image service; invented for this use
)

const iamPrefix = "Incorrect IAM authentication information: "

// answer is the answer to a request, before it is written.
type answer struct {
	status int
	header map[string]string
	body   any    // written as JSON
	raw    []byte // written unchanged if kind is set
	kind   string // Content-Type of raw
	code   string // error_code, for the journal
	job    *Job   // the job that a write was accepted as
	token  *issuedToken
	key    *temporaryKey // issued by the metadata
	user   *keyState     // of the IAM user, if it changed
}

// refusal is the error of a refused request. It is the only error type of the request path.
type refusal struct {
	status    int
	code, msg string
	detail    string
	header    map[string]string
}

// Error returns the code and the text.
func (r *refusal) Error() string { return r.code + ": " + r.msg }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status: status, code: code, msg: fmt.Sprintf(format, args...)}
}

// invalid refuses a request body or query.
func invalid(format string, args ...any) *refusal {
	return refuse(http.StatusBadRequest, codeInvalid, format, args...)
}

// denied refuses credentials with the gateway's text.
func denied(format string, args ...any) *refusal {
	return refuse(http.StatusUnauthorized, codeAuth, iamPrefix+format, args...)
}

// answer is the refusal in the envelope of its source: the gateway adds request_id, the service may add error_detail.
func (r *refusal) answer(requestID string) *answer {
	body := map[string]string{"error_code": r.code, "error_msg": r.msg}
	if strings.HasPrefix(r.code, "APIG.") || strings.HasPrefix(r.code, "APIGW.") {
		body["request_id"] = requestID
	} else if r.detail != "" {
		body["error_detail"] = r.detail
	}
	return &answer{status: r.status, header: r.header, body: body, code: r.code}
}

// faultRefusal is the answer of a fault that has a status.
func faultRefusal(do Do) *refusal {
	r := &refusal{status: do.Status, code: do.ErrorCode, msg: do.ErrorMsg}
	if d, ok := defaultFaults[do.Status]; ok && r.code == "" {
		r.code = d.code
		r.msg = cmp.Or(r.msg, d.msg)
	}
	if r.msg == "" && r.code != "" {
		r.msg = "fault: " + strings.ToLower(http.StatusText(do.Status))
	}
	if do.RetryAfter != "" {
		r.header = map[string]string{"Retry-After": do.RetryAfter}
	}
	return r
}

// defaultFaults are the errors of faults that set only a status.
var defaultFaults = map[int]struct{ code, msg string }{
	http.StatusBadRequest:            {codeInvalid, "Invalid parameter."},
	http.StatusUnauthorized:          {codeAuth, iamPrefix + "verify aksk signature fail"},
	http.StatusForbidden:             {codeNotEnabled, "Workspace is not enabled in this project."},
	http.StatusNotFound:              {codeNoDesktop, "The desktop does not exist."},
	http.StatusConflict:              {codeBusy, "The status of the instance does not allow this operation."},
	http.StatusRequestEntityTooLarge: {codeBadRequest, "Request entity too large"},
	http.StatusTooManyRequests:       {codeThrottled, throttleText(0)},
	http.StatusInternalServerError:   {codeInternal, "Internal error."},
	http.StatusBadGateway:            {codeTimeout, "Backend unavailable"},
	http.StatusServiceUnavailable:    {codeUnavailable, "Service unavailable."},
	http.StatusGatewayTimeout:        {codeTimeout, "Backend timeout"},
}

func throttleText(limit int) string {
	if limit <= 0 {
		limit = 100
	}
	return "The throttling threshold has been reached: policy user over ratelimit,limit:" + strconv.Itoa(limit) + ",time:1 minute"
}

// write sends the answer.
func (a *answer) write(w http.ResponseWriter) error {
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	data, kind := a.raw, a.kind
	if kind == "" {
		var err error
		if data, err = json.Marshal(a.body); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(a.status)
	if a.status == http.StatusNoContent || a.status == http.StatusNotModified {
		return nil
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}
