package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"recompose/shared/rollout/fence"
	"recompose/shared/workspace"
)

// TargetImage is the image that the rollout brings.
type TargetImage struct {
	ID     string `json:"id,omitempty"`
	Type   string `json:"type,omitempty"`
	OSType string `json:"os_type,omitempty"`
}

// PlanInput is everything that a plan is made of.
type PlanInput struct {
	Spec       Spec
	Image      TargetImage
	IDs        []string        // targets by id; with Spec.Targets.Where they are not used
	Fleet      []Desktop       // as read, in any order
	Images     map[string]bool // gold and private images that exist; nil: not known
	NotAllowed map[string]bool // desktops that the allow and deny lists refuse
}

// Plan is which desktops are rebuilt, in which order and waves, and which are not and why.
type Plan struct {
	Slots   []Slot
	LeftOut []LeftOut // by id
	Waves   []Wave
	Canary  []Pick
	// NoWayBack and NotKnown are numbers of planned desktops: those whose earlier image no longer exists, and those of
	// which it is not known whether it does.
	NoWayBack int
	NotKnown  int
	Counts    Counts
	Digest    string
}

// Pick is a desktop of the canary, with the reason for its choice.
type Pick struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// MakePlan makes a plan. The same input gives the same plan, whatever the order of the fleet and of the ids.
func MakePlan(in PlanInput) Plan {
	var plan Plan
	var eligible []*Desktop
	protected := in.Spec.Targets.Except.ids()
	for _, t := range in.targets() {
		if state, reason := in.leaveOut(t, protected); state != "" {
			plan.LeftOut = append(plan.LeftOut, LeftOut{ID: t.ID, State: state, Reason: reason})
		} else {
			eligible = append(eligible, t.Desktop)
		}
	}
	size := min(in.Spec.Strategy.Canary, len(eligible))
	slices.SortFunc(eligible, compareImpact)
	for _, d := range eligible[:size] {
		plan.Canary = append(plan.Canary, Pick{d.ID, impact(d)})
	}
	slices.SortFunc(eligible[size:], func(a, b *Desktop) int { return cmp.Compare(a.ID, b.ID) })
	plan.Slots = make([]Slot, len(eligible))
	for i, d := range eligible {
		plan.Slots[i] = in.baseline(d)
		switch {
		case plan.Slots[i].ImageGone:
			plan.NoWayBack++
		case !in.Images[d.Image]:
			plan.NotKnown++
		}
	}
	plan.Waves = in.Spec.Strategy.waves(len(eligible))
	plan.Counts = Counts{}
	if len(plan.Slots) > 0 {
		plan.Counts[Pending] = len(plan.Slots)
	}
	for _, out := range plan.LeftOut {
		plan.Counts[out.State]++
	}
	plan.Digest = digest(in.Spec, in.Image, plan)
	return plan
}

// target is a desktop that the spec selects.
type target struct {
	*Desktop
	unknown  bool   // the service does not list it
	unproven string // the condition of where that its row has no value for
}

// targets are the desktops that the spec selects, by id, each once.
func (in PlanInput) targets() []target {
	var all []target
	if where := in.Spec.Targets.Where; where != nil {
		for i := range in.Fleet {
			if selected, unproven := where.selects(&in.Fleet[i]); selected {
				all = append(all, target{Desktop: &in.Fleet[i], unproven: unproven})
			}
		}
	} else {
		rows := make(map[string]*Desktop, len(in.Fleet))
		for i := range in.Fleet {
			rows[fence.Fold(in.Fleet[i].ID)] = &in.Fleet[i]
		}
		for _, id := range in.IDs {
			if d := rows[fence.Fold(id)]; d != nil {
				all = append(all, target{Desktop: d})
			} else {
				all = append(all, target{Desktop: &Desktop{ID: id}, unknown: true})
			}
		}
	}
	slices.SortFunc(all, func(a, b target) int {
		return cmp.Or(cmp.Compare(fence.Fold(a.ID), fence.Fold(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(all, func(a, b target) bool { return fence.Fold(a.ID) == fence.Fold(b.ID) })
}

// selects reports whether the desktop meets every condition, and names one that its row has no value for.
func (w Where) selects(d *Desktop) (selected bool, unproven string) {
	for key, value := range w.Tags {
		if d.Tags == nil {
			unproven = "tags"
		} else if has, there := d.Tags[key]; !there || has != value {
			return false, ""
		}
	}
	for _, c := range []struct{ name, wanted, has string }{
		{"image_id", w.ImageID, d.Image}, {"enterprise_project_id", w.EnterpriseProjectID, d.EPID},
	} {
		switch {
		case c.wanted == "" || strings.EqualFold(c.has, c.wanted):
		case c.has == "":
			unproven = c.name
		default:
			return false, ""
		}
	}
	if w.PoolID != "" && w.PoolID != d.PoolID || w.Status != "" && !strings.EqualFold(w.Status, d.Status) {
		return false, ""
	}
	if w.UserAttached != nil && d.UserAttached == nil {
		unproven = "user_attached"
	} else if w.UserAttached != nil && *w.UserAttached != *d.UserAttached {
		return false, ""
	}
	return true, unproven
}

// leaveOut returns the state of a target that is not planned, and the reason, which begins with a fixed word; "" for a
// target that is planned.
func (in PlanInput) leaveOut(t target, protected map[string]bool) (state, reason string) {
	spec, d := in.Spec, t.Desktop
	if t.unknown {
		return Refused, "unknown: the service lists no desktop with this id"
	}
	if strings.EqualFold(d.ID, spec.Image.FromDesktop) {
		return Skipped, "captured: the image is made from this desktop"
	}
	if protected[fence.Fold(d.ID)] {
		return Skipped, "protected: targets.except.desktop_ids has it"
	}
	if tags := spec.Targets.Except.tagsOf(d); len(tags) > 0 {
		return Skipped, "protected: targets.except.tags has its tag " + strings.Join(tags, ", ")
	}
	if e := spec.Targets.Except; e != nil && len(e.Tags) > 0 && d.Tags == nil {
		return Refused, "unproven: the list shows no tags, and targets.except.tags could protect it; plan once more"
	}
	if t.unproven != "" {
		return Refused, "unproven: the service shows no value for the condition targets.where." + t.unproven
	}
	if in.NotAllowed[d.ID] {
		return Refused, "not allowed: the allow list or the deny list refuses writes to it"
	}
	if in.Image.ID != "" && sameImage(d.Image, in.Image.ID) && (spec.Options.SkipCurrent == nil || *spec.Options.SkipCurrent) {
		return Skipped, "current: it runs the image already"
	}
	if d.PoolID != "" || d.Type == "POOLED" {
		return Refused, fmt.Sprintf("pooled: it belongs to a pool, which keeps its own image; rebuild the pool with "+
			"POST /v2/{project_id}/desktop-pools/%s/rebuild", cmp.Or(d.PoolID, "{pool_id}"))
	}
	os := cmp.Or(in.Image.OSType, spec.Image.OSType)
	known := os != "" && d.OSType != ""
	if known && !workspace.SameOSType(os, d.OSType) && !spec.Options.AllowOSChange {
		return Refused, fmt.Sprintf("other system: it runs %s and the image is %s; options.allow_os_change permits it",
			d.OSType, os)
	}
	// "1" is a yearly or monthly payment in charging_mode, which the service shows for a desktop.
	if in.Image.Type == "market" && d.ChargeMode == "1" && spec.Options.OrderID == "" {
		return Refused, "order: it is paid by the year or month, and a market image needs options.order_id"
	}
	switch {
	case d.Status == "ERROR":
		return Refused, "error: its status is ERROR; repair it first"
	case d.Status == "":
		return Refused, "error: the service shows no status; it is perhaps being deleted"
	case d.Task != "":
		return Refused, "busy: it has the task " + d.Task
	}
	return "", ""
}

// ids are the protected ids in lower case: protection does not depend on letter case.
func (e *Except) ids() map[string]bool {
	if e == nil {
		return nil
	}
	ids := make(map[string]bool, len(e.DesktopIDs))
	for _, id := range e.DesktopIDs {
		ids[fence.Fold(id)] = true
	}
	return ids
}

// tagsOf are the tags that protect a desktop.
func (e *Except) tagsOf(d *Desktop) []string {
	if e == nil {
		return nil
	}
	var tags []string
	for key, value := range e.Tags {
		if has, there := d.Tags[key]; there && has == value {
			tags = append(tags, key+"="+value)
		}
	}
	slices.Sort(tags)
	return tags
}

// baseline is a planned desktop as it is before the rollout. An image is gone only if it is of a kind that the service
// lists.
func (in PlanInput) baseline(d *Desktop) Slot {
	listed := strings.EqualFold(d.ImageType, "gold") || strings.EqualFold(d.ImageType, "private")
	return Slot{
		ID: d.ID, Image: d.Image, ImageType: d.ImageType, Status: d.Status, Root: d.Root, Data: d.Data,
		ImageGone: in.Images != nil && d.Image != "" && listed && !in.Images[d.Image],
	}
}

// Impact of a rebuild on people, least first.
var impacts = []string{
	"no user is attached",
	"a user is attached, and none is connected",
	"a user is attached; the desktop is off or not registered",
	"somebody may be working on it, and no other desktop is left",
}

func rank(d *Desktop) int {
	switch {
	case d.InUse():
		return 3
	case d.UserAttached != nil && !*d.UserAttached:
		return 0
	case d.Login == "REGISTERED":
		return 1
	}
	return 2
}

func impact(d *Desktop) string { return impacts[rank(d)] }

func compareImpact(a, b *Desktop) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID))
}

// waves cuts n slots into the canary and the waves. A wave without desktops is dropped.
func (s Strategy) waves(n int) []Wave {
	var waves []Wave
	end := min(s.Canary, n)
	if end > 0 {
		waves = append(waves, Wave{Kind: CanaryWave, To: end})
	}
	shares, _ := s.waveShares()
	for _, share := range shares {
		if to := (n*share + 99_99) / 100_00; to > end {
			waves = append(waves, Wave{Kind: PlainWave, From: end, To: to})
			end = to
		}
	}
	return waves
}
