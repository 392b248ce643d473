package rollout

import (
	"strings"
	"time"
	_ "time/tzdata" // a container or Lambda may have no time zones
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

func (w *Window) check(f *SpecError) {
	if w == nil {
		return
	}
	seen := map[string]bool{}
	for _, day := range w.Days {
		if weekday(day) < 0 || seen[day] {
			f.add(0, "window.days", given(strings.Join(w.Days, ", ")), "must be different words of mon, tue, wed, thu, fri, sat, sun")
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

func weekday(word string) int {
	for i, day := range weekdays {
		if day == word {
			return i
		}
	}
	return -1
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
