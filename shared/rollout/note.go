package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
)

// note notes what an event shows. An event of another plan or attempt changes nothing, and noting it twice changes
// nothing either.
func (s *step) note(e Event) {
	switch {
	case e.Verb != nil:
		s.verb(*e.Verb)
	case s.head == nil:
	case e.Tick > 0:
		if s.head.Tick != nil && s.head.Tick.Seq == e.Tick {
			s.head.Tick = nil
		}
	case e.Type == "":
	case e.Attempt == 0:
		if e.Plan == s.head.Plan && s.head.Phase == Planning {
			s.noteReading(e)
		}
	case e.Batch < s.head.Batches:
		if b, ok := s.batch(e.Batch); ok && b.Plan == e.Plan && b.Attempt == e.Attempt {
			open := !b.over()
			s.noteBatch(b, e)
			s.noteShared(b, e)
			if open && b.over() {
				b.OverAt = s.Now
				if !e.Time.IsZero() && e.Time.Before(s.Now) { // it has waited for a worker
					b.OverAt = e.Time
				}
			}
		}
	}
}

// noteShared notes an event about the look that other batches share with this one.
func (s *step) noteShared(b *Batch, e Event) {
	if e.Type != events.TypeDesktopsListed && e.Type != events.TypeCommandFailed {
		return
	}
	for _, n := range b.Shared {
		if o, ok := s.batch(n); ok && o.Joined {
			s.noteBatch(o, e)
		}
	}
}

// noteBatch notes an event about a batch.
func (s *step) noteBatch(b *Batch, e Event) {
	switch e.Type {
	case events.TypeDesktopsListed:
		noteData(s, e, func(d events.DesktopsListed) { s.noteListed(b, d, e.Time) })
	case events.TypeImagesChecked:
		noteData(s, e, func(d events.ImagesChecked) { s.noteChecked(b, d) })
	case events.TypeJobAccepted:
		noteData(s, e, func(d events.JobAccepted) { s.noteAccepted(b, d) })
	case events.TypeCommandUnclear:
		noteData(s, e, func(d events.CommandUnclear) {
			b.change(d.Command.ID, func(p *Part) { p.Unclear = p.JobID == "" })
		})
	case events.TypeCommandSplit:
		noteData(s, e, b.split)
	case events.TypeJobCompleted:
		noteData(s, e, func(d events.JobCompleted) { s.noteCompleted(b, d) })
	case events.TypeCommandFailed:
		noteData(s, e, func(d events.CommandFailed) { s.noteFailed(b, d) })
	}
}

// noteData passes the data of an event on. Data that cannot be read are not of a function of recompose; they change nothing.
func noteData[D any](s *step, e Event, to func(D)) {
	var d D
	if err := json.Unmarshal(e.Data, &d); err != nil {
		s.unread = fmt.Errorf("%s: %w", e.Type, err)
		return
	}
	to(d)
}

// noteAccepted notes that the service works on a command. The ledger is not read before the job is overdue.
func (s *step) noteAccepted(b *Batch, d events.JobAccepted) {
	if !b.change(d.Command.ID, func(p *Part) { p.JobID, p.Deadline, p.Unclear = d.JobID, d.Deadline, false }) {
		return
	}
	last := time.Time{}
	for _, p := range b.Parts {
		if !p.Over && p.JobID == "" {
			return
		}
		if p.Deadline.After(last) {
			last = p.Deadline
		}
	}
	b.Probe = last.Add(s.wait(time.Minute)).UTC()
}

// change changes a command of the batch; a command that is none of its own is ignored.
func (b *Batch) change(id string, change func(*Part)) bool {
	p, ok := b.Parts[id]
	if !ok || p.Over {
		return false
	}
	change(&p)
	b.Parts[id] = p
	b.Command.Taken = true
	return true
}

func (b *Batch) split(d events.CommandSplit) {
	var of []string
	if !b.change(d.Command.ID, func(p *Part) { p.Over, of = true, p.DesktopIDs }) {
		return
	}
	for _, part := range d.Parts {
		ids := slices.DeleteFunc(slices.Clone(part.DesktopIDs), func(id string) bool { return !slices.Contains(of, id) })
		if _, known := b.Parts[part.ID]; !known && len(ids) > 0 {
			b.Parts[part.ID] = Part{DesktopIDs: ids, Digest: part.Digest}
		}
	}
}

// row returns the row of a desktop; nil if the batch has none.
func (b *Batch) row(id string) *Row {
	for i := range b.Rows {
		if b.Rows[i].ID == id {
			return &b.Rows[i]
		}
	}
	return nil
}

// set changes the state of a desktop.
func (s *step) set(r *Row, state, code, reason string) {
	if r.State == moved || r.State == state && r.Code == code {
		return
	}
	r.State, r.Code, r.Reason, r.At = state, code, shorten(reason), s.Now.UTC()
}

// shorten keeps texts of the service small enough for a record.
func shorten(text string) string { return events.Shorten(text, 160) }

func (s *step) noteCompleted(b *Batch, d events.JobCompleted) {
	var part Part
	if !b.change(d.Command.ID, func(p *Part) { p.Over = true; part = *p }) {
		return
	}
	results := make(map[string]events.DesktopResult, len(d.Desktops))
	for _, result := range d.Desktops {
		results[result.DesktopID] = result
	}
	notKnown := d.Outcome == events.TimedOut || d.Outcome == events.Lost
	for _, id := range part.DesktopIDs {
		r := b.row(id)
		if r == nil || r.State != Sent {
			continue
		}
		result := results[id]
		reason := cmp.Or(result.FailReason, result.Message)
		switch {
		case result.Outcome == events.Succeeded:
			r.Rebuilt = true
		case result.Outcome == events.Skipped && (r.Tried || s.head.Waves[b.Wave].Kind == BackWave):
			r.Rebuilt, r.Code = true, codeCurrent // as if the look had shown it
		case result.Outcome == events.Skipped:
			s.set(r, Skipped, codeCurrent, "it ran the image already")
		case result.Outcome == events.Failed:
			s.set(r, Failed, result.ErrorCode, reason)
		case result.Kind == events.KindUnknownOutcome:
			s.set(r, Unknown, result.Kind, "it runs the image; whether it was rebuilt is not known")
		case notKnown:
			s.set(r, Unknown, d.Outcome, "the job did not end in time; it may still change the desktop")
		default:
			s.set(r, Missing, cmp.Or(result.ErrorCode, result.Kind), cmp.Or(reason, "the job shows no result for it"))
		}
	}
}

// noteFailed notes that a command of the batch ended without a job: its own request, or one of its reads.
func (s *step) noteFailed(b *Batch, d events.CommandFailed) {
	if b.Look != nil && d.Command.ID == b.Look.ID {
		b.Look.Over, b.Look.RepublishAt = true, s.Now.Add(s.wait(time.Minute)).UTC()
		return
	}
	if b.Check != nil && d.Command.ID == b.Check.ID {
		b.Check.Over, b.Check.RepublishAt = true, s.Now.Add(s.wait(time.Minute)).UTC()
		return
	}
	var part Part
	if !b.change(d.Command.ID, func(p *Part) { p.Over = true; part = *p }) {
		return
	}
	reason := cmp.Or(d.Error.ErrorMsg, d.Error.Kind)
	code := cmp.Or(d.Error.ErrorCode, d.Error.Kind)
	refused := d.NotAllowed()
	named := slices.ContainsFunc(part.DesktopIDs, func(id string) bool { return slices.Contains(refused, id) })
	for _, id := range part.DesktopIDs {
		r := b.row(id)
		if r == nil || r.State != Sent {
			continue
		}
		r.RequestID = d.Error.RequestID
		switch {
		case d.Effect != events.EffectNone:
			s.set(r, Unknown, code, reason)
		case d.Error.Kind == events.KindExpired, d.Error.Kind == events.KindFrozen:
			s.set(r, Pending, "", "") // nothing was done; a new attempt follows
		case d.Error.Kind == events.KindConflict:
			s.inUse(r, "busy", reason)
		case named && !slices.Contains(refused, id):
			s.set(r, Pending, "", "") // the new attempt leaves out those that the lists refuse
		case d.Error.Kind == events.KindNotAllowed:
			s.set(r, Refused, code, reason)
		default:
			s.set(r, Failed, code, reason)
		}
	}
}

func (s *step) noteChecked(b *Batch, d events.ImagesChecked) {
	for _, id := range d.Matched {
		if r := b.row(id); r != nil && r.State == Sent && r.Rebuilt {
			r.Matched = true
		}
	}
	if b.Check != nil && d.Command.ID == b.Check.ID {
		b.Check.Taken, b.Check.Over = true, true
		b.Check.RepublishAt = s.Now.Add(s.wait(lookWait)).UTC() // if it does not show the image yet
		for _, info := range d.ImageInfos {
			var i events.ImageInfo
			if json.Unmarshal(info, &i) != nil {
				continue
			}
			if r := b.row(i.DesktopID); r != nil && r.State == Sent && r.Rebuilt && sameImage(i.ImageID, s.imageOf(b)) {
				r.Matched = true
			}
		}
	}
}

// imageOf is the image that the desktops of a batch get: in a rollback the one that all of them had.
func (s *step) imageOf(b *Batch) string {
	if s.head.Waves[b.Wave].Kind == BackWave {
		return b.Rows[0].Image
	}
	return s.head.Image.ID
}

// typeOf is the type of that image.
func (s *step) typeOf(b *Batch) string {
	if s.head.Waves[b.Wave].Kind == BackWave {
		return b.Rows[0].ImageType
	}
	return s.head.Image.Type
}

// osOf is the operating system of that image; "" if it is not known.
func (s *step) osOf(b *Batch) string {
	if s.head.Waves[b.Wave].Kind == BackWave && s.head.Spec.Options.AllowOSChange {
		return ""
	}
	return s.head.Image.OSType
}

// noteListed notes a page of the look at the desktops of a batch.
func (s *step) noteListed(b *Batch, d events.DesktopsListed, stored time.Time) {
	if b.Look == nil || d.Command.ID != b.Look.ID || b.Look.Taken || slices.Contains(b.Pages, d.Page) {
		return
	}
	b.Pages, b.Look.Read = append(b.Pages, d.Page), d.ReadAt
	if !stored.IsZero() && d.ReadAt.After(stored) { // the clock of that worker is ahead
		b.Look.Read = time.Time{}
		if stored.Before(b.Look.At) { // so is that of the worker which asked
			b.Look.Read = stored
		}
	}
	for _, row := range d.Desktops {
		if b.row(row.DesktopID) != nil {
			b.Found = append(b.Found, AsDesktop(row))
		}
	}
	last := 0
	if d.Last {
		last = d.Page
	}
	if b.lastPage(last) {
		b.Look.Taken = true
	}
}

// lastPage keeps the number of the last page as its negative, and reports whether all pages have been received.
func (b *Batch) lastPage(last int) bool {
	if last > 0 {
		b.Pages = append(b.Pages, -last)
	}
	for _, p := range b.Pages {
		if p < 0 {
			return len(b.Pages)-1 == -p
		}
	}
	return false
}

// AsDesktop is a row of desktops.listed.
func AsDesktop(row events.DesktopRow) Desktop {
	d := Desktop{
		ID: row.DesktopID, Name: row.ComputerName, Type: strings.ToUpper(row.DesktopType),
		Status: strings.ToUpper(row.Status),
		Task:   row.TaskStatus, Login: strings.ToUpper(row.LoginStatus), Image: row.ImageID, ImageType: row.ImageType,
		OSType: row.OSType, PoolID: row.PoolID, EPID: row.EnterpriseProjectID, ChargeMode: row.ChargingMode,
		UserAttached: row.UserAttached,
	}
	if row.RootVolume != nil {
		d.Root = cmp.Or(row.RootVolume.VolumeID, row.RootVolume.ID)
	}
	if row.DataVolumes != nil {
		d.Data = hashOf(row.DataVolumes)
	}
	if row.Tags != nil {
		d.Tags = map[string]string{}
	}
	for _, t := range row.Tags {
		d.Tags[t.Key] = t.Value
	}
	return d
}

// hashOf is a short hash of the ids and sizes of data volumes, in any order.
func hashOf(volumes []events.RowVolume) string {
	texts := make([]string, 0, len(volumes))
	for _, v := range volumes {
		texts = append(texts, fmt.Sprintf("%s %d", cmp.Or(v.VolumeID, v.ID), v.Size))
	}
	slices.Sort(texts)
	sum := sha256.Sum256([]byte(strings.Join(texts, "\n")))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
