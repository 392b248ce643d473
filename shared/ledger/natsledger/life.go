package natsledger

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
)

// bounds is what a bucket must have, because it has had it: a highest sequence, and so many keys. Neither becomes less,
// for no record is ever removed.
type bounds struct{ seq, records uint64 }

// life is what this process knows of the bucket's life.
type life struct {
	comparing sync.Mutex // held by the one comparison that goes on

	mu         sync.Mutex // of what is below
	epoch      epoch      // zero until the first comparison
	reconnects uint64     // of the connection, at the last comparison
	seen       uint64     // highest sequence
	counted    bounds     // as the server gave them last
	made       []uint64   // sequences of records that were made here since
	suspect    string     // what a put has shown; "" for nothing
	shown      string     // the reason that is in the log
}

// saw takes note of a sequence that the bucket has.
func (l *life) saw(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = max(l.seen, seq)
}

func (l *life) highest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// stored takes note of a put that was acknowledged. floor is what was seen before it was sent.
func (l *life) stored(seq, floor uint64, isNew bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq <= floor {
		l.suspect = fmt.Sprintf("a record was stored as number %d after number %d had been seen: it was cut, or is an older copy",
			seq, floor)
		return
	}
	l.seen = max(l.seen, seq)
	if isNew && seq > l.counted.seq {
		l.made = append(l.made, seq)
	}
}

// doubt takes note of a loss that the next comparison must keep.
func (l *life) doubt(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspect = reason
}

// bounds is what the bucket must have now.
func (l *life) bounds() bounds {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bounds{l.seen, l.counted.records + uint64(len(l.made))}
}

// count takes note of how many keys the bucket has.
func (l *life) count(b bounds) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = max(l.seen, b.seq)
	if b.seq > l.counted.seq {
		l.counted = b
		l.made = slices.DeleteFunc(l.made, func(seq uint64) bool { return seq <= b.seq })
	}
}

// current is the epoch that was found last; zero before the first comparison.
func (l *life) current() epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// sound reports whether the bucket was compared on this connection and nothing has cast a doubt on it since.
func (l *life) sound(reconnects uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch.ID != "" && l.reconnects == reconnects && l.suspect == "" && l.shown == ""
}

// begin forgets what was known of another epoch, and gives what is suspected in this one.
func (l *life) begin(e epoch, reconnects uint64) (suspect string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch.ID != "" && l.epoch.ID != e.ID {
		l.seen, l.counted, l.made, l.suspect = 0, bounds{}, nil, ""
	}
	l.epoch, l.reconnects = e, reconnects
	return l.suspect
}

// show reports whether the reason is another than the one in the log.
func (l *life) show(reason string) (before string, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.shown = l.shown, reason
	return before, before != reason
}

// Headers of messages. The epoch goes by the name that package queue gives it.
const (
	headerEpoch    = "Recompose-Ledger"
	headerSequence = "Recompose-Ledger-Sequence"
	headerRecords  = "Recompose-Ledger-Records"
)

// Stamp gives the headers that describe the ledger at this moment: its epoch, its highest sequence and how many keys it
// has. A worker that reads them later knows what the bucket must still have. There are none before the first Fit.
func (s *Store) Stamp() map[string]string {
	e := s.life.current()
	if e.ID == "" {
		return nil
	}
	b := s.life.bounds()
	return map[string]string{
		headerEpoch: e.ID, headerSequence: strconv.FormatUint(b.seq, 10), headerRecords: strconv.FormatUint(b.records, 10),
	}
}
