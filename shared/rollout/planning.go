package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/chain"
)

// A plan is made in three steps: the image is captured, if it must be; the fleet is read; the images are read.

const (
	maxNeeded   = 500 // images whose existence is looked up
	maxPicks    = 100 // desktops of the canary that the head has with a reason
	captureMax  = 24 * time.Hour
	mostReading = 10 * time.Minute // between two requests after one that failed
)

// lasting are the kinds of failures that no later request mends.
var lasting = []string{
	events.KindInvalid, events.KindRefused, events.KindForbidden, events.KindNotFound, events.KindEndpoint,
	events.KindNotAllowed, events.KindIDReused,
}

// fleetPage is the record under a FleetKey.
type fleetPage struct {
	Desktops []Desktop `json:"desktops"`
}

// TargetsPage is the record under a TargetsKey.
type TargetsPage struct {
	DesktopIDs []string `json:"desktop_ids"`
}

// planFields are those of a row that a plan needs.
var planFields = []string{
	"computer_name", "desktop_type", "login_status", "image_id", "image_type", "os_type", "root_volume", "data_volumes",
	"tags",
	"pool_id", "enterprise_project_id", "charging_mode", "user_attached",
}

// beginReading begins a step of the plan.
func (s *step) beginReading(name string) {
	r := &Reading{Step: name}
	if was := s.head.Reading; was != nil {
		r.Need, r.Fleet, r.FleetBy = was.Need, was.Last, was.Request.Number
	}
	s.head.Reading = r
	s.read()
}

// read makes the request of the present step.
func (s *step) read() {
	r, spec := s.head.Reading, s.head.Spec
	number := 1
	if r.Request != nil {
		number = r.Request.Number + 1
	}
	r.Last, r.Got, r.Images = 0, nil, nil
	switch r.Step {
	case stepCapture:
		r.Request = s.request(events.FnDesktopToImage, events.TypeDesktopToImage, number, 0, 0, s.Now.Add(captureMax).UTC(),
			events.DesktopToImage{
				ImageName: s.name, ImageDescription: "made by recompose for rollout " + s.name, DesktopID: spec.Image.FromDesktop,
				ExecuteSysprep:      spec.Image.ExecuteSysprep != nil && *spec.Image.ExecuteSysprep,
				EnterpriseProjectID: spec.Options.EnterpriseProjectID,
			}, r.Step)
	case stepFleet:
		var ids []string
		if s.head.IDs <= events.MaxListed {
			var ok bool
			if ids, ok = s.targets(s.head.Pages); !ok {
				return
			}
		}
		list := FleetCommand(spec, ids)
		r.Request = s.request(events.FnListDesktops, events.TypeListDesktops, number, 0, 0, time.Time{}, list, r.Step)
	case stepImages:
		r.Request = s.request(events.FnListImages, events.TypeListImages, number, 0, 0, time.Time{}, events.ListImages{},
			r.Step)
	}
}

// targets are the ids in so many pages: those that were sent ahead of the start, or that the rollout was given.
func (s *step) targets(pages int) ([]string, bool) {
	var ids []string
	complete := true
	for n := 1; n <= pages; n++ {
		page, ok := record[TargetsPage](s, TargetsKey(s.name, n))
		complete = complete && ok
		ids = append(ids, page.DesktopIDs...)
	}
	return ids, complete
}

// noteReading notes an event about the present step of the plan.
func (s *step) noteReading(e Event) {
	type about struct {
		Command events.CommandRef `json:"command"`
	}
	noteData(s, e, func(a about) {
		if r := s.head.Reading; r != nil && a.Command.ID == r.Request.ID {
			s.noteStep(r, e)
		}
	})
}

// noteStep notes an event that answers the request of a step.
func (s *step) noteStep(r *Reading, e Event) {
	switch {
	case e.Type == events.TypeCommandFailed:
		noteData(s, e, s.readFailed)
	case e.Type == events.TypeJobAccepted && r.Step == stepCapture:
		noteData(s, e, func(d events.JobAccepted) {
			r.Request.Taken, r.Probe = true, d.Deadline.Add(s.wait(time.Minute)).UTC()
		})
	case e.Type == events.TypeCommandUnclear && r.Step == stepCapture:
		r.Request.Taken, r.Probe = true, s.Now.Add(s.wait(probeWait)).UTC()
	case e.Type == events.TypeJobCompleted && r.Step == stepCapture:
		noteData(s, e, s.captured)
	case e.Type == events.TypeDesktopsListed && r.Step == stepFleet:
		noteData(s, e, s.noteFleet)
	case e.Type == events.TypeImagesListed && r.Step == stepImages:
		noteData(s, e, s.noteImages)
	}
}

// readFailed notes that a request failed. A list is read anew until the service answers: nothing is claimed meanwhile, and a
// name is used once.
func (s *step) readFailed(d events.CommandFailed) {
	r := s.head.Reading
	what := map[string]string{
		stepCapture: "the image could not be made", stepFleet: "the desktops could not be read",
		stepImages: "the images could not be read",
	}[r.Step]
	why := d.Error.Kind + ": " + cmp.Or(d.Error.ErrorMsg, d.Error.ErrorCode)
	if r.Step == stepCapture || slices.Contains(lasting, d.Error.Kind) {
		s.fail(what + ": " + why)
		return
	}
	r.Failed++
	r.Why = fmt.Sprintf("%s, %s in a row, at last: %s; they are read anew until the service answers, and abort ends it", what,
		chain.Count(r.Failed, "time"), shorten(why))
	wait := min(time.Duration(r.Failed)*time.Minute, mostReading)
	r.Request.Over, r.Request.RepublishAt = true, s.Now.Add(s.wait(wait)).UTC()
}

// fail ends a rollout that has changed nothing.
func (s *step) fail(reason string) {
	h := s.head
	h.Phase, h.Reason, h.Reading = Aborted, shorten(reason), nil
	s.report(events.TypeRolloutRejected, h.starter(), func(r *events.Rollout) { r.Reason = reason })
}

// starter is the start command as a verb, which planned or rejected answers.
func (h *Head) starter() *Verb {
	return &Verb{CommandRef: h.Start.CommandRef, Correlation: h.Start.Correlation}
}

func (s *step) captured(d events.JobCompleted) {
	if d.Outcome != events.Succeeded || d.Image == nil {
		reason := "the capture ended as " + d.Outcome
		if d.Error != nil {
			reason += ": " + cmp.Or(d.Error.ErrorMsg, d.Error.Kind)
		}
		s.fail(reason)
		return
	}
	s.head.Image = TargetImage{ID: d.Image.ImageID, Type: d.Image.ImageType, OSType: d.Image.OSType}
	s.beginReading(stepFleet)
}

func (r *Reading) got(page int) bool {
	if slices.Contains(r.Got, page) {
		return false
	}
	r.Got, r.Failed, r.Why = append(r.Got, page), 0, ""
	return true
}

// complete reports whether every page has been received.
func (r *Reading) complete() bool { return r.Last > 0 && len(r.Got) == r.Last }

// ripe reports whether everything is read.
func (r *Reading) ripe() bool { return r != nil && r.Step == stepImages && r.complete() }

func (s *step) noteFleet(d events.DesktopsListed) {
	r := s.head.Reading
	if d.Last {
		r.Last = d.Page
	}
	if !r.got(d.Page) {
		return
	}
	r.Request.RepublishAt = s.Now.Add(s.wait(noAnswer)).UTC()
	page := fresh[fleetPage](s, FleetKey(s.name, r.Request.Number, d.Page))
	for _, row := range d.Desktops {
		desktop := AsDesktop(row)
		page.Desktops = append(page.Desktops, desktop)
		if id := desktop.Image; id != "" && len(r.Need) < maxNeeded && !slices.Contains(r.Need, id) {
			r.Need = append(r.Need, id)
		}
	}
	if r.complete() {
		s.beginReading(stepImages)
	}
}

func (s *step) noteImages(d events.ImagesListed) {
	r, h := s.head.Reading, s.head
	if d.Last {
		r.Last = d.Page
	}
	if !r.got(d.Page) {
		return
	}
	for _, image := range d.Images {
		if sameImage(image.ID, h.Image.ID) {
			// A rebuild would be refused. Types that the service does not list are not known.
			if t := image.ImageType; h.Spec.Image.ImageID != "" && t != h.Image.Type &&
				slices.Contains(events.ListedImageTypes, t) {
				s.fail(fmt.Sprintf("image.image_type: image %s is of the type %s; got %q", h.Image.ID, t, h.Image.Type))
				return
			}
			h.Image.OSType = cmp.Or(h.Image.OSType, image.OSType)
			r.Images = append(r.Images, h.Image.ID)
		}
		for _, id := range r.Need {
			if sameImage(image.ID, id) {
				r.Images = append(r.Images, id)
			}
		}
	}
	r.Request.Taken = r.complete()
}

// plan goes on with the plan: it repeats requests, and makes the plan once everything is read.
func (s *step) plan() {
	r := s.head.Reading
	switch {
	case r == nil:
		return
	case r.Request == nil:
		s.read()
	case r.ripe() && s.ripe:
		s.finishPlan()
	case r.ripe(): // the head is stored first, so that no reminder changes it while hundreds of records are stored
	case r.Request.Over && !s.Now.Before(r.Request.RepublishAt):
		s.read()
	case r.Request.Over:
	case r.Step == stepCapture && r.Request.Taken && !s.Now.Before(r.Probe):
		s.probeCapture()
	case r.Step != stepCapture && s.Now.Sub(r.Request.At) > s.wait(3*noAnswer):
		s.read() // an event was lost
	default:
		s.remind(r.Request, 0, 0)
	}
}

func (s *step) probeCapture() {
	r := s.head.Reading
	identity := events.Identity(events.Source(events.FnRollout), r.Request.ID)
	job, known := s.Jobs[identity]
	if !known {
		s.jobs = append(s.jobs, identity)
		return
	}
	r.Probe = s.Now.Add(s.wait(probeWait)).UTC()
	if job.Absent { // it was begun: published once more, it would be a second capture
		s.fail("the image could not be made: the ledger has no record of the capture, which was begun; look for its image")
		return
	}
	switch job.State {
	case JobEnded:
		s.noteReading(Event{Type: job.Type, Data: job.Data})
	case JobFree:
		r.Request.Taken = false
	case JobAccepted, JobUnderWay:
		last := job.Deadline
		if job.State == JobUnderWay {
			last = r.Request.Expiry
		}
		if s.Now.After(last.Add(s.wait(jobSlack))) {
			s.fail("the image could not be made: no end of the capture was reported")
		}
	}
}

// finishPlan makes the plan of everything that was read, and claims its desktops.
func (s *step) finishPlan() {
	h := s.head
	in, ok := s.planInput()
	expected, also := s.expect()
	if !ok || !also {
		return
	}
	if h.Targets != "" && TargetsSHA256(in.IDs) != h.Targets { // a worker has stored them that had read no head
		s.fail("targets: were replaced by those of another start with this name; start the rollout under another name")
		return
	}
	h.Expected = expected
	if t := h.Image.Type; (t == "gold" || t == "private") && h.Spec.Image.ImageID != "" &&
		!slices.Contains(h.Reading.Images, h.Image.ID) {
		s.fail(fmt.Sprintf("image.image_id: the service lists no %s image %s; recompose images shows what there is", t,
			h.Image.ID))
		return
	}
	plan := MakePlan(in)
	if err := h.Spec.CheckRoom(len(plan.Slots)); err != nil {
		s.fail(err.Error())
		return
	}
	if w := h.Spec.Window; w != nil && w.Length() < s.p90() {
		s.fail(s.tooShort(w))
		return
	}
	if !h.PlanOnly {
		ids := make([]string, len(plan.Slots))
		for i, slot := range plan.Slots {
			ids[i] = slot.ID
		}
		if held, ok := s.claim(ids, false); !ok || held != "" {
			if ok {
				s.fail(held)
			}
			return
		}
	}
	h.Plan, h.Reading, h.Digest, h.PlannedAt = 1, nil, plan.Digest, s.Now.UTC()
	if e := h.Spec.Targets.Except; e != nil { // the pages of desktops that are left out have the ids
		h.Spec.Targets.Except = &Except{Tags: e.Tags}
	}
	h.Waves, h.Slots, h.Ranges, h.LeftOut = plan.Waves, 0, nil, Counts{}
	operation := h.Start.identity()[:10]
	for i := range h.Waves {
		h.Waves[i].Plan, h.Waves[i].Next = h.Plan, h.Waves[i].From
	}
	s.append(operation, plan.Slots)
	for n := 0; n*PageRows < len(plan.LeftOut); n++ {
		page := fresh[LeftOutPage](s, LeftOutKey(s.name, operation, n))
		page.Desktops = plan.LeftOut[n*PageRows : min((n+1)*PageRows, len(plan.LeftOut))]
	}
	for _, out := range plan.LeftOut {
		h.LeftOut[out.State]++
	}
	h.Phase = Planned
	h.Canary, h.NoWayBack, h.NotKnown = plan.Canary[:min(len(plan.Canary), maxPicks)], plan.NoWayBack, plan.NotKnown
	took := time.Duration(0) // the documented default
	if expected != nil {
		took = time.Duration(float64(expected.P50)*s.Pace) * time.Second
	}
	h.Forecast, _ = Forecast(*h, plan.Slots, s.Now, s.Pace, took) // a plan without a forecast is still a plan
	s.report(events.TypeRolloutPlanned, h.starter(), func(r *events.Rollout) {
		r.PlanOnly, r.Forecast = h.PlanOnly, h.Forecast
		if h.Spec.Approval.Required && !h.PlanOnly {
			r.Until = h.PlannedAt.Add(time.Duration(h.Spec.Approval.Within)).UTC()
		}
	})
	s.awaitApproval()
}

func (s *step) tooShort(w *Window) string {
	return fmt.Sprintf("window: is open for %v, and a batch may take %v; make it longer", w.Length(), s.p90())
}

func (s *step) planInput() (PlanInput, bool) {
	h := s.head
	in := PlanInput{Spec: h.Spec, Image: h.Image, Images: map[string]bool{}}
	complete := true
	for n := 1; n <= h.Reading.Fleet; n++ {
		page, ok := record[fleetPage](s, FleetKey(s.name, h.Reading.FleetBy, n))
		complete = complete && ok
		in.Fleet = append(in.Fleet, page.Desktops...)
	}
	ids, ok := s.targets(h.Pages)
	if !complete || !ok {
		return in, false
	}
	if h.IDs > 0 {
		in.IDs = ids
	}
	for _, id := range h.Reading.Images {
		in.Images[id] = true
	}
	if len(h.Reading.Need) >= maxNeeded {
		in.Images = nil // not all of them were looked up
	}
	if s.NotAllowed != nil {
		in.NotAllowed = map[string]bool{}
		all := make([]string, len(in.Fleet))
		for i, d := range in.Fleet {
			all[i] = d.ID
		}
		for _, id := range s.NotAllowed(all) {
			in.NotAllowed[id] = true
		}
	}
	return in, true
}

// append adds the slots of an operation at the end.
func (s *step) append(operation string, slots []Slot) {
	h := s.head
	h.Ranges = append(h.Ranges, Range{operation, h.Slots, len(slots)})
	h.Slots += len(slots)
	for n := 0; n*PageRows < len(slots); n++ {
		fresh[Page](s, PageKey(s.name, operation, n)).Slots = slots[n*PageRows : min((n+1)*PageRows, len(slots))]
	}
}

// awaitApproval begins the rollout if the plan needs no approval, and ends it if none came in time.
func (s *step) awaitApproval() {
	h := s.head
	within := time.Duration(h.Spec.Approval.Within)
	switch {
	case h.PlanOnly:
	case !h.Spec.Approval.Required:
		s.run()
	case !s.Now.Before(h.PlannedAt.Add(within)):
		h.Phase, h.Reason = Aborted, fmt.Sprintf("the plan was not approved within %v", within)
		s.report(events.TypeRolloutAborted, nil, func(r *events.Rollout) { r.Reason = h.Reason })
	}
}

func (s *step) run() {
	s.head.Phase = Running
	s.report(events.TypeRolloutStarted, nil, nil)
}
