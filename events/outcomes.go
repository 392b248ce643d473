package events

import (
	"encoding/json"
	"strings"
	"time"
)

// Ends of a job, and of one desktop in it.
const (
	Succeeded = "succeeded" // every desktop of the command succeeded, or ran the image already
	Partial   = "partial"   // some did
	Failed    = "failed"
	TimedOut  = "timed_out" // not ended within its deadline; it may still continue at the service
	Lost      = "lost"      // the service does not show the job: how it ended is not known
	Missing   = "missing"   // of a desktop: the job shows no sub-job for it
	Skipped   = "skipped"   // of a desktop: it ran the image already, no call was made for it
)

// What a failed command has done at the service.
const (
	EffectNone     = "none"     // nothing: it is safe to send the command once more
	EffectUnknown  = "unknown"  // not known: look at the desktops before sending the command once more
	EffectAccepted = "accepted" // the service accepted the call
)

// Kinds of failure.
const (
	KindInvalid        = "invalid"          // the command itself breaks a rule
	KindRefused        = "refused"          // 400 of the service
	KindUnauthorized   = "unauthorized"     // 401
	KindForbidden      = "forbidden"        // 403
	KindNotFound       = "not_found"        // 404 of the service
	KindEndpoint       = "endpoint"         // 404 of the gateway: no such API in this region or project
	KindConflict       = "conflict"         // 409, or an image name that is taken
	KindThrottled      = "throttled"        // 429, and no better later
	KindUnavailable    = "unavailable"      // unreachable or 5xx, and no better later
	KindBadAnswer      = "bad_answer"       // a response that cannot be read as the expected one
	KindAmbiguousImage = "ambiguous_image"  // several new images have the name
	KindUnknownOutcome = "unknown_outcome"  // it cannot be known whether the service accepted the call
	KindExpired        = "expired"          // too old to be carried out
	KindNotAllowed     = "not_allowed"      // another project, or a desktop that the allow and deny lists exclude
	KindIDReused       = "id_reused"        // the id of an earlier command, with other data
	KindFrozen         = "frozen"           // not published: a write waits while writes are frozen, then continues or ends as expired
	KindAttemptsUsedUp = "attempts_used_up" // every attempt ended in a crash or an unexpected error
	KindInternal       = "internal"         // a fault of recompose itself
)

// Texts of a Failure of kind KindNotAllowed because of the lists of desktops.
const (
	NotAllowedMsg    = "the lists of desktops do not allow " // ErrorMsg begins with it; ids follow
	NotAllowedDetail = "not allowed: "                       // ErrorDetail, if only some desktops are not allowed: it and all their ids
)

// ImageInfo is what the service returns about a desktop's image.
type ImageInfo struct {
	DesktopID string `json:"desktop_id"`
	ImageID   string `json:"image_id,omitempty"` // absent: the image is gone
	ImageName string `json:"image_name,omitempty"`
	ImageType string `json:"image_type,omitempty"`
	OSType    string `json:"os_type,omitempty"`
}

// CommandRef names a command and its data: a sender may reuse an id for other data.
type CommandRef struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	Source string `json:"source,omitempty"`
	Digest string `json:"digest,omitempty"` // of its data ([Digest]); absent if the data cannot be decoded
}

// JobAccepted reports that the service accepted a write call and began a job. It is not an end.
type JobAccepted struct {
	Function   string      `json:"function"` // rebuild or desktoptoimage
	Command    CommandRef  `json:"command"`
	JobID      string      `json:"job_id"`
	AcceptedAt time.Time   `json:"accepted_at"` // the service's clock
	Deadline   time.Time   `json:"deadline"`    // watchjob follows the job until then
	DesktopIDs []string    `json:"desktop_ids"` // those in the call
	Skipped    []string    `json:"skipped,omitempty"`
	Previous   []ImageInfo `json:"previous,omitempty"` // the baseline: what each desktop ran before
	ImageID    string      `json:"image_id,omitempty"`
	ImageType  string      `json:"image_type,omitempty"`
	ImageName  string      `json:"image_name,omitempty"` // of the image that the job makes
	DelayTime  int64       `json:"delay_time,omitempty"` // minutes before the rebuild begins
	Then       *Then       `json:"then,omitempty"`
	Warning    *Failure    `json:"warning,omitempty"` // an error that the service sent along with the job
	RequestID  string      `json:"request_id,omitempty"`
}

// JobCompleted is the end of a write command.
type JobCompleted struct {
	Function  string          `json:"function"`
	Command   CommandRef      `json:"command"`
	JobID     string          `json:"job_id,omitempty"` // absent where nothing was left to do, or no job was found
	Outcome   string          `json:"outcome"`          // succeeded, partial, failed, timed_out, lost
	Image     *Image          `json:"image,omitempty"`  // of an image job that succeeded
	ImageID   string          `json:"image_id,omitempty"`
	ImageType string          `json:"image_type,omitempty"`
	Desktops  []DesktopResult `json:"desktops,omitempty"` // one for each desktop of the command; of an image, the one captured
	Then      *Then           `json:"then,omitempty"`
	Error     *Failure        `json:"error,omitempty"` // why it did not succeed, if one reason holds for the whole job
}

// Image is the image that an image job has made.
type Image struct {
	ImageID   string `json:"image_id"`
	ImageName string `json:"image_name"`
	ImageType string `json:"image_type"`
	OSType    string `json:"os_type,omitempty"`
}

// DesktopResult is how a rebuild ended for one desktop. Texts are as the service sent them.
type DesktopResult struct {
	DesktopID string `json:"desktop_id"`
	Outcome   string `json:"outcome"` // succeeded, failed, missing, skipped
	// Kind is KindUnknownOutcome for a desktop that runs the image after an earlier attempt of its command for which
	// no job was found: succeeded, if it did not run the image before that attempt; missing, if that is not known.
	Kind       string `json:"kind,omitempty"`
	ErrorCode  string `json:"error_code,omitempty"`
	FailReason string `json:"fail_reason,omitempty"`
	Message    string `json:"message,omitempty"`
}

// ImagesChecked reports which image each desktop runs. After a rebuild it also reports whether that is the expected
// one.
type ImagesChecked struct {
	Command    CommandRef        `json:"command"`
	ImageInfos []json.RawMessage `json:"image_infos"`          // ImageInfo and every other field that the service returns
	Shortened  bool              `json:"shortened,omitempty"`  // image_infos have desktop_id and image_id only: complete, they would be too large for a message
	Missing    []string          `json:"missing"`              // the service returned nothing for these desktops: unknown, or the image is gone
	Expected   *Expected         `json:"expected,omitempty"`   // after a rebuild
	Matched    []string          `json:"matched,omitempty"`    // run the expected image
	Mismatched []string          `json:"mismatched,omitempty"` // do not run it after 10 minutes of checks
}

// MarshalJSON writes empty lists as lists, never as null.
func (c ImagesChecked) MarshalJSON() ([]byte, error) {
	type plain ImagesChecked
	if c.ImageInfos == nil {
		c.ImageInfos = []json.RawMessage{}
	}
	if c.Missing == nil {
		c.Missing = []string{}
	}
	return json.Marshal(plain(c))
}

// Expected is the image that the desktops should run.
type Expected struct {
	ImageID string `json:"image_id"`
}

// DesktopDescribed has every field that the service returns for a desktop, under the vendor's names and in one shape
// for all forms of the response: addresses are a map of lists, times are UTC, sizes and counts have the types of the
// vendor's table. Unknown fields are passed through. workspace.Desktop reads it.
type DesktopDescribed struct {
	Command CommandRef      `json:"command"`
	Desktop json.RawMessage `json:"desktop"`
}

// CommandSplit reports that a command continues as several. It is the end of the command itself.
type CommandSplit struct {
	Command CommandRef `json:"command"`
	Parts   []Part     `json:"parts"`
}

// Part is one command of a split.
type Part struct {
	ID         string   `json:"id"`
	Digest     string   `json:"digest,omitempty"` // of its data ([Digest])
	DesktopIDs []string `json:"desktop_ids"`
}

// CommandFailed reports that a command ended without success.
type CommandFailed struct {
	Command    CommandRef `json:"command"`
	Attempts   int        `json:"attempts"`
	DesktopIDs []string   `json:"desktop_ids,omitempty"`
	Effect     string     `json:"effect"` // none, unknown, accepted
	DeadLetter string     `json:"dead_letter,omitempty"`
	Error      Failure    `json:"error"`
}

// NotAllowed returns the desktops that the lists do not allow; nil if the command failed for another reason. The
// message names only the first of them.
func (f CommandFailed) NotAllowed() []string {
	if f.Error.Kind != KindNotAllowed || !strings.HasPrefix(f.Error.ErrorMsg, NotAllowedMsg) {
		return nil
	}
	if some, ok := strings.CutPrefix(f.Error.ErrorDetail, NotAllowedDetail); ok {
		return strings.Split(some, ", ")
	}
	return f.DesktopIDs
}

// JobProgress reports that the sub-jobs of a job have passed a quarter of their work. It is a notice, published at
// most once for each job and quarter; quarters that passed between two polls are left out.
type JobProgress struct {
	Function string     `json:"function"` // rebuild or desktoptoimage
	Command  CommandRef `json:"command"`
	JobID    string     `json:"job_id"`
	Percent  int        `json:"percent"` // 25, 50 or 75
}

// CommandUnclear reports that it is not known whether the service accepted the call of a write command, and that a
// search for its effect has begun. It is a notice, published once when the search begins; the command ends later, as
// every command does.
type CommandUnclear struct {
	Command    CommandRef `json:"command"`
	DesktopIDs []string   `json:"desktop_ids"`
	Since      time.Time  `json:"since"`     // when the search began
	NextLook   time.Time  `json:"next_look"` // time of the next request to the service
	Reason     string     `json:"reason"`    // why the outcome is not known
}

// LedgerAccepted is an operator's consent to a ledger that has lost records: writes begin anew, and commands whose
// records are gone can be carried out a second time. It does not answer a command.
type LedgerAccepted struct {
	Reason   string `json:"reason"`             // which check of the ledger failed
	By       string `json:"by"`                 // user@host
	Previous string `json:"previous,omitempty"` // the epoch of the ledger that has ended
}

// Failure is why something failed, with the details of the service's response.
type Failure struct {
	Kind                        string `json:"kind"`
	HTTPStatus                  int    `json:"http_status,omitempty"`
	ErrorCode                   string `json:"error_code,omitempty"`
	ErrorMsg                    string `json:"error_msg,omitempty"`
	ErrorDetail                 string `json:"error_detail,omitempty"`
	EncodedAuthorizationMessage string `json:"encoded_authorization_message,omitempty"`
	RequestID                   string `json:"request_id,omitempty"`
}
