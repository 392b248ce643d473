package emulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The quirks: observed or documented behaviour of the service that deviates from its definitions. docs/emulator.md
// describes each.
const (
	quirkDesktopArray     = "desktop-array"
	quirkAddressesArray   = "addresses-array"
	quirkStatusLower      = "status-lower-case"
	quirkStatusEmpty      = "status-empty"
	quirkTaskStatusNull   = "task-status-null"
	quirkProcessNull      = "process-null"
	quirkNoSecurityGroups = "security-groups-missing"
	quirkTimesNoZone      = "times-without-zone"
	quirkUnknownFields    = "unknown-fields"
	quirkSATAVolume       = "sata-volume"
	quirkMetadataNumber   = "metadata-number"
	quirkRebuildError     = "rebuild-200-error"
	quirkRebuildBoth      = "rebuild-200-both"
	quirkNoJobID          = "image-200-no-job"
	quirkNoEntry          = "check-images-no-entry"
	quirkNoImageID        = "check-images-no-image-id"
	quirkForeignID        = "check-images-foreign-id"
	quirkListUnfiltered   = "list-filters-ignored"
	quirkListFirstID      = "list-first-id"
	quirkListPagesCapped  = "list-pages-capped"
	quirkListRandomOrder  = "list-random-order"
	quirkListDeleted      = "list-desktop-deleted"
	quirkListTotalOfAll   = "list-total-of-all"
	quirkListNoTotal      = "list-total-missing"
	quirkListPoolID       = "list-pool-id"
	quirkSubJobsEmpty     = "sub-jobs-empty"
	quirkEndWhileRunning  = "end-time-while-running"
	quirkParentComplete   = "parent-complete"
	quirkParentFail       = "parent-fail"
	quirkJobTypeTypo      = "job-type-typo"
	quirkHistoryDeleted   = "history-deleted"
	quirkDesktopLag       = "desktop-lag"
	quirkImageLag         = "image-lag"
	quirkImageTaskStatus  = "image-task-status"
	quirkLateFailure      = "late-failure"
	quirkSysprepString    = "sysprep-string"
	quirkNoSysprep        = "sysprep-unsupported"
	quirkSysprepMissing   = "sysprep-missing"
	quirkShutoffRefused   = "shutoff-refused"
	quirkShutoffAllowed   = "shutoff-allowed"
	quirkGateway404       = "gateway-404"
	quirkHTML502          = "html-502"
	quirkThrottled        = "throttled"
	quirkRetryAfter       = "throttled-retry-after"
	quirkRedirect         = "redirect-302"
	quirkEmptyAnswer      = "empty-answer"
	quirkNeedsContentType = "content-type-required"
	quirkDropAfter        = "drop-after"
	quirkDeliverTwice     = "deliver-twice"
	quirkTakenError       = "taken-200-error"
	quirkNoAgency         = "no-agency"
	quirkKeyPage          = "key-page"
	quirkKeyIncomplete    = "key-incomplete"
	quirkKeyPast          = "key-past"
)

var (
	onDesktop = []string{CallGetDesktop, CallListDesktops}
	onFleet   = []string{CallListDesktops}
	onCheck   = []string{CallCheckImages}
	onRebuild = []string{CallRebuild}
	onImage   = []string{CallDesktopToImage}
	onWrites  = []string{CallDesktopToImage, CallRebuild}
	onJobs    = []string{CallListSubJobs, CallShowJob}
	onLists   = []string{CallDesktopToImage, CallRebuild, CallListSubJobs, CallShowJob}
	onKey     = []string{CallSecurityKey}
	onAll     = calls
)

// quirkCalls lists the calls on which a quirk has an effect. It is never changed.
var quirkCalls = map[string][]string{
	quirkDesktopArray: {CallGetDesktop}, quirkAddressesArray: onDesktop, quirkStatusLower: onDesktop, quirkStatusEmpty: onDesktop,
	quirkTaskStatusNull: onDesktop, quirkProcessNull: onDesktop, quirkNoSecurityGroups: onDesktop, quirkTimesNoZone: onDesktop,
	quirkSATAVolume: onDesktop, quirkMetadataNumber: onDesktop,
	quirkUnknownFields: onAll,
	quirkRebuildError:  onRebuild, quirkRebuildBoth: onRebuild, quirkDesktopLag: onRebuild, quirkShutoffRefused: onRebuild,
	quirkNoJobID: onImage, quirkImageLag: onImage, quirkImageTaskStatus: onImage, quirkSysprepString: onImage, quirkShutoffAllowed: onImage,
	quirkLateFailure: onWrites, quirkDeliverTwice: onWrites, quirkTakenError: onWrites,
	quirkNoSysprep: {CallSysprep}, quirkSysprepMissing: {CallSysprep},
	quirkNoEntry: onCheck, quirkNoImageID: onCheck, quirkForeignID: onCheck,
	quirkListUnfiltered: onFleet, quirkListFirstID: onFleet, quirkListPagesCapped: onFleet, quirkListRandomOrder: onFleet,
	quirkListDeleted: onFleet, quirkListTotalOfAll: onFleet, quirkListNoTotal: onFleet, quirkListPoolID: onFleet,
	quirkSubJobsEmpty: onLists, quirkHistoryDeleted: onLists,
	quirkEndWhileRunning: onJobs, quirkParentComplete: {CallShowJob}, quirkParentFail: {CallShowJob}, quirkJobTypeTypo: onJobs,
	quirkNoAgency: onKey, quirkKeyPage: onKey, quirkKeyIncomplete: onKey, quirkKeyPast: onKey,
	quirkGateway404: onAll, quirkHTML502: onAll, quirkThrottled: onAll, quirkRetryAfter: onAll, quirkRedirect: onAll,
	quirkEmptyAnswer: onAll, quirkNeedsContentType: onAll, quirkDropAfter: onAll,
}

// Quirks lists the names for [Do].Quirk, in alphabetical order.
func Quirks() []string { return slices.Sorted(maps.Keys(quirkCalls)) }

// quirkSet is the quirks of one request.
type quirkSet map[string]bool

func (q quirkSet) has(name string) bool { return q[name] }

// answersError reports whether a quirk uses the error_code and error_msg of its fault.
func (q quirkSet) answersError() bool {
	return q.has(quirkRebuildError) || q.has(quirkRebuildBoth) || q.has(quirkTakenError)
}

// parseQuirks reads names separated by commas and checks that each has an effect on the call.
func parseQuirks(call, names string) (quirkSet, error) {
	if names == "" {
		return nil, nil
	}
	set := quirkSet{}
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		on, ok := quirkCalls[name]
		if !ok {
			return nil, fmt.Errorf("quirk %q is unknown; known are %s", name, strings.Join(Quirks(), ", "))
		}
		if call != CallAny && !slices.Contains(on, call) {
			return nil, fmt.Errorf("quirk %s has no effect on the call %s; use it on %s", name, call, strings.Join(on, ", "))
		}
		set[name] = true
	}
	return set, nil
}

// instead returns the answer of a quirk that replaces the whole call, which then has no effect; nil if there is none.
func (q quirkSet) instead(req *request, do Do) *answer {
	switch {
	case q.has(quirkGateway404):
		return noRoute().answer(req.id)
	case q.has(quirkHTML502):
		return &answer{status: http.StatusBadGateway, kind: "text/html",
			raw: []byte("<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center></body>\r\n</html>\r\n")}
	case q.has(quirkThrottled), q.has(quirkRetryAfter):
		r := refuse(http.StatusTooManyRequests, codeThrottled, "%s", throttleText(0))
		if q.has(quirkRetryAfter) {
			r.header = map[string]string{"Retry-After": cmp.Or(do.RetryAfter, "30")}
		}
		return r.answer(req.id)
	case q.has(quirkRedirect):
		return &answer{status: http.StatusFound, header: map[string]string{"Location": "/moved"}, kind: "text/html", raw: []byte{}}
	case q.has(quirkNeedsContentType) && req.header.Get("Content-Type") == "":
		return refuse(http.StatusUnsupportedMediaType, codeMediaType, "The Content-Type is missing.").answer(req.id)
	case (q.has(quirkSubJobsEmpty) || q.has(quirkHistoryDeleted)) && req.call == CallShowJob:
		return noJob(req.target).answer(req.id)
	case q.has(quirkNoAgency) && req.call == CallSecurityKey:
		return text(http.StatusUnauthorized, "Please configure the cloud service agency of this server first.")
	case q.has(quirkKeyPage) && req.call == CallSecurityKey:
		return &answer{status: http.StatusOK, kind: "text/html", raw: []byte("<html><body>Log in to the network first.</body></html>")}
	case q.has(quirkRebuildError) && req.call == CallRebuild:
		body := errorFields(do)
		code, _ := body["error_code"].(string)
		return &answer{status: http.StatusOK, body: body, code: code}
	}
	return nil
}

func errorFields(do Do) map[string]any {
	return map[string]any{
		"error_code": cmp.Or(do.ErrorCode, codeBusy),
		"error_msg":  cmp.Or(do.ErrorMsg, "The status of the instance does not allow this operation."),
	}
}

// bend changes a successful answer according to the quirks.
func (q quirkSet) bend(req *request, do Do, ans *answer) error {
	if len(q) == 0 || ans.status >= 300 || ans.kind != "" {
		return nil
	}
	if q.has(quirkEmptyAnswer) {
		ans.kind, ans.raw = "application/json", []byte{}
		return nil
	}
	body, err := asMap(ans.body)
	if err != nil {
		return err
	}
	if req.call == CallRebuild && q.has(quirkRebuildBoth) || ans.job != nil && q.has(quirkTakenError) {
		maps.Copy(body, errorFields(do))
		ans.code, _ = body["error_code"].(string)
	}
	if req.call == CallDesktopToImage && q.has(quirkNoJobID) || ans.job != nil && q.has(quirkTakenError) {
		delete(body, "job_id")
	}
	if d, ok := body["desktop"].(map[string]any); ok {
		q.bendDesktop(d)
		if q.has(quirkDesktopArray) {
			body["desktop"] = []any{d}
		}
	}
	switch req.call {
	case CallListDesktops:
		q.bendDesktops(body)
	case CallCheckImages:
		q.bendImageInfos(body)
	case CallListSubJobs:
		if q.has(quirkSubJobsEmpty) || q.has(quirkHistoryDeleted) {
			body["jobs"], body["total_count"] = []any{}, 0
		}
		q.bendSubJobs(body["jobs"])
	case CallShowJob:
		q.bendJob(body)
	case CallSecurityKey:
		q.bendKey(body)
	}
	if q.has(quirkUnknownFields) {
		body["x_new_field"] = map[string]any{"since": 2027, "list": []any{true, nil, "text"}}
	}
	ans.body = body
	return nil
}

func (q quirkSet) bendDesktops(body map[string]any) {
	if q.has(quirkListNoTotal) {
		delete(body, "total_count")
	}
	list, _ := body["desktops"].([]any)
	for _, item := range list {
		if d, ok := item.(map[string]any); ok {
			q.bendDesktop(d)
		}
	}
}

func (q quirkSet) bendDesktop(d map[string]any) {
	if lists, ok := d["addresses"].(map[string]any); ok && q.has(quirkAddressesArray) {
		flat := []any{}
		for _, key := range slices.Sorted(maps.Keys(lists)) {
			list, _ := lists[key].([]any)
			flat = append(flat, list...)
		}
		d["addresses"] = flat
	}
	if s, ok := d["status"].(string); ok && q.has(quirkStatusLower) {
		d["status"] = strings.ToLower(s)
	}
	if q.has(quirkStatusEmpty) {
		d["status"] = ""
	}
	if q.has(quirkTaskStatusNull) {
		d["task_status"] = nil
	}
	if q.has(quirkProcessNull) {
		d["process"] = nil
	}
	if q.has(quirkNoSecurityGroups) {
		delete(d, "security_groups")
	}
	if md, ok := d["metadata"].(map[string]any); ok && q.has(quirkMetadataNumber) {
		md["os_bit"] = 64
	}
	root, _ := d["root_volume"].(map[string]any)
	volumes, _ := d["data_volumes"].([]any)
	if root != nil {
		volumes = append([]any{root}, volumes...)
	}
	if q.has(quirkTimesNoZone) {
		dropZone(d, "created")
	}
	for _, v := range volumes {
		vol, ok := v.(map[string]any)
		if !ok {
			continue
		}
		if q.has(quirkTimesNoZone) {
			dropZone(vol, "create_time")
		}
		if q.has(quirkSATAVolume) {
			vol["type"] = "SATA"
		}
	}
	if q.has(quirkUnknownFields) {
		d["x_new_field"] = []any{map[string]any{"a": 1}}
	}
}

func dropZone(m map[string]any, key string) {
	text, _ := m[key].(string)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		m[key] = t.UTC().Format(jobTime)
	}
}

func (q quirkSet) bendImageInfos(body map[string]any) {
	infos, _ := body["image_infos"].([]any)
	if q.has(quirkNoEntry) {
		infos = infos[:0]
	}
	for _, i := range infos {
		info, ok := i.(map[string]any)
		if !ok {
			continue
		}
		if q.has(quirkNoImageID) {
			delete(info, "image_id")
		}
		if q.has(quirkForeignID) {
			info["desktop_id"] = madeUpID("foreign-desktop", 0)
		}
	}
	body["image_infos"] = infos
}

func (q quirkSet) bendJob(job map[string]any) {
	q.bendSubJobs(job["sub_jobs"])
	if q.has(quirkJobTypeTypo) && job["job_type"] == typeRebuild {
		job["job_type"] = typeRebuild + "s"
	}
	switch {
	case job["status"] == jobRunning:
	case q.has(quirkParentComplete):
		job["status"] = jobComplete
	case q.has(quirkParentFail):
		job["status"] = jobFail
	}
}

func (q quirkSet) bendSubJobs(list any) {
	jobs, _ := list.([]any)
	for _, j := range jobs {
		sub, ok := j.(map[string]any)
		if !ok {
			continue
		}
		if q.has(quirkJobTypeTypo) && sub["job_type"] == typeRebuild {
			sub["job_type"] = typeRebuild + "s"
		}
		if q.has(quirkEndWhileRunning) && sub["status"] == subRunning {
			sub["end_time"] = sub["begin_time"]
		}
	}
}

// asMap returns v as JSON decodes it.
func asMap(v any) (map[string]any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read answer back: %w", err)
	}
	return m, nil
}
