package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"recompose/events"
)

// beginVerify begins to verify the rebuilt desktops. first is when they are looked at, if check-images has not answered before.
func (s *step) beginVerify(b *Batch, first time.Time) {
	s.enter(b, Verifying)
	b.Vain = 0
	b.Ends, b.Probe = s.Now.Add(s.wait(verifyTime)).UTC(), first.UTC()
}

// verify looks at the rebuilt desktops until each is as it should be, and check-images shows it. Only then it is done. Past
// the deadline the next answer decides. While there is no answer, it keeps looking: a lost answer proves nothing about a desktop.
func (s *step) verify(b *Batch) {
	ids := b.in(Sent)
	matched, unseen := true, b.unseen()
	for _, id := range ids {
		matched = matched && b.row(id).Matched
	}
	switch {
	case len(ids) == 0:
	case matched:
		b.Check = nil // an answer that is still out would keep the batch due
	case s.Now.Before(b.Probe):
		return // check-images answers soon
	default:
		s.askCheck(b, ids)
	}
	switch {
	case len(unseen) == 0:
	case s.unasked(b):
		s.asking = append(s.asking, b)
	case s.answered(b):
		s.see(b, unseen)
	}
	done, open := Done, false
	if s.head.Waves[b.Wave].Kind == BackWave {
		done = BackDone
	}
	for _, id := range ids {
		r := b.row(id)
		reason := s.unverified(b, r)
		switch {
		case r.Seen && r.Matched:
			s.set(r, done, r.Code, "")
		case reason != "":
			s.set(r, Unverified, "unverified", reason)
		default:
			open = true
		}
	}
	if !open {
		s.settle(b)
	}
}

// unseen are the rebuilt desktops that no look shows as they should be.
func (b *Batch) unseen() []string {
	var ids []string
	for _, r := range b.Rows {
		if r.State == Sent && !r.Seen {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// lookTogether makes the looks that verify: one for several batches if it can show all their desktops. Batches whose next
// look would come soon take part.
func (s *step) lookTogether() {
	if len(s.asking) == 0 {
		return
	}
	soon := s.Now.Add(s.wait(lookWait) / 2)
	for _, n := range s.head.openNumbers() {
		if o := s.head.Open[n]; o.State != Verifying || o.Due.IsZero() || o.Due.After(soon) {
			continue
		}
		b, ok := s.batch(n)
		if ok && b.State == Verifying && b.Look != nil && b.Look.Over && !b.Look.RepublishAt.After(soon) {
			s.asking = append(s.asking, b)
		}
	}
	if !s.ready() {
		return
	}
	slices.SortStableFunc(s.asking, func(a, b *Batch) int {
		return cmp.Or(cmp.Compare(len(a.unseen()), len(b.unseen())), cmp.Compare(a.N, b.N))
	})
	var group []*Batch
	var ids []string
	ask := func() {
		if len(ids) > 0 {
			s.ask(group[0], ids, group[1:]...)
		}
	}
	for _, b := range slices.Compact(s.asking) {
		unseen := b.unseen()
		if b.State != Verifying || len(unseen) == 0 { // this step has moved it on
			continue
		}
		if len(ids)+len(unseen) > BatchRows {
			ask()
			group, ids = nil, nil
		}
		group, ids = append(group, b), append(ids, unseen...)
	}
	ask()
}

// unverified is why a desktop that is not done is given up; "" while it is looked at.
func (s *step) unverified(b *Batch, r *Row) string {
	shows := func(q *Request) bool { return q != nil && q.Taken && !q.At.Before(b.Ends) }
	switch {
	case !r.Seen && shows(b.Look):
		return r.Reason
	case !r.Matched && shows(b.Check):
		return "check-images does not show the image"
	case !s.Now.Before(b.Ends.Add(s.wait(verifyMost))):
		return cmp.Or(r.Reason, "no look at it was answered in time")
	}
	return ""
}

// askCheck asks check-images if its own answer did not come, or did not show the image.
func (s *step) askCheck(b *Batch, ids []string) {
	if c := b.Check; c != nil && (!c.Over || s.Now.Before(c.RepublishAt)) {
		s.remind(c, b.N, b.Attempt)
		return
	}
	number := 0
	if b.Check != nil {
		number = b.Check.Number + 1
	}
	b.Check = s.request(events.FnCheckImages, events.TypeCheckImages, number, b.N, b.Attempt, time.Time{},
		events.CheckImages{DesktopIDs: ids}, "check")
}

// see notes which of the desktops the look shows as they should be. The others are looked at later.
func (s *step) see(b *Batch, ids []string) {
	found := map[string]Desktop{}
	for _, d := range b.Found {
		found[d.ID] = d
	}
	for _, id := range ids {
		r := b.row(id)
		r.Reason = shorten(s.amiss(b, r, found))
		if r.Seen = r.Reason == ""; !r.Seen && b.Look != nil && !b.Look.Over {
			b.Look.Over, b.Look.RepublishAt = true, s.Now.Add(s.wait(lookWait)).UTC()
		}
	}
}

// amiss is why a rebuilt desktop is not yet as it should be; "" if it is.
func (s *step) amiss(b *Batch, r *Row, found map[string]Desktop) string {
	d, there := found[r.ID]
	switch target := s.imageOf(b); {
	case !there:
		return "the service does not list it"
	case !sameImage(d.Image, target):
		return fmt.Sprintf("it runs image %q, not %s", d.Image, target)
	case d.Task != "":
		return "it has the task " + d.Task
	case d.Status != "ACTIVE" && (r.Status == "" || d.Status != r.Status):
		return "its status is " + strconv.Quote(d.Status)
	case r.Data != "" && d.Data != r.Data:
		return "its data volumes are not those that it had before"
	}
	return ""
}
