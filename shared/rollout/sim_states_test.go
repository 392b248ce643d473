package rollout

import (
	"encoding/json"
	"maps"

	"github.com/stretchr/testify/require"
)

// live are the states of the desktops by their one live slot.
func (w *world) live(h *Head) map[string]string {
	states := map[string]string{}
	note := func(id, state string) {
		if state == moved {
			return
		}
		require.NotContains(w.t, states, id, "two live slots")
		states[id] = state
	}
	inBatch := map[int]bool{}
	open := map[string]int{}
	for n := range h.Batches {
		var b Batch
		require.NoError(w.t, json.Unmarshal(w.store[BatchKey(h.Name, n)].value, &b), "batch %d", n)
		for i, r := range b.Rows {
			require.False(w.t, inBatch[b.From+i], "slot %d is in two batches", b.From+i)
			inBatch[b.From+i] = true
			note(r.ID, r.State)
			if b.State != Ended && r.State != moved {
				open[r.ID]++
				require.Equal(w.t, 1, open[r.ID], "a desktop is in two batches at a time")
			}
		}
	}
	var slots []Slot
	for _, r := range h.Ranges {
		for n := 0; n*PageRows < r.Count; n++ {
			var page Page
			require.NoError(w.t, json.Unmarshal(w.store[PageKey(h.Name, r.Operation, n)].value, &page))
			slots = append(slots, page.Slots...)
		}
	}
	require.Len(w.t, slots, h.Slots)
	var excluded ExcludedIDs
	if record := w.store[ExcludedKey(h.Name)].value; record != nil {
		require.NoError(w.t, json.Unmarshal(record, &excluded))
	}
	for _, wave := range h.Waves {
		left := wave.Out
		for i := wave.From; i < wave.To; i++ {
			require.Equal(w.t, i < wave.Next, inBatch[i], "slot %d of %d to %d, next %d", i, wave.From, wave.To, wave.Next)
			if i < wave.Next {
				continue
			}
			state := Pending
			if wave.Kind == DeferredWave {
				state = Deferred
			}
			if outOf([]string{slots[i].ID}, excluded.Desktops) > 0 && h.Excluded > 0 {
				left--
				state = Excluded
			}
			note(slots[i].ID, state)
		}
		require.Zero(w.t, left, "excluded desktops in no batch: %+v", wave)
	}
	if h.Excluded == len(excluded.Desktops) {
		for id, state := range states {
			waits := state == Pending || state == Deferred
			require.False(w.t, waits && outOf([]string{id}, excluded.Desktops) > 0, "%s is excluded and %s", id, state)
		}
	}
	return states
}

// sum are the counts of states.
func sum(states map[string]string, leftOut Counts) Counts {
	c := maps.Clone(leftOut)
	if c == nil {
		c = Counts{}
	}
	for _, state := range states {
		c[state]++
	}
	return c
}
