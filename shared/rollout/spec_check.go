package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"recompose/events"
)

// Limits of a spec.
const (
	maxWaves  = 100
	maxTags   = 50 // the service gives a desktop fewer
	maxWithin = Duration(30 * 24 * time.Hour)
	maxTime   = Duration(7 * 24 * time.Hour) // of soak and defer_for
)

// Check returns a *SpecError with every rule that the spec breaks, or nil.
func (s Spec) Check() error {
	var faults SpecError
	s.check(&faults)
	return faults.err()
}

func (s Spec) check(f *SpecError) {
	if !events.IsRolloutName(s.Name) {
		f.add(0, "name", given(s.Name), "must be 1 to 40 of a to z, 0 to 9 and -")
	}
	s.checkImage(f)
	s.Targets.check(f)
	s.Strategy.check(f)
	if !f.covers("strategy.max_unavailable") && !f.covers("strategy.max_failed") {
		s.checkRoom(len(s.Targets.DesktopIDs), f)
	}
	s.Users.check(f)
	s.Window.check(f)
	s.Approval.check(f)
	s.checkRebuild(f)
}

// CheckRoom returns a *SpecError if a rollout to n desktops has no room left, because of failures, before its
// max_failed halts it; else nil. Check applies it where the spec itself has the ids.
func (s Spec) CheckRoom(n int) error {
	var faults SpecError
	s.checkRoom(n, &faults)
	return faults.err()
}

func (s Spec) checkRoom(n int, f *SpecError) {
	if allowed := s.Strategy.MaxFailed.Of(n); allowed >= s.Strategy.MaxUnavailable {
		f.add(0, "strategy.max_unavailable", strconv.Itoa(s.Strategy.MaxUnavailable),
			"must be over the number of desktops that max_failed (%s) allows to fail, which is %d: failed desktops "+
				"count as unavailable, and would use it up before max_failed halts the rollout", s.Strategy.MaxFailed, allowed)
	}
}

func (s Spec) checkImage(f *SpecError) {
	i := s.Image
	switch {
	case i.FromDesktop != "" && i.ImageID != "":
		f.add(0, "image", "", "must have one of from_desktop and image_id; both are given")
	case i.FromDesktop == "" && i.ImageID == "":
		f.add(0, "image", "", "must have from_desktop (a desktop to capture) or image_id")
	case i.FromDesktop != "":
		checkID(f, "image.from_desktop", i.FromDesktop)
		if i.ExecuteSysprep == nil {
			f.add(0, "image.execute_sysprep", "",
				"must be given with from_desktop: true deletes the user profiles on that desktop")
		}
		if i.ImageType != "" {
			f.add(0, "image.image_type", given(i.ImageType),
				"must not be given with from_desktop: a captured image is private")
		}
	case i.ExecuteSysprep != nil:
		f.add(0, "image.execute_sysprep", "", "must not be given with image_id: nothing is captured")
	}
}

func (t Targets) check(f *SpecError) {
	var sources []string
	if t.DesktopIDs != nil {
		sources = append(sources, "desktop_ids")
	}
	if t.File != "" {
		sources = append(sources, "file")
	}
	if t.Where != nil {
		sources = append(sources, "where")
	}
	switch len(sources) {
	case 1:
	case 0:
		f.add(0, "targets", "", "must have one of desktop_ids, file and where")
	default:
		f.add(0, "targets", "", "must have one of desktop_ids, file and where; %s are given",
			strings.Join(sources, " and "))
	}
	if t.DesktopIDs != nil {
		checkIDs(f, "targets.desktop_ids", t.DesktopIDs)
	}
	if w := t.Where; w != nil {
		w.check(f)
	}
	if e := t.Except; e != nil {
		if len(e.DesktopIDs) > 0 {
			checkIDs(f, "targets.except.desktop_ids", e.DesktopIDs)
		}
		checkTags(f, "targets.except.tags", e.Tags)
	}
}

// Statuses are the words of where.status.
var Statuses = []string{"ACTIVE", "SHUTOFF", "HIBERNATED", "ERROR"}

func (w Where) check(f *SpecError) {
	if w.ImageID == "" && len(w.Tags) == 0 && w.PoolID == "" && w.EnterpriseProjectID == "" && w.UserAttached == nil &&
		w.Status == "" {
		f.add(0, "targets.where", "", "must have at least one condition: without one it selects every desktop of the project")
	}
	if w.ImageID != "" {
		checkID(f, "targets.where.image_id", w.ImageID)
	}
	if w.PoolID != "" {
		checkID(f, "targets.where.pool_id", w.PoolID)
	}
	if w.EnterpriseProjectID != "" {
		options := events.RebuildOptions{EnterpriseProjectID: w.EnterpriseProjectID}
		for _, fault := range rebuildFaults(events.Rebuild{RebuildOptions: options}) {
			f.add(0, "targets.where."+fault.Field, fault.Value, "%s", fault.Rule)
		}
	}
	if w.Status != "" && !slices.Contains(Statuses, w.Status) {
		f.add(0, "targets.where.status", given(w.Status), "must be one of %s", strings.Join(Statuses, ", "))
	}
	checkTags(f, "targets.where.tags", w.Tags)
}

func (s Strategy) check(f *SpecError) {
	if s.Canary < 0 {
		f.add(0, "strategy.canary", strconv.Itoa(s.Canary), "must be 0 or more")
	}
	switch {
	case s.CanaryMaxFailed < 0:
		f.add(0, "strategy.canary_max_failed", strconv.Itoa(s.CanaryMaxFailed), "must be 0 or more")
	case s.CanaryMaxFailed > 0 && s.CanaryMaxFailed >= s.Canary:
		f.add(0, "strategy.canary_max_failed", strconv.Itoa(s.CanaryMaxFailed),
			"must be less than canary (%d): else a canary of which every desktop failed passes", s.Canary)
	}
	s.checkWaves(f)
	if s.MaxUnavailable < 1 {
		f.add(0, "strategy.max_unavailable", strconv.Itoa(s.MaxUnavailable), "must be 1 or more")
	}
	if _, err := ParseAmount(s.MaxFailed.String()); err != nil {
		f.add(0, "strategy.max_failed", s.MaxFailed.String(), "%s", err)
	}
	checkTime(f, "strategy.soak", s.Soak, 0, maxTime)
}

func (s Strategy) checkWaves(f *SpecError) {
	shares, ok := s.waveShares()
	switch n := len(s.Waves); {
	case n == 0 || n > maxWaves:
		f.add(0, "strategy.waves", fmt.Sprintf("%d waves", n), "must be 1 to %d percentages", maxWaves)
	case !ok:
		f.add(0, "strategy.waves", given(strings.Join(s.Waves, ", ")),
			`must be percentages with at most two decimals, such as "10%%", "50%%", "100%%"`)
	case shares[n-1] != 100_00:
		f.add(0, "strategy.waves", given(strings.Join(s.Waves, ", ")), "must end with 100%%")
	case shares[0] == 0 || !slices.IsSorted(shares) || len(slices.Compact(slices.Clone(shares))) < n:
		f.add(0, "strategy.waves", given(strings.Join(s.Waves, ", ")),
			"must ascend from over 0%%: a wave is the share that is done at its end, earlier waves included")
	}
}

func (u Users) check(f *SpecError) {
	choice(f, "users.connected", u.Connected, Skip, Defer, Force)
	choice(f, "users.then", u.Then, Skip, Force)
	if u.MaxDeferrals < 0 || u.MaxDeferrals > 1000 {
		f.add(0, "users.max_deferrals", strconv.Itoa(u.MaxDeferrals), "must be 0 to 1000")
	}
	checkTime(f, "users.defer_for", u.DeferFor, Duration(time.Minute), maxTime)
}

func (a Approval) check(f *SpecError) {
	if a.Required {
		checkTime(f, "approval.within", a.Within, Duration(time.Minute), maxWithin)
	} else if a.Within != 0 {
		f.add(0, "approval.within", a.Within.String(), "has a meaning only with required: true")
	}
}

// checkRebuild applies the rules of a rebuild command to the fields that become one.
func (s Spec) checkRebuild(f *SpecError) {
	o := s.Options
	cmd := events.Rebuild{
		ImageID:   s.Image.ImageID,
		ImageType: s.Image.ImageType,
		RebuildOptions: events.RebuildOptions{
			OSType:              s.Image.OSType,
			DelayTime:           s.Users.DelayTime,
			Message:             s.Users.Message,
			OrderID:             o.OrderID,
			EnterpriseProjectID: o.EnterpriseProjectID,
			EncryptType:         o.EncryptType,
			KMSID:               o.KMSID,
			HandleType:          o.HandleType,
		},
	}
	if s.Image.FromDesktop != "" || s.Image.ImageID == "" {
		cmd.ImageID, cmd.ImageType = "made-later", "private"
	}
	for _, fault := range rebuildFaults(cmd) {
		section := "options."
		switch fault.Field {
		case "image_type":
			section = "image."
			if s.Image.ImageType == "" {
				fault.Rule, fault.Value = "must be given with image_id: gold (public), private or market", ""
			}
		case "image_id", "os_type":
			section = "image."
		case "delay_time", "message":
			section = "users."
		}
		f.add(0, section+fault.Field, fault.Value, "%s", fault.Rule)
	}
	if o.KMSID != "" && o.EncryptType != "ENCRYPTED" {
		f.add(0, "options.kms_id", given(o.KMSID), "has a meaning only with encrypt_type ENCRYPTED")
	}
}

// rebuildFaults are the faults of a rebuild command, apart from its desktops.
func rebuildFaults(cmd events.Rebuild) []events.Fault {
	cmd.DesktopIDs = []string{"any"}
	if cmd.ImageID == "" && cmd.ImageType == "" {
		cmd.ImageID, cmd.ImageType = "any", "private"
	}
	_, err := events.DecodeRebuild(asJSON(cmd))
	return faultsOf(err)
}

// checkID applies the rule of ids in commands.
func checkID(f *SpecError, field, id string) {
	_, err := events.DecodeGetDesktop(asJSON(events.GetDesktop{DesktopID: id}))
	for _, fault := range faultsOf(err) {
		f.add(0, field, fault.Value, "%s", fault.Rule)
	}
}

// checkIDs applies the rule of lists of desktops in commands: 1 to 5,000, each once, letter case apart.
func checkIDs(f *SpecError, field string, ids []string) {
	_, err := events.DecodeCheckImages(asJSON(events.CheckImages{DesktopIDs: ids}))
	for _, fault := range faultsOf(err) {
		if len(ids) > events.MaxDesktops {
			fault.Rule = fmt.Sprintf("must have at most %d ids; put them into a file and name it in targets.file",
				events.MaxDesktops)
		}
		f.add(0, field+strings.TrimPrefix(fault.Field, "desktop_ids"), fault.Value, "%s", fault.Rule)
	}
	if invalid, ok := errors.AsType[*events.InvalidError](err); ok && invalid.More > 0 {
		f.add(0, field, "", "breaks its rules at %d more places", invalid.More)
	}
}

func asJSON(v any) json.RawMessage {
	data, _ := json.Marshal(v) // structs of texts and numbers
	return data
}

func faultsOf(err error) []events.Fault {
	if invalid, ok := errors.AsType[*events.InvalidError](err); ok {
		return invalid.Faults
	}
	return nil
}

func checkTags(f *SpecError, field string, tags map[string]string) {
	if len(tags) > maxTags {
		f.add(0, field, fmt.Sprintf("%d tags", len(tags)), "must have at most %d", maxTags)
	}
	for key, value := range tags {
		if key == "" || len(key) > 255 || len(value) > 255 {
			f.add(0, field, given(key), "must have keys of 1 to 255 bytes and values of at most 255")
			return
		}
	}
}

func checkTime(f *SpecError, field string, d, least, most Duration) {
	if d < least || d > most {
		f.add(0, field, d.String(), "must be %s to %s", least, most)
	}
}

func choice(f *SpecError, field, word string, words ...string) {
	if !slices.Contains(words, word) {
		f.add(0, field, given(word), "must be one of %s", strings.Join(words, ", "))
	}
}

// given is a text in an error; "" for none.
func given(text string) string {
	if text == "" {
		return ""
	}
	return strconv.Quote(short(text))
}
