package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout/fence"
	"recompose/shared/store"
)

// OfferSummary is a retry, a rollback or a change that waits for approval, with its desktops as they stand now.
type OfferSummary struct {
	Desktops int // that are rebuilt
	Unknown  int // of unknown outcome: they are rebuilt only once their calls can no longer take effect

	verb    Verb
	images  []ImageCount        // to which a rollback goes
	left    []string            // reasons of desktops that are left as they are
	ids     map[string][]string // of these desktops, by reason
	open    int
	waiting int // desktops that an earlier rollback has not reached
	rest    int // with which the rollout goes on after a retry
}

// ReadOffer reads what waits for approval. The rollout must have an offer. It blocks until the store answers.
func ReadOffer(ctx context.Context, s store.Store, v *View) (OfferSummary, error) {
	verb := v.Offer.Verb
	o := OfferSummary{verb: verb, ids: map[string][]string{}, open: len(v.Open)}
	only := map[string]bool{}
	if verb.Named > 0 {
		page, err := readAll[TargetsPage](ctx, s, []string{NamedKey(v.Name, verb.operation())})
		if err != nil {
			return o, err
		}
		if page[0] == nil {
			return o, fmt.Errorf("the desktops of the %s: %w", verbOf(verb), store.ErrNotFound)
		}
		for _, id := range page[0].DesktopIDs {
			only[fence.Fold(id)] = true
		}
	}
	if verb.Type == events.TypeRolloutSet {
		return o, nil
	}
	excluded, err := readExcluded(ctx, s, v)
	if err != nil {
		return o, err
	}
	var rows []taken
	for _, b := range v.Batches {
		for i := 0; b != nil && i < len(b.Rows); i++ {
			rows = append(rows, taken{&b.Rows[i]})
		}
	}
	back := verb.Type == events.TypeRolloutRollback
	if counts := v.Counts(); !back {
		o.rest = counts[Pending] + counts[Deferred]
	}
	if back {
		if verb.Named == 0 {
			o.waiting = v.waitBack()
		}
		tried, err := readTried(ctx, s, v)
		if err != nil {
			return o, err
		}
		rows = append(rows, tried...)
	}
	o.count(rows, back, only, excluded, v.Image.ID)
	return o, nil
}

// count counts what becomes of the desktops. only: if there are any, those that are named.
func (o *OfferSummary) count(rows []taken, back bool, only map[string]bool, excluded map[string]string, image string) {
	states := []string{Failed, Missing, Unverified}
	if back {
		states = []string{Done, Failed, Unverified}
	}
	images := map[ImageCount]int{}
	for _, r := range rows {
		if len(only) > 0 && !only[fence.Fold(r.ID)] {
			continue
		}
		_, out := excluded[fence.Fold(r.ID)]
		unknown := r.State == Unknown && len(only) > 0
		tried := back && r.Tried && (r.State == Pending || r.State == Deferred)
		switch {
		case !unknown && !tried && !slices.Contains(states, r.State):
		case out:
			o.leave(r.ID, "it is excluded")
		case back && r.noWayBack(image) != "":
			o.leave(r.ID, r.noWayBack(image))
		case unknown:
			o.Unknown++
		default:
			o.Desktops++
			images[ImageCount{ImageID: r.Image, ImageType: r.ImageType}]++
		}
	}
	if back {
		o.images = imageCounts(images)
	}
}

// readTried reads the desktops that failed and that no batch of a retry has yet: a rollback takes them up.
func readTried(ctx context.Context, s store.Store, v *View) (rows []taken, err error) {
	for _, w := range v.Waves {
		if w.Kind != RetryWave && w.Kind != DeferredWave {
			continue
		}
		parts := v.parts(w.Next, w.To)
		pages, err := readPages[Page](ctx, s, len(parts)*PageRows, func(n int) string { return parts[n].key })
		if err != nil {
			return nil, err
		}
		for i, page := range pages {
			for _, slot := range parts[i].of(page) {
				if slot.Tried {
					rows = append(rows, taken{&Row{Slot: slot, State: Pending}})
				}
			}
		}
	}
	return rows, nil
}

// readExcluded are the reasons of the desktops that are excluded, by the folded id.
func readExcluded(ctx context.Context, s store.Store, v *View) (map[string]string, error) {
	if v.Excluded == 0 {
		return nil, nil
	}
	records, err := readAll[ExcludedIDs](ctx, s, []string{ExcludedKey(v.Name)})
	if err != nil {
		return nil, err
	}
	if records[0] == nil {
		return nil, fmt.Errorf("the excluded desktops: %w", store.ErrNotFound)
	}
	return records[0].Desktops, nil
}

func (o *OfferSummary) leave(id, reason string) {
	if o.ids[reason] == nil {
		o.left = append(o.left, reason)
	}
	o.ids[reason] = append(o.ids[reason], id)
}

// Question is what an approval does.
func (o OfferSummary) Question() string {
	if o.verb.Type == events.TypeRolloutSet {
		return "This approves the change"
	}
	text := fmt.Sprintf("This approves the %s: %s, the data on their system disks is lost", verbOf(o.verb), o.rebuilt())
	if o.rest > 0 {
		text += ", and " + o.goesOn()
	}
	return text
}

func (o OfferSummary) goesOn() string {
	return fmt.Sprintf("the rollout goes on with the %d that wait", o.rest)
}

func (o OfferSummary) rebuilt() string {
	n := o.Desktops + o.Unknown + o.waiting
	return chain.Count(n, "desktop") + map[bool]string{true: " is", false: " are"}[n == 1] + " rebuilt"
}

// Lines describe what waits for the person who decides on it.
func (o OfferSummary) Lines() []Line {
	if o.verb.Type == events.TypeRolloutSet {
		return []Line{line("change", "%s", o.change())}
	}
	lines := []Line{line(verbOf(o.verb), "%s: the data on their system disks is lost", o.rebuilt())}
	for i, b := range o.images {
		text := b.ImageID
		if b.ImageType != "" {
			text += " (" + b.ImageType + ")"
		}
		lines = append(lines, line(map[bool]string{true: "back to"}[i == 0], "%d: image %s", b.Count, text))
	}
	if o.waiting > 0 {
		lines = append(lines, line("", "%s of them an earlier rollback has not reached", chain.Count(o.waiting, "desktop")))
	}
	for _, reason := range o.left {
		ids := o.ids[reason]
		are := has(len(ids)) + " no way back"
		if o.verb.Type == events.TypeRolloutRetry {
			are = chain.Count(len(ids), "desktop")
		}
		lines = append(lines, line("left", "%s, %s: %s", are, reason, chain.First(ids, 3)))
	}
	if o.Unknown > 0 {
		lines = append(lines, line("unknown", "%d of them only if their calls can no longer take effect", o.Unknown))
	}
	if o.rest > 0 {
		lines = append(lines, line("then", "%s", o.goesOn()))
	}
	if o.open > 0 {
		lines = append(lines, line("", "the desktops of %s that did not end yet may be added", openText(o.open)))
	}
	return lines
}

func has(n int) string {
	return chain.Count(n, "desktop") + map[bool]string{true: " has", false: " have"}[n == 1]
}

func openText(n int) string {
	if n == 1 {
		return "1 batch"
	}
	return fmt.Sprintf("%d batches", n)
}

// change are the settings that a set brings.
func (o OfferSummary) change() string {
	var parts []string
	if n := o.verb.Data.MaxUnavailable; n > 0 {
		parts = append(parts, fmt.Sprintf("max_unavailable %d", n))
	}
	if raw := o.verb.Data.MaxFailed; raw != nil {
		parts = append(parts, "max_failed "+strings.Trim(string(raw), `"`))
	}
	if raw := o.verb.Data.Window; raw != nil {
		parts = append(parts, "window "+string(raw))
	}
	return strings.Join(parts, ", ")
}
