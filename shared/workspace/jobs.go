package workspace

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The types of the jobs that this client starts (Go SDK). Compare with [SubJob.IsRebuild] and [SubJob.IsImage].
const (
	JobTypeRebuild = "rebuildDesktops"
	JobTypeImage   = "desktopToImage"
)

// State is the meaning of the status word of a job or sub-job.
type State string

// The states. Unknown is a word that the API does not have: treat it as pending, and let a deadline end the wait.
const (
	Pending   State = "pending"
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Unknown   State = "unknown"
)

// SubJob is JobDetailInfo: one desktop's part of a job. Source: definitions and Go SDK; a field marked O or K is only
// there.
type SubJob struct {
	ID          string       `json:"id"`     // of the sub-job
	JobID       string       `json:"job_id"` // of the job, as the write returned it
	JobType     string       `json:"job_type"`
	Entities    *JobEntities `json:"entities"`
	BeginTime   Time         `json:"begin_time"`
	EndTime     Time         `json:"end_time"` // may be set while the sub-job still runs: decide by State
	Status      string       `json:"status"`   // WAITING, RUNNING, SUCCESS, FAILED
	Process     *int64       `json:"process"`  // percent
	ErrorCode   string       `json:"error_code"`
	FailReason  string       `json:"fail_reason"`
	Message     string       `json:"message"`      // O
	DesktopName string       `json:"desktop_name"` // O
	MACAddress  string       `json:"mac_address"`  // O
	IPAddress   string       `json:"ip_address"`
	Host        string       `json:"host"`        // K
	ProjectID   string       `json:"project_id"`  // K
	AttachUser  string       `json:"attach_user"` // K
	Entity      string       `json:"entity"`      // K
	Extra       Extra        `json:"-"`
}

// JobEntities names what a sub-job works on. The sub-job of a new image does not name the image. Source: definitions;
// DesktopName and IPAddress are from the Go SDK.
type JobEntities struct {
	DesktopID   string `json:"desktop_id"`
	ProductID   string `json:"product_id"`
	UserName    string `json:"user_name"`
	DesktopName string `json:"desktop_name"`
	IPAddress   string `json:"ip_address"`
	Extra       Extra  `json:"-"`
}

// State reads the status word, in any case: WAITING and RUNNING are pending; SUCCESS succeeded; FAILED and FAIL
// failed. COMPLETE, a word of parent jobs, is unknown here.
func (s SubJob) State() State {
	switch word(s.Status) {
	case "WAITING", "RUNNING":
		return Pending
	case "SUCCESS":
		return Succeeded
	case "FAILED", "FAIL":
		return Failed
	}
	return Unknown
}

// DesktopID is the desktop that the sub-job works on, "" if the answer does not name it.
func (s SubJob) DesktopID() string {
	if s.Entities == nil {
		return ""
	}
	return s.Entities.DesktopID
}

// IsRebuild reports whether the sub-job rebuilds a desktop. It compares by prefix, because one of the vendor's pages
// spells the type rebuildDesktopss.
func (s SubJob) IsRebuild() bool { return hasPrefixFold(s.JobType, JobTypeRebuild) }

// IsImage reports whether the sub-job makes an image of a desktop.
func (s SubJob) IsImage() bool { return hasPrefixFold(s.JobType, JobTypeImage) }

// LogValue names only the ids and the state.
func (s SubJob) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", printable(s.ID)), slog.String("job_id", printable(s.JobID)),
		slog.String("job_type", printable(s.JobType)), slog.String("desktop_id", printable(s.DesktopID())),
		slog.String("status", printable(s.Status)), slog.String("error_code", printable(s.ErrorCode)))
}

func word(status string) string { return strings.ToUpper(strings.TrimSpace(status)) }

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// SubJobsQuery filters [Client.ListSubJobs]. JobID or JobType is required; empty fields are not sent. Source:
// definitions.
type SubJobsQuery struct {
	JobID    string   // the job_id that a write returned
	JobType  string   // the exact word; the service compares it
	Status   []string // SUCCESS, RUNNING, FAILED, WAITING; none means all
	Desktops int      // how many the job of JobID has; more sub-jobs are not looked for
	// Sure reads on until no further sub-job comes, whatever total the service reports: for a caller who concludes much from
	// the absence of a job. It costs a call more.
	Sure bool
	// Brief keeps only these fields of each sub-job: ids, type, desktop, begin, status and
	// progress. A list of thousands takes a third of the memory.
	Brief bool
}

// SubJobs is the answer to [Client.ListSubJobs].
type SubJobs struct {
	Jobs []SubJob
	// Complete reports whether it is certain that nothing is missing. Never conclude from a sub-job's absence without
	// it.
	Complete bool
	// Date is the service's clock at the earliest page, zero if a page came without one.
	Date time.Time
}

// ListSubJobs lists sub-jobs, reading pages of 1,000 up to the service's last offset, 10,000. It may be repeated. The
// list of a job that was just accepted may be empty for a while, and history can be deleted.
// A query without JobID and JobType is refused, because the service treats an empty job_id as no filter. Sub-jobs that
// name another job than the requested one are left out, and then Complete is false.
func (c *Client) ListSubJobs(ctx context.Context, q SubJobsQuery) (SubJobs, error) {
	const op = "list-sub-jobs"
	if q.JobID == "" && q.JobType == "" {
		return SubJobs{}, invalid(op, errors.New("job_id and job_type are both empty, which the service reads as every job:"+
			" give one"))
	}
	query := url.Values{}
	for name, value := range map[string]string{
		"job_id": q.JobID, "job_type": q.JobType,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for _, status := range q.Status {
		if status != "" {
			query.Add("status", status)
		}
	}
	decode := decodeSubJobs
	if q.Brief {
		decode = decodeBriefly
	}
	enough := q.Desktops
	if len(q.Status) > 0 { // of jobs under way: the absence of one proves nothing
		enough = 1
	}
	l, err := listAll(ctx, c, listing[SubJob]{
		call:   call{operation: op, method: http.MethodGet, path: []string{"workspace-sub-jobs"}, query: query},
		decode: decode, id: func(s SubJob) string { return s.ID }, limit: 1000, lastOffset: 10000,
		enough: enough, sure: q.Sure,
	})
	out := SubJobs{Complete: l.complete, Date: l.date}
	for _, job := range l.items {
		if q.JobID != "" && job.JobID != "" && job.JobID != q.JobID {
			out.Complete = false
			continue
		}
		out.Jobs = append(out.Jobs, job)
	}
	return out, err
}

func decodeSubJobs(body []byte) (page[SubJob], error) { return decodePage[SubJob](body, "jobs") }

func decodeBriefly(body []byte) (page[SubJob], error) {
	p, err := decodeSubJobs(body)
	for i, s := range p.items {
		brief := SubJob{ID: s.ID, JobID: s.JobID, JobType: s.JobType, BeginTime: s.BeginTime, Status: s.Status, Process: s.Process}
		if i > 0 { // most rows of a page share these words
			before := p.items[i-1]
			brief.JobID, brief.JobType = same(s.JobID, before.JobID), same(s.JobType, before.JobType)
			brief.Status = same(s.Status, before.Status)
		}
		if id := s.DesktopID(); id != "" {
			brief.Entities = &JobEntities{DesktopID: id}
		}
		p.items[i] = brief
	}
	return p, err
}

// same is before where both are equal, so that one of them can be freed.
func same(s, before string) string {
	if s == before {
		return before
	}
	return s
}
