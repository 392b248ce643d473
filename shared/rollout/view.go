package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"recompose/shared/store"
)

// View is a rollout with its batches, for people.
type View struct {
	*Head
	Batches []*Batch // by number; nil for one that is not stored yet
}

// Viewer reads one rollout several times. It keeps the batches that have ended: they change only by a retry, a rollback
// or a deferral, each of which adds slots.
type Viewer struct {
	Store store.Store
	Name  string

	slots int
	ended map[int]*Batch
}

// readAtOnce is the number of records that are read in one round trip.
const readAtOnce = 50

// Read reads the rollout as it is now. It blocks until the store answers. The error is ErrNone by errors.Is if there is
// no rollout with the name.
func (r *Viewer) Read(ctx context.Context) (*View, error) {
	h, err := ReadHead(ctx, r.Store, r.Name)
	if err != nil {
		return nil, err
	}
	if h.Slots != r.slots || r.ended == nil {
		r.slots, r.ended = h.Slots, map[int]*Batch{}
	}
	v := &View{Head: h, Batches: make([]*Batch, h.Batches)}
	var wanted []int
	for n := range v.Batches {
		if v.Batches[n] = r.ended[n]; v.Batches[n] == nil {
			wanted = append(wanted, n)
		}
	}
	for part := range slices.Chunk(wanted, readAtOnce) {
		keys := make([]string, len(part))
		for i, n := range part {
			keys[i] = BatchKey(r.Name, n)
		}
		batches, err := readAll[Batch](ctx, r.Store, keys)
		if err != nil {
			return nil, err
		}
		for i, n := range part {
			v.Batches[n] = batches[i]
			if _, open := h.Open[n]; !open && batches[i] != nil && batches[i].State == Ended {
				r.ended[n] = batches[i]
			}
		}
	}
	return v, nil
}

// readAll reads records; nil stands for one that does not exist.
func readAll[T any](ctx context.Context, s store.Store, keys []string) ([]*T, error) {
	records := make([]*T, len(keys))
	for i, value := range s.GetAll(ctx, keys...) {
		if errors.Is(value.Err, store.ErrNotFound) {
			continue
		}
		err := value.Err
		if err == nil {
			err = json.Unmarshal(value.Data, &records[i])
		}
		if err != nil {
			return nil, fmt.Errorf("record %s: %w", keys[i], err)
		}
	}
	return records, nil
}

// PlanRecords are the desktops of a plan: those that it rebuilds, in order, and those that it leaves out, by id.
type PlanRecords struct {
	Slots   []Slot
	LeftOut []LeftOut
}

// ReadPlan reads the desktops of the first plan of a rollout. It blocks until the store answers.
func ReadPlan(ctx context.Context, s store.Store, h *Head) (PlanRecords, error) {
	var plan PlanRecords
	if len(h.Ranges) == 0 {
		return plan, nil
	}
	first := h.Ranges[0]
	pages, err := readPages[Page](ctx, s, first.Count, func(n int) string { return PageKey(h.Name, first.Operation, n) })
	if err != nil {
		return plan, err
	}
	for _, p := range pages {
		plan.Slots = append(plan.Slots, p.Slots...)
	}
	out := 0
	for _, n := range h.LeftOut {
		out += n
	}
	left, err := readPages[LeftOutPage](ctx, s, out, func(n int) string { return LeftOutKey(h.Name, first.Operation, n) })
	if err != nil {
		return plan, err
	}
	for _, p := range left {
		plan.LeftOut = append(plan.LeftOut, p.Desktops...)
	}
	return plan, nil
}

// readPages reads the pages of so many rows. A page that is missing is an error: a plan must be shown whole.
func readPages[T any](ctx context.Context, s store.Store, rows int, key func(n int) string) ([]*T, error) {
	var keys []string
	for n := 0; n*PageRows < rows; n++ {
		keys = append(keys, key(n))
	}
	var pages []*T
	for part := range slices.Chunk(keys, readAtOnce) {
		read, err := readAll[T](ctx, s, part)
		if err != nil {
			return nil, err
		}
		for i, p := range read {
			if p == nil {
				return nil, fmt.Errorf("record %s: %w", part[i], store.ErrNotFound)
			}
		}
		pages = append(pages, read...)
	}
	return pages, nil
}

// states are the states of the desktops of a wave, in the order of its slots. A desktop that has a later slot is moved.
// Which of the desktops in no batch are excluded is not read: the last cells stand for them.
func (v *View) states(wave int) []string {
	w := v.Waves[wave]
	waits := Pending
	if w.Kind == DeferredWave {
		waits = Deferred
	}
	states := slices.Repeat([]string{waits}, max(w.To-w.From-w.Out, 0))
	states = append(states, slices.Repeat([]string{Excluded}, w.Out)...)
	for _, b := range v.Batches {
		if b == nil || b.Wave != wave {
			continue
		}
		for i, r := range b.Rows {
			if at := b.From - w.From + i; at >= 0 && at < len(states) {
				states[at] = r.State
			}
		}
	}
	return states
}

// prominence is the order in which states prevail in a cell of several desktops.
var prominence = []string{
	Failed, Unknown, Missing, Unverified, Sent, Deferred, Pending, Refused, Skipped, Excluded, Done, BackDone, moved,
}

// Cells are the states of a wave in at most n cells, in the order of its desktops. A cell of several desktops has the
// state that a person must see first.
func (v *View) Cells(wave, n int) []string {
	states := v.states(wave)
	if n <= 0 || len(states) <= n {
		return states
	}
	cells := make([]string, n)
	for i := range cells {
		of := states[i*len(states)/n : (i+1)*len(states)/n]
		cells[i] = slices.MinFunc(of, func(a, b string) int {
			return slices.Index(prominence, a) - slices.Index(prominence, b)
		})
	}
	return cells
}
