package events

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// FnRollout is the token of the function that brings one image to a fleet in waves.
const FnRollout = "rollout"

// Types of the commands of a rollout: one a verb, so that rights can distinguish them.
const (
	TypeRolloutTargets  = "recompose.command.rollout.targets.v1"
	TypeRolloutStart    = "recompose.command.rollout.start.v1"
	TypeRolloutApprove  = "recompose.command.rollout.approve.v1"
	TypeRolloutPause    = "recompose.command.rollout.pause.v1"
	TypeRolloutResume   = "recompose.command.rollout.resume.v1"
	TypeRolloutPromote  = "recompose.command.rollout.promote.v1"
	TypeRolloutExclude  = "recompose.command.rollout.exclude.v1"
	TypeRolloutSet      = "recompose.command.rollout.set.v1"
	TypeRolloutRetry    = "recompose.command.rollout.retry.v1"
	TypeRolloutRollback = "recompose.command.rollout.rollback.v1"
	TypeRolloutAbort    = "recompose.command.rollout.abort.v1"
)

// Types of the events of a rollout. The data of each is a [Rollout].
const (
	TypeRolloutTargetsKept    = "recompose.event.rollout.targets.kept.v1"
	TypeRolloutPlanned        = "recompose.event.rollout.planned.v1"
	TypeRolloutApproved       = "recompose.event.rollout.approved.v1"
	TypeRolloutStarted        = "recompose.event.rollout.started.v1"
	TypeRolloutWaveStarted    = "recompose.event.rollout.wave.started.v1"
	TypeRolloutBatchCompleted = "recompose.event.rollout.batch.completed.v1"
	TypeRolloutWaveCompleted  = "recompose.event.rollout.wave.completed.v1"
	TypeRolloutPaused         = "recompose.event.rollout.paused.v1"
	TypeRolloutResumed        = "recompose.event.rollout.resumed.v1"
	TypeRolloutHalted         = "recompose.event.rollout.halted.v1"
	TypeRolloutChanged        = "recompose.event.rollout.changed.v1"
	TypeRolloutAborted        = "recompose.event.rollout.aborted.v1"
	TypeRolloutRolledBack     = "recompose.event.rollout.rolled_back.v1"
	TypeRolloutCompleted      = "recompose.event.rollout.completed.v1"
	TypeRolloutRejected       = "recompose.event.rollout.rejected.v1"
)

// RolloutEnd is the causationid of the event that ends a rollout whose start command has this identity: completed,
// aborted or rolled_back.
func RolloutEnd(identity string) string { return Derive(identity, "rollout", "end") }

// RolloutCommand is the data of a command of a rollout. Each verb has some of the fields; [DecodeRollout] refuses the
// others.
type RolloutCommand struct {
	ProjectID string `json:"project_id,omitempty"`
	Name      string `json:"name,omitempty"` // of the rollout; start has it in its spec

	Spec     json.RawMessage `json:"spec,omitempty"`      // start
	PlanOnly bool            `json:"plan_only,omitempty"` // start: stop once the plan is there
	Targets  *RolloutPages   `json:"targets,omitempty"`   // start: pages of ids that were sent ahead

	Page       int      `json:"page,omitempty"`        // targets: from 1
	DesktopIDs []string `json:"desktop_ids,omitempty"` // targets, exclude; retry, rollback: only these

	PlanSHA256 string `json:"plan_sha256,omitempty"` // approve: the digest of the plan in force
	By         string `json:"by,omitempty"`          // who sends it, in the sender's own words
	Reason     string `json:"reason,omitempty"`      // pause, resume, exclude, abort

	AcceptFailed   *int64          `json:"accept_failed,omitempty"`   // resume after a halt: the failures that are accepted
	MaxUnavailable int64           `json:"max_unavailable,omitempty"` // set
	MaxFailed      json.RawMessage `json:"max_failed,omitempty"`      // set: a number, or a share such as "2%"
	Window         json.RawMessage `json:"window,omitempty"`          // set
}

// RolloutPages names the pages of a long list of targets.
type RolloutPages struct {
	Pages  int64  `json:"pages"`
	SHA256 string `json:"sha256"` // of all ids in order, each followed by a newline
}

// Rollout is the data of every event of a rollout. The event with the highest revision shows how it stands.
type Rollout struct {
	Command  *CommandRef    `json:"command,omitempty"` // the command that the event answers
	Name     string         `json:"name"`
	Chain    string         `json:"chain,omitempty"` // correlation id of the rollout
	Revision int            `json:"revision,omitempty"`
	Phase    string         `json:"phase,omitempty"`
	Plan     int            `json:"plan,omitempty"`
	Digest   string         `json:"plan_sha256,omitempty"`
	PlanOnly bool           `json:"plan_only,omitempty"`
	ImageID  string         `json:"image_id,omitempty"`
	Counts   map[string]int `json:"counts,omitempty"` // desktops by state
	Wave     *RolloutWave   `json:"wave,omitempty"`
	Batch    *RolloutBatch  `json:"batch,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Why      string         `json:"why,omitempty"` // of a halt: max_failed, canary_max_failed, no_evidence, no_room
	By       string         `json:"by,omitempty"`
	// Desktops are those that caused a halt, or that an exclude could not take out, at most 20.
	Desktops []RolloutDesktop `json:"desktops,omitempty"`
	Forecast *RolloutForecast `json:"forecast,omitempty"`
	Until    time.Time        `json:"until,omitzero"` // of planned: the plan expires then
}

// RolloutWave is one wave.
type RolloutWave struct {
	Number int            `json:"number"` // from 1
	Of     int            `json:"of"`
	Kind   string         `json:"kind"` // canary, wave, deferred, retry, rollback
	Size   int            `json:"size"`
	Counts map[string]int `json:"counts,omitempty"`
}

// RolloutBatch is one batch that has ended.
type RolloutBatch struct {
	Number   int              `json:"number"` // from 1
	Attempt  int              `json:"attempt"`
	Desktops []RolloutDesktop `json:"desktops"`
}

// RolloutDesktop is the state of one desktop.
type RolloutDesktop struct {
	DesktopID string    `json:"desktop_id"`
	State     string    `json:"state"`
	Code      string    `json:"code,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	At        time.Time `json:"at,omitzero"`
	RequestID string    `json:"request_id,omitempty"`
}

// RolloutForecast is what a plan is expected to take.
type RolloutForecast struct {
	End            time.Time `json:"end,omitzero"`
	MaxUnavailable int       `json:"max_unavailable"`
	Calls          int       `json:"calls"`
	Windows        int       `json:"windows"`
	HaltsAt        int       `json:"halts_at"` // failed desktops
}

// maxReason is the longest reason of a command of a rollout, in characters.
const maxReason = 400

// DecodeRollout returns the decoder for the data of a command of this type. Its error is an *InvalidError with every
// fault.
func DecodeRollout(typ string) func(data json.RawMessage) (RolloutCommand, error) {
	return func(data json.RawMessage) (RolloutCommand, error) {
		return decode(data, func(o *object) (c RolloutCommand) {
			c.ProjectID = o.id("project_id", false)
			if typ == TypeRolloutStart {
				c.Spec = readSpec(o)
				c.PlanOnly = o.isTrue("plan_only")
				c.Targets = readPages(o)
				return c
			}
			c.Name = readRolloutName(o)
			c.By = o.text("by", maxShortText)
			switch typ {
			case TypeRolloutTargets:
				if c.Page = int(o.whole("page", 1_000_000)); c.Page < 1 {
					o.fault(o.at("page"), "", "must be given, from 1")
				}
				c.DesktopIDs = o.desktopIDs(true)
			case TypeRolloutApprove:
				c.PlanSHA256 = readSHA256(o, "plan_sha256")
			case TypeRolloutPause, TypeRolloutAbort:
				c.Reason = o.text("reason", maxReason)
			case TypeRolloutResume:
				c.Reason = o.text("reason", maxReason)
				if n := o.whole("accept_failed", 1_000_000); o.given("accept_failed") {
					c.AcceptFailed = &n
				}
			case TypeRolloutExclude:
				c.DesktopIDs = o.desktopIDs(true)
				c.Reason, _ = o.requireText("reason", maxReason)
			case TypeRolloutSet:
				c.MaxUnavailable = o.whole("max_unavailable", 1_000_000)
				c.MaxFailed, _ = o.value("max_failed")
				c.Window, _ = o.value("window")
				if c.MaxUnavailable == 0 && c.MaxFailed == nil && c.Window == nil {
					o.fault(o.at("max_unavailable"), "", "give max_unavailable, max_failed or window")
				}
			case TypeRolloutRetry, TypeRolloutRollback:
				c.DesktopIDs = o.desktopIDs(false)
			}
			return c
		})
	}
}

func readSpec(o *object) json.RawMessage {
	v, ok := o.requireValue("spec")
	if ok && v[0] != '{' {
		o.fault(o.at("spec"), shorten(v), "must be an object")
	}
	return slices.Clone(v)
}

func readPages(o *object) *RolloutPages {
	t := o.child("targets")
	if t == nil {
		return nil
	}
	p := &RolloutPages{Pages: t.whole("pages", 1_000), SHA256: readSHA256(t, "sha256")}
	if p.Pages < 1 {
		t.fault(t.at("pages"), "", "must be at least 1")
	}
	t.done()
	return p
}

func readSHA256(o *object, name string) string {
	s, ok := o.requireText(name, 64)
	if !ok {
		return ""
	}
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		o.fault(o.at(name), shorten(s), "must be a SHA-256 in lower-case hex: 64 digits")
		return ""
	}
	return s
}

func readRolloutName(o *object) string {
	name, ok := o.requireText("name", MaxRolloutName)
	if ok && !IsRolloutName(name) {
		o.fault(o.at("name"), shorten(name), "may have a to z, 0 to 9 and - only")
	}
	return name
}
