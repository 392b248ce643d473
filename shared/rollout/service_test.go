package rollout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/rollout/fence"
)

// The functions and the service of a world.

func (w *world) ref(m Message, source string) events.CommandRef {
	return events.CommandRef{Type: m.Type, Source: source, ID: m.ID}
}

func (w *world) serve(name string, c *call) {
	m := c.message
	switch m.Type {
	case events.TypeListDesktops:
		if w.chance(w.odds.listFails) {
			w.send(name, time.Second, m.event(events.TypeCommandFailed, events.CommandFailed{
				Command: w.ref(m, c.source), Effect: events.EffectNone, Error: events.Failure{Kind: "unreachable"},
			}))
			return
		}
		w.list(name, m)
	case events.TypeListImages:
		d := events.ImagesListed{Command: w.ref(m, c.source), Page: 1, Last: true}
		for _, id := range []string{"old-0", "old-1", "old-2", "new", "new-2"} {
			d.Images = append(d.Images, events.ListedImage{ID: w.shown(id)})
		}
		w.send(name, time.Second, m.event(events.TypeImagesListed, d))
	case events.TypeCheckImages:
		var d events.CheckImages
		require.NoError(w.t, json.Unmarshal(m.Data, &d))
		checked := events.ImagesChecked{Command: w.ref(m, c.source)}
		for _, id := range d.DesktopIDs {
			raw, _ := json.Marshal(events.ImageInfo{DesktopID: id, ImageID: w.shown(w.desktops[id].image)})
			checked.ImageInfos = append(checked.ImageInfos, raw)
		}
		w.send(name, 2*time.Second, m.event(events.TypeImagesChecked, checked))
	case events.TypeRebuild:
		var d events.Rebuild
		require.NoError(w.t, json.Unmarshal(m.Data, &d))
		c.ids = d.DesktopIDs
		w.rebuild(name, c, d.ImageID)
	case events.TypeDesktopToImage:
		w.capture(name, c)
	default:
		w.t.Fatalf("unexpected command %s", m.Type)
	}
}

func (w *world) list(name string, m Message) {
	for _, e := range w.listed[m.ID] { // a second delivery publishes the pages of the first
		w.send(name, w.back+time.Duration(w.rng.IntN(3))*time.Second, e)
	}
	if w.listed[m.ID] != nil {
		return
	}
	var d events.ListDesktops
	require.NoError(w.t, json.Unmarshal(m.Data, &d))
	ids := d.DesktopIDs
	if len(ids) == 0 {
		ids = w.ids
	}
	pages := slices.Collect(slices.Chunk(ids, min(500, len(ids)/(1+len(ids)%2)+1)))
	if len(pages) == 0 {
		pages = [][]string{nil} // an empty list has one page
	}
	for i, page := range pages {
		listed := events.DesktopsListed{Command: w.ref(m, events.Source(events.FnRollout)), Page: i + 1, Last: i == len(pages)-1, ReadAt: w.clock()}
		for _, id := range page {
			desktop := w.desktops[id]
			if desktop == nil || desktop.gone {
				continue
			}
			desktop.read = w.now
			if desktop.task == "" && w.chance(w.odds.login) {
				desktop.login = []string{"CONNECTED", "REGISTERED", "DISCONNECTED", "REGISTERED"}[w.rng.IntN(4)]
			}
			row := events.DesktopRow{
				DesktopID: id, Status: cmp.Or(desktop.status, "ACTIVE"), LoginStatus: desktop.login, ImageID: w.shown(desktop.image), ImageType: "private", TaskStatus: desktop.task,
			}
			if desktop.noType {
				row.ImageType = ""
			}
			listed.Desktops = append(listed.Desktops, row)
		}
		e := m.event(events.TypeDesktopsListed, listed)
		if e.Time = listed.ReadAt; e.Time.After(w.now) {
			e.Time = w.now // by the clock of the broker
		}
		w.listed[m.ID] = append(w.listed[m.ID], e)
		w.send(name, w.back+time.Duration(w.rng.IntN(3))*time.Second, e)
	}
}

// end ends a command.
func (w *world) end(name string, c *call, d time.Duration, typ string, data any) {
	e := c.message.event(typ, data)
	e.ID, e.Time = c.message.ID+typ, w.now
	c.state, c.end, c.at = JobEnded, e, w.now
	w.send(name, d, e)
}

func (w *world) failed(name string, c *call, kind, effect string) {
	w.fail(name, c, effect, events.Failure{Kind: kind})
}

func (w *world) fail(name string, c *call, effect string, failure events.Failure) {
	w.end(name, c, time.Second, events.TypeCommandFailed, events.CommandFailed{
		Command: w.ref(c.message, c.source), DesktopIDs: c.ids, Effect: effect, Error: failure,
	})
}

// denies is how the lists refuse a command; false if they allow it.
func (w *world) denies(ids []string) (events.Failure, bool) {
	var denied []string
	for _, id := range ids {
		if w.denied[id] {
			denied = append(denied, id)
		}
	}
	failure := events.Failure{Kind: events.KindNotAllowed, ErrorMsg: events.NotAllowedMsg + strings.Join(denied, ", ")}
	if len(denied) < len(ids) {
		failure.ErrorDetail = events.NotAllowedDetail + strings.Join(denied, ", ")
	}
	return failure, len(denied) > 0
}

// rebuild is what the function does directly before its call, and what the service makes of it.
func (w *world) rebuild(name string, c *call, image string) {
	m := c.message
	whole := c.source == events.Source(events.FnRollout)
	switch stale := fence.MayStart(w.store[HeadKey(name)].value, m.Rollout); {
	case !m.Expiry.IsZero() && !w.now.Before(m.Expiry), stale != nil:
		w.failed(name, c, events.KindExpired, events.EffectNone)
		return
	case w.frozen:
		w.after(20*time.Second, func() { w.rebuild(name, c, image) })
		return
	case whole && len(c.ids) > 1 && w.chance(w.odds.split):
		w.split(name, c, image)
		return
	case w.chance(w.odds.fail):
		w.failed(name, c, []string{"invalid", events.KindNotAllowed, events.KindConflict}[w.rng.IntN(3)], events.EffectNone)
		return
	}
	if failure, denied := w.denies(c.ids); denied {
		w.fail(name, c, events.EffectNone, failure)
		return
	}
	if w.refuse != nil {
		if kind, effect := w.refuse(c); kind != "" {
			w.failed(name, c, kind, effect)
			return
		}
	}
	for _, id := range c.ids {
		if d := w.desktops[id]; d.jobs > 0 || d.task != "" || w.chance(w.odds.busy) {
			w.failed(name, c, events.KindConflict, events.EffectNone)
			return
		}
	}
	if w.chance(w.odds.unknown) {
		if w.chance(50) {
			w.accept(name, c, image, true)
		}
		w.failed(name, c, "unknown_outcome", events.EffectUnknown)
		return
	}
	if w.chance(w.odds.unclear) {
		w.send(name, time.Second, m.event(events.TypeCommandUnclear, events.CommandUnclear{Command: w.ref(m, c.source), DesktopIDs: c.ids}))
	}
	w.accept(name, c, image, false)
}

func (w *world) split(name string, c *call, image string) {
	m := c.message
	at := 1 + w.rng.IntN(len(c.ids)-1)
	d := events.CommandSplit{Command: w.ref(m, c.source)}
	identity := events.Identity(c.source, m.ID)
	for i, ids := range [][]string{c.ids[:at], c.ids[at:]} {
		part := m
		part.ID = events.PartID(identity, i)
		p := &call{message: part, source: events.Source(events.FnRebuild), state: JobUnderWay, ids: ids}
		w.ledger[events.Identity(p.source, part.ID)] = p
		d.Parts = append(d.Parts, events.Part{ID: part.ID, DesktopIDs: ids})
		w.after(time.Duration(1+w.rng.IntN(30))*time.Second, func() { w.rebuild(name, p, image) })
	}
	w.end(name, c, time.Second, events.TypeCommandSplit, d)
}

// accept accepts a call. Everything that must hold then is checked here.
func (w *world) accept(name string, c *call, image string, silent bool) {
	m := c.message
	h := w.head(name)
	require.True(w.t, h.moving(), "accepted while %s", h.Phase)
	require.False(w.t, w.frozen, "accepted while frozen")
	require.NotEmpty(w.t, c.ids)
	if window := h.Spec.Window; window != nil && w.now.Sub(w.windowSet) > stale { // what was sent before a set may still begin
		open, _ := window.Open(w.now)
		require.True(w.t, open, "accepted outside the window at %s", w.now)
	}
	require.False(w.t, w.odds.clock == 0 && w.now.Before(h.Claimed.Add(claimWait)), "accepted before the claim is a minute old")
	for _, id := range c.ids {
		d := w.desktops[id]
		require.Less(w.t, w.now.Sub(d.read), stale, "%s was read long ago", id)
		require.Zero(w.t, d.jobs, "two jobs on %s", id)
		d.rebuilt[m.Rollout]++
		require.Equal(w.t, 1, d.rebuilt[m.Rollout], "%s is rebuilt twice in %s", id, m.Rollout)
		d.jobs++
		d.task, d.login = "REBUILDING", "UNREGISTER"
	}
	w.accepted += len(c.ids)
	running := 0
	for _, d := range w.desktops {
		if d.jobs > 0 {
			running++
		}
	}
	require.LessOrEqual(w.t, running, w.most, "desktops under rebuild")
	if w.onAccepted != nil {
		w.onAccepted(c)
	}
	took := cmp.Or(w.took, time.Duration(5+w.rng.IntN(15))*time.Minute)
	done := events.JobCompleted{Function: events.FnRebuild, Command: w.ref(m, c.source), JobID: m.ID, Outcome: events.Succeeded}
	results := map[string]string{}
	for _, id := range c.ids {
		r := events.DesktopResult{DesktopID: id, Outcome: events.Succeeded}
		if w.chance(w.odds.fail) || w.fails != nil && w.fails(id, m) {
			r.Outcome, r.ErrorCode, r.FailReason, done.Outcome = events.Failed, "WKS.1", "the model fails", events.Partial
		}
		results[id] = r.Outcome
		done.Desktops = append(done.Desktops, r)
	}
	if !silent {
		c.state, c.until = JobAccepted, w.now.Add(time.Hour)
		w.send(name, time.Second, m.event(events.TypeJobAccepted, events.JobAccepted{
			Function: events.FnRebuild, Command: done.Command, JobID: m.ID, Deadline: c.until,
		}))
	}
	w.after(took, func() {
		var matched []string
		for _, id := range c.ids {
			d := w.desktops[id]
			d.jobs--
			d.task, d.login = "", "REGISTERED"
			if results[id] == events.Succeeded {
				d.image = image
				matched = append(matched, id)
			}
		}
		if silent {
			return
		}
		switch {
		case w.chance(w.odds.timeOut):
			done.Outcome, done.Desktops = events.TimedOut, nil
		case w.chance(w.odds.lost):
			done.Outcome, done.Desktops = events.Lost, nil
		}
		w.end(name, c, 2*time.Second, events.TypeJobCompleted, done)
		if !w.chance(w.odds.noCheck) {
			w.send(name, 20*time.Second, m.event(events.TypeImagesChecked, events.ImagesChecked{Command: done.Command, Matched: matched}))
		}
	})
}

// check checks what must hold whenever a head is stored.
func (w *world) check(name string) {
	h := w.head(name)
	if len(h.Waves) == 0 && h.LeftOut == nil {
		return
	}
	counts := h.Counts()
	total := 0
	for state, n := range counts {
		require.Positive(w.t, n, state)
		total += n
	}
	require.Equal(w.t, w.targets(h), total, "a desktop is lost or doubled: %v", counts)
	status := (&View{Head: h}).Status(w.now)
	require.Equal(w.t, counts, status.Counts)
	for _, wave := range status.Waves {
		require.Equal(w.t, wave.Size, wave.Counts.total(), "%+v", wave)
	}
	require.LessOrEqual(w.t, counts.unavailable(), w.most, "unavailable: %v", counts)
	if was := w.lastPhase[name]; was != h.Phase && h.Phase == Halted {
		w.halts[h.Why]++
	}
	w.lastPhase[name] = h.Phase
	if h.over() {
		require.Empty(w.t, h.Open)
		require.Zero(w.t, counts[Sent], "over, and %v", counts)
	}
	if window := fmt.Sprint(h.Spec.Window); window != w.window[name] {
		w.window[name], w.windowSet = window, w.now
	}
	if w.onStep != nil {
		w.onStep(h)
	}
}

// targets is how many desktops the plan has: all, but for those that were gone when it was made.
func (w *world) targets(h *Head) int {
	n := h.Ranges[0].Count + h.LeftOut.total()
	require.LessOrEqual(w.t, n, len(w.ids))
	if !w.vanish {
		require.Len(w.t, w.ids, n)
	}
	return n
}

// addsUp checks that the counts of an event have every desktop once.
func (w *world) addsUp(m Message) {
	var r events.Rollout
	require.NoError(w.t, json.Unmarshal(m.Data, &r))
	if len(r.Counts) > 0 {
		require.Equal(w.t, w.targets(w.head(r.Name)), Counts(r.Counts).total(), "%s: %v", m.Type, r.Counts)
	}
	if r.Wave != nil && len(r.Wave.Counts) > 0 {
		require.LessOrEqual(w.t, Counts(r.Wave.Counts).total(), r.Wave.Size, "%s: %+v", m.Type, r.Wave)
		require.NotContains(w.t, r.Wave.Counts, moved)
	}
}

// audit compares the counts with every record of the rollout, and the states with the service.
func (w *world) audit(name string) map[string]string {
	h := w.head(name)
	states := w.live(h)
	want := h.Counts()
	got := sum(states, h.LeftOut)
	for state, n := range got {
		if n == 0 {
			delete(got, state)
		}
	}
	require.Equal(w.t, want, got, "the counts of the head and of the records")
	for id, state := range states {
		d := w.desktops[id]
		switch {
		case state == Done:
			require.Equal(w.t, h.Image.ID, d.image, "%s is done", id)
		case state == BackDone:
			require.Equal(w.t, d.base, d.image, "%s is rolled back", id)
		case state == Pending && h.Phase == Completed:
			require.Fail(w.t, "completed with a pending desktop", id)
		}
	}
	return states
}

// batchesReported checks that an event has shown how each batch ended.
func (w *world) batchesReported(h *Head) {
	reported := map[[2]int]bool{}
	for _, m := range w.reported {
		var r events.Rollout
		require.NoError(w.t, json.Unmarshal(m.Data, &r))
		if m.Type == events.TypeRolloutBatchCompleted && r.Name == h.Name {
			reported[[2]int{r.Batch.Number - 1, r.Batch.Attempt}] = true
		}
	}
	for n := range h.Batches {
		var b Batch
		require.NoError(w.t, json.Unmarshal(w.store[BatchKey(h.Name, n)].value, &b))
		// Without a look, a rollback has taken its desktops from a retry; a worker that has just died comes back.
		if b.State == Ended && b.Looks > 0 && w.now.Sub(b.Since) > time.Hour {
			require.True(w.t, reported[[2]int{n, b.Attempt}], "no event shows how batch %d ended", n)
		}
	}
}

// answers checks that each verb has ended in exactly one event, if it has ended.
func (w *world) answers(all bool) {
	for id, e := range w.verbs {
		n := len(w.published[id])
		require.LessOrEqual(w.t, n, 1, "%s %s ends in %d events", id, e.Verb.Type, n)
		if all {
			require.Equal(w.t, 1, n, "%s %s has no event", id, e.Verb.Type)
		}
	}
}

func (w *world) String() string {
	text := ""
	for _, name := range w.names {
		if h := w.head(name); h != nil {
			text += fmt.Sprintf("%s %s %s %s %v open %v waiting %+v tick %+v\n", w.now.Format(time.DateTime), name, h.Phase, h.Reason, h.Counts(), h.Open, h.Waiting, h.Tick)
		}
	}
	return text
}

// shown is the image id in the letter case in which the service returns it.
func (w *world) shown(image string) string {
	if w.showsUpperCase && image == "new" {
		return strings.ToUpper(image)
	}
	return image
}
