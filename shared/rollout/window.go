package rollout

import (
	"slices"
	"strings"
	"time"
)

// occurrence is one time that a window is open: from open until close.
type occurrence struct{ open, close time.Time }

// Open reports whether the window is open, and until when. Days that follow each other without a gap are one time.
// Without a window it is always open, and until is zero. A window that never closes is open until some weeks ahead.
//
// On the days on which the clocks change, the window opens and closes when the clock first shows From and To, and, if
// the clock jumps over one of them, at the jump.
func (w *Window) Open(now time.Time) (open bool, until time.Time) {
	if w == nil {
		return true, time.Time{}
	}
	for _, o := range w.occurrences(now) {
		if !now.Before(o.open) && now.Before(o.close) {
			return true, o.close
		}
	}
	return false, time.Time{}
}

// Next is when the window opens for the next time after now; zero if it has no further opening: without a window, or
// if it never closes.
func (w *Window) Next(now time.Time) time.Time {
	if w == nil {
		return time.Time{}
	}
	for _, o := range w.occurrences(now) {
		if o.open.After(now) {
			return o.open
		}
	}
	return time.Time{}
}

// Length is how long the window is open at least, by the clock; on the day on which the clocks go forward it can be
// shorter. It is zero without a window.
func (w *Window) Length() time.Duration {
	if w == nil {
		return 0
	}
	from, to := w.clock()
	return time.Duration(to-from) * time.Minute
}

// horizon is how many days ahead openings are searched for. A window of one day a week can be lost in the hour that the
// clocks jump over, so it is more than two weeks.
const horizon = 28

// occurrences are the times that the window is open around and after now, in order, without those that are empty.
func (w *Window) occurrences(now time.Time) []occurrence {
	zone, err := time.LoadLocation(w.Timezone)
	if err != nil {
		return nil // Check refuses it
	}
	from, to := w.clock()
	year, month, day := now.In(zone).Date()
	var all []occurrence
	for n := -2; n <= horizon; n++ {
		date := time.Date(year, month, day+n, 12, 0, 0, 0, time.UTC)
		if len(w.Days) > 0 && !slices.Contains(w.Days, weekdays[date.Weekday()]) {
			continue
		}
		o := occurrence{firstShown(date, from, zone), firstShown(date, to, zone)}
		last := len(all) - 1
		switch {
		case !o.open.Before(o.close):
		case last >= 0 && !o.open.After(all[last].close):
			all[last].close = o.close
		default:
			all = append(all, o)
		}
	}
	return all
}

// clock is when the window opens and closes, in minutes of its day.
func (w *Window) clock() (from, to int) {
	from, _ = minutes(w.From)
	to, _ = minutes(w.To)
	if to <= from {
		to += 24 * 60
	}
	return from, to
}

// firstShown is when the clocks of a zone first show a time of a date, in minutes from its midnight. If they jump over
// it, it is the jump.
func firstShown(date time.Time, minute int, zone *time.Location) time.Time {
	year, month, day := date.Date()
	wanted := time.Date(year, month, day, 0, minute, 0, 0, time.UTC) // what the clocks are to show
	t := time.Date(year, month, day, 0, minute, 0, 0, zone)
	shows := func(t time.Time) time.Time {
		_, offset := t.Zone()
		return t.UTC().Add(time.Duration(offset) * time.Second)
	}
	begin, end := t.ZoneBounds()
	switch shown := shows(t); {
	case shown.Before(wanted):
		return end
	case shown.After(wanted):
		return begin
	}
	if begin.IsZero() {
		return t
	}
	_, before := begin.Add(-1).Zone()
	earlier := wanted.Add(-time.Duration(before) * time.Second)
	if earlier.Before(begin) {
		return earlier.In(zone) // the clocks went back, and show it twice
	}
	return t
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

// Check returns a *SpecError with every rule that the window breaks, or nil.
func (w *Window) Check() error {
	var faults SpecError
	w.check(&faults)
	return faults.err()
}

func (w *Window) check(f *SpecError) {
	if w == nil {
		return
	}
	seen := map[string]bool{}
	for _, day := range w.Days {
		if !slices.Contains(weekdays, day) || seen[day] {
			f.add(0, "window.days", given(strings.Join(w.Days, ", ")),
				"must be different words of mon, tue, wed, thu, fri, sat, sun")
			break
		}
		seen[day] = true
	}
	if w.Days != nil && len(w.Days) == 0 {
		f.add(0, "window.days", "[]", "must name at least one day; leave it out for every day")
	}
	from, ok := minutes(w.From)
	if !ok || from == 24*60 {
		f.add(0, "window.from", given(w.From), "must be hh:mm from 00:00 to 23:59")
	}
	to, okTo := minutes(w.To)
	switch {
	case !okTo:
		f.add(0, "window.to", given(w.To), "must be hh:mm from 00:00 to 24:00")
	case ok && from == to:
		f.add(0, "window.to", given(w.To), "must differ from window.from; a whole day is from 00:00 to 24:00")
	}
	if w.Timezone == "" || w.Timezone == "Local" {
		f.add(0, "window.timezone", given(w.Timezone), "must be the name of a time zone, such as Europe/Berlin or UTC")
	} else if _, err := time.LoadLocation(w.Timezone); err != nil {
		f.add(0, "window.timezone", given(w.Timezone), "is not a known time zone; use a name such as Europe/Berlin or UTC")
	}
}

// minutes reads hh:mm, up to 24:00.
func minutes(text string) (int, bool) {
	if len(text) != 5 || text[2] != ':' {
		return 0, false
	}
	h, okH := parseWhole(text[:2], 24)
	m, okM := parseWhole(text[3:], 59)
	n := int(60*h + m)
	return n, okH && okM && n <= 24*60
}
