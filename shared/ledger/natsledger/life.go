package natsledger

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
)

// bounds is a lower bound of the bucket's content: a highest sequence, and a number of keys. Neither decreases,
// because no record is ever removed.
type bounds struct{ seq, records uint64 }

// life is what this process knows about the bucket's life.
type life struct {
	comparing sync.Mutex // held by the running comparison

	mu         sync.Mutex // guards the fields below
	epoch      epoch      // zero until the first comparison
	reconnects uint64     // of the connection, at the last comparison
	seen       uint64     // highest sequence
	counted    bounds     // as last returned by the server
	made       []uint64   // sequences of records that this process has created since
	suspect    string     // a loss that a put has shown; "" for none
	shown      string     // the reason that was logged last
}

// saw records a sequence that the bucket has reached.
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

// stored records a put that was acknowledged. floor is the highest sequence known before it was sent.
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

// doubt records a loss that the next comparison must store.
func (l *life) doubt(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspect = reason
}

// bounds returns the content that the bucket must have now.
func (l *life) bounds() bounds {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bounds{l.seen, l.counted.records + uint64(len(l.made))}
}

// count records how many keys the bucket has.
func (l *life) count(b bounds) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = max(l.seen, b.seq)
	if b.seq > l.counted.seq {
		l.counted = b
		l.made = slices.DeleteFunc(l.made, func(seq uint64) bool { return seq <= b.seq })
	}
}

// current returns the last epoch that was found; zero before the first comparison.
func (l *life) current() epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// sound reports whether the bucket was compared on this connection and no doubt has been recorded since.
func (l *life) sound(reconnects uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch.ID != "" && l.reconnects == reconnects && l.suspect == "" && l.shown == ""
}

// begin discards the knowledge of another epoch, and returns the suspected loss of this one.
func (l *life) begin(e epoch, reconnects uint64) (suspect string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch.ID != "" && l.epoch.ID != e.ID {
		l.seen, l.counted, l.made, l.suspect = 0, bounds{}, nil, ""
	}
	l.epoch, l.reconnects = e, reconnects
	return l.suspect
}

// show reports whether the reason differs from the logged one.
func (l *life) show(reason string) (before string, changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.shown = l.shown, reason
	return before, before != reason
}

// Headers of messages. Package queue defines the name of the epoch's header.
const (
	headerEpoch    = "Recompose-Ledger"
	headerSequence = "Recompose-Ledger-Sequence"
	headerRecords  = "Recompose-Ledger-Records"
)

// Stamp returns the headers that describe the present ledger: its epoch, its highest sequence and its number of keys.
// A worker that reads them later knows what the bucket must still have. There are none before the first Fit.
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
