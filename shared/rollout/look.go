package rollout

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout/fence"
)

// look reads the desktops directly before the command, sorts out those that may not be rebuilt now, and sends the
// command for the others.
func (s *step) look(b *Batch) {
	pending := b.in(Pending)
	why := s.blocked(b.Wave)
	switch {
	case len(pending) == 0:
		s.end(b)
		return
	case s.head.ending() && !s.ending: // the head is stored first: the verb may still be lost
		return
	case s.head.ending():
		code, reason := codeRetry, "a retry or a rollback began before it was its turn"
		if s.head.Waves[b.Wave].Kind == BackWave { // so that a further rollback finds them
			code, reason = codeRollback, "the rollback was interrupted before it was its turn"
		} else if s.head.Phase == Aborting {
			pending = nil // they stay as they are
		}
		for _, id := range pending {
			s.set(b.row(id), Deferred, code, reason)
		}
		s.end(b)
		return
	case why != nil, s.room() <= 0:
		if why != nil && why.Reason == "window" {
			s.inVain(b)
		}
		b.Look, b.Found, b.Pages = nil, nil, nil
		return
	case s.unasked(b):
		s.inVain(b)
		s.ask(b, pending)
		return
	case !s.answered(b):
		return
	case s.late(b.Look):
		s.inVain(b)
		s.ask(b, pending)
		return
	}
	excluded, ok := s.excluded()
	if !ok {
		return
	}
	found := map[string]Desktop{}
	for _, d := range b.Found {
		found[d.ID] = d
	}
	var ids []string
	for i := range b.Rows {
		r := &b.Rows[i]
		if r.State != Pending {
			continue
		}
		d, there := found[r.ID]
		if reason, out := excluded[fence.Fold(r.ID)]; out {
			s.set(r, Excluded, "excluded", reason)
		} else if !there {
			s.set(r, Missing, "gone", "the service no longer lists it")
		} else if s.sortOut(b, r, d) {
			r.Root = cmp.Or(r.Root, d.Root)
			ids = append(ids, r.ID)
		}
	}
	n := min(len(ids), s.room()) // the others follow in a further attempt, if the limit was lowered
	switch {
	case n > 0:
		s.send(b, ids[:n])
	case len(b.in(Sent)) > 0:
		s.beginVerify(b, s.Now)
	default:
		s.settle(b)
	}
}

// readAt is when the service was read for a look, by the clock of the worker that read it. If that cannot be, it is when the
// look was asked.
func (s *step) readAt(l *Request) time.Time {
	if l.Read.IsZero() || l.Read.After(s.Now) {
		return l.At
	}
	return l.Read
}

// late reports whether the answer to a look is too old, or from a time after now: then the clock was set back, and its age is
// not known.
func (s *step) late(l *Request) bool {
	age := s.Now.Sub(s.readAt(l))
	return age > lateLook || age < 0
}

// vainLooks is the number of looks in vain after which an event reports them.
const vainLooks = 3

// inVain counts a look that is made anew: a batch for which that goes on does not move.
func (s *step) inVain(b *Batch) {
	if b.Look == nil {
		return
	}
	if b.Vain++; b.Vain == vainLooks {
		s.report(events.TypeRolloutChanged, nil, func(r *events.Rollout) {
			r.Reason = fmt.Sprintf("batch %d: %s", b.N+1, vainText(b.Vain))
		}, "vain", strconv.Itoa(b.N), strconv.Itoa(b.Attempt), strconv.Itoa(b.Looks))
	}
}

func vainText(n int) string {
	return fmt.Sprintf("%s at its desktops in a row failed, or were answered more than %v after the service was read, or too late "+
		"for the window, or not at all; they are made anew", chain.Count(n, "look"), lateLook)
}

// room is how many further desktops may be unavailable.
func (s *step) room() int {
	s.sumUp()
	return s.head.Spec.Strategy.MaxUnavailable - s.head.Counts().unavailable()
}

// sortOut reports whether a desktop may be rebuilt now. If not, it has another state.
func (s *step) sortOut(b *Batch, r *Row, d Desktop) bool {
	target := s.imageOf(b)
	w := s.head.Waves[b.Wave]
	force := s.head.Spec.Options.SkipCurrent != nil && !*s.head.Spec.Options.SkipCurrent
	again := force && (r.Image == "" || sameImage(r.Image, target)) // it may have run it before: that it runs it shows nothing
	switch {
	case d.Status == "ERROR":
		s.skip(r, "error", "its status is ERROR")
	case (w.Kind == BackWave || r.Tried && !again) && sameImage(d.Image, target) && d.Task == "":
		s.set(r, Sent, codeCurrent, "")
		r.Rebuilt = true // by an earlier attempt, or back; whether it is as it should be is verified
	case w.Kind != BackWave && !r.Tried && sameImage(d.Image, target) && !force:
		s.set(r, Skipped, codeCurrent, "it runs the image already")
	case w.Kind == BackWave && d.Image != "" && !sameImage(d.Image, s.head.Image.ID):
		s.set(r, Skipped, "changed", "it runs image "+d.Image+", which is not the one of this rollout")
	case w.Kind != BackWave && r.Image != "" && d.Image != "" && !sameImage(d.Image, r.Image) && !sameImage(d.Image, target):
		s.set(r, Skipped, "changed", "it runs image "+d.Image+", and ran "+r.Image+" when it was planned")
	case d.Task != "":
		s.inUse(r, "busy", "it has the task "+d.Task)
	case d.InUse() && s.head.Spec.Users.Connected != Force && !r.force(s.head.Spec.Users):
		s.inUse(r, "in_use", "its login status is "+cmp.Or(d.Login, "not known"))
	default:
		return true
	}
	return false
}

// force reports whether the desktop was deferred so often that it is rebuilt in spite of its user.
func (r *Row) force(u Users) bool {
	return u.Connected == Defer && u.Then == Force && r.Deferrals >= u.MaxDeferrals
}

// inUse applies the users policy to a desktop that is busy or in use.
func (s *step) inUse(r *Row, code, reason string) {
	u := s.head.Spec.Users
	most := u.MaxDeferrals
	if code == "busy" { // a task ends soon
		most = max(most, 1)
	}
	if u.Connected != Skip && r.Deferrals < most && len(s.head.Waves) < maxWavesInHead { // each deferral can need a wave
		s.set(r, Deferred, code, reason)
		s.head.LastDeferred = s.Now.UTC()
		return
	}
	if r.Deferrals > 0 {
		reason += "; deferred " + chain.Count(r.Deferrals, "time")
	}
	s.skip(r, code, reason)
}

// skip leaves a desktop out. One that failed, and that is left out of its retry, has failed: nothing shows that its cause is
// gone.
func (s *step) skip(r *Row, code, reason string) {
	if r.Tried {
		s.set(r, Failed, code, "it failed before, and "+reason)
		return
	}
	s.set(r, Skipped, code, reason)
}
