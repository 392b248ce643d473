package emulator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// The names of the calls, as faults and the journal use them.
const (
	CallCheckImages    = "check-images"
	CallDesktopToImage = "desktop-to-image"
	CallRebuild        = "rebuild"
	CallGetDesktop     = "get-desktop"
	CallListDesktops   = "list-desktops"
	CallSysprep        = "sysprep"
	CallListSubJobs    = "list-sub-jobs"
	CallShowJob        = "show-job"
	CallListImages     = "list-images"
	CallToken          = "token"
	CallMetadataToken  = "metadata-token"
	CallSecurityKey    = "security-key"
	CallAny            = "*" // in a fault: every call
)

// maxBody is the largest body that the gateway accepts with AK/SK.
const maxBody = 12 << 20

// request is a request with its whole body.
type request struct {
	id       string // X-Request-Id of the answer
	method   string
	path     string // decoded
	rawQuery string
	host     string
	header   http.Header
	body     []byte
	bodyHash string
	bodyErr  *refusal

	call    string // "" for an unknown route
	project string
	target  string // the id in the path
}

// receive reads a request and finds its call.
func receive(r *http.Request, id string) *request {
	req := &request{id: id, method: r.Method, path: r.URL.Path, rawQuery: r.URL.RawQuery, host: r.Host, header: r.Header}
	req.call, req.project, req.target = route(r.Method, r.URL.EscapedPath())
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	switch _, tooLarge := errors.AsType[*http.MaxBytesError](err); {
	case tooLarge:
		req.bodyErr = refuse(http.StatusRequestEntityTooLarge, codeBadRequest, "Request entity too large")
	case err != nil:
		req.bodyErr = refuse(http.StatusBadRequest, codeBadRequest, "Bad request: the body ended early")
	}
	req.body = body
	sum := sha256.Sum256(body)
	req.bodyHash = hex.EncodeToString(sum[:])
	return req
}

// route finds the call of a method and a path, and the ids in the path.
func route(method, escaped string) (call, project, target string) {
	seg := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for i := range seg {
		var err error
		if seg[i], err = url.PathUnescape(seg[i]); err != nil || seg[i] == "" {
			return "", "", ""
		}
	}
	if method == http.MethodPost && len(seg) == 3 && seg[0] == "v3" && seg[1] == "auth" && seg[2] == "tokens" {
		return CallToken, "", ""
	}
	if call := metadataRoute(method, escaped); call != "" {
		return call, "", ""
	}
	if method == http.MethodGet && len(seg) == 5 && seg[0] == "v2" && seg[2] == "desktops" && seg[4] == CallSysprep {
		return CallSysprep, seg[1], seg[3]
	}
	if len(seg) < 3 || len(seg) > 4 || seg[0] != "v2" {
		return "", "", ""
	}
	project = seg[1]
	if len(seg) == 4 {
		target = seg[3]
	}
	switch method + " " + seg[2] {
	case "POST desktops":
		switch target {
		case CallCheckImages, CallDesktopToImage, CallRebuild:
			return target, project, ""
		}
	case "GET desktops":
		switch target {
		case "":
		case "detail":
			return CallListDesktops, project, ""
		default:
			return CallGetDesktop, project, target
		}
	case "GET workspace-sub-jobs":
		if target == "" {
			return CallListSubJobs, project, ""
		}
	case "GET workspace-jobs":
		if target != "" {
			return CallShowJob, project, target
		}
	case "GET images":
		if target == "" {
			return CallListImages, project, ""
		}
	}
	return "", "", ""
}

// isWrite reports whether a call counts as a POST for the throttle.
func isWrite(call string) bool {
	return call == CallCheckImages || call == CallDesktopToImage || call == CallRebuild
}

// namedDesktops returns the desktops that a request names, as far as they can be read, each once.
func namedDesktops(req *request) []string {
	switch req.call {
	case CallGetDesktop, CallSysprep:
		return []string{req.target}
	case CallListDesktops:
		q, bad := parseQuery(req.rawQuery)
		if bad != nil {
			return nil
		}
		return q.values["desktop_id"]
	case CallCheckImages, CallRebuild, CallDesktopToImage:
	default:
		return nil
	}
	var body struct {
		One  any `json:"desktop_id"`
		Many any `json:"desktop_ids"`
	}
	if json.Unmarshal(req.body, &body) != nil {
		return nil
	}
	list, _ := body.Many.([]any)
	if req.call == CallDesktopToImage {
		list = []any{body.One}
	}
	var ids []string
	seen := map[string]bool{}
	for _, v := range list {
		if id, ok := v.(string); ok && len(ids) < 1000 && len(id) <= 1024 && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids
}
