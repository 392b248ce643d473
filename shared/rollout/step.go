package rollout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"recompose/events"
)

// Event is what a step is about: a verb, an event of another function, or a tick.
type Event struct {
	Verb *Verb
	Tick int // number of the tick; 0 for a wake-up and for everything else
	// An event of another function, with its attribute.
	Type, ID, Causation  string
	Time                 time.Time // not later than when it was stored; zero: not known
	Plan, Batch, Attempt int       // attempt 0: the event is about the plan
	Data                 json.RawMessage
}

// Verb is a command of a person.
type Verb struct {
	events.CommandRef
	Correlation string                `json:"correlationid"`
	Time        time.Time             `json:"time"`
	Data        events.RolloutCommand `json:"data"`
	Named       int                   `json:"named,omitempty"` // its desktop ids, which are under a NamedKey
}

// Facts are what a step knows beside the records.
type Facts struct {
	Now        time.Time
	Pace       float64                     // divides the waits that are not the spec's
	Stopped    string                      // why no write may begin; "" if one may
	NotAllowed func(ids []string) []string // the desktops that the lists refuse; nil: none
	Jobs       map[string]Job              // what the ledger shows of commands, by identity
	MaxAge     time.Duration               // of a verb: older ones do not come any more; 0: not known
	Republish  bool                        // the message may be delivered once more: publish what the records show
	Retried    bool                        // an earlier try stored some of its records and published nothing
}

// Job is what the ledger shows of a command of a batch.
type Job struct {
	State    string // free, under_way, accepted, ended
	Absent   bool   // free, because there is no record
	Deadline time.Time
	Type     string // of the end
	Data     json.RawMessage
}

// States of a command in the ledger.
const (
	JobFree     = "free"
	JobUnderWay = "under_way"
	JobAccepted = "accepted"
	JobEnded    = "ended"
)

// Message is a command or an event to be published.
type Message struct {
	To          string // a function; "" for an event
	Type        string
	ID          string
	Causation   string
	Correlation string
	Time        time.Time
	Expiry      time.Time
	After       time.Duration // of a tick
	Rollout     string        // the attribute
	Data        json.RawMessage
}

// Put is a record to be stored.
type Put struct {
	Key   string
	Value []byte
}

// Result is what a step wants: records to be read before it is repeated, or records to be stored, in this order, and
// then messages to be published.
type Result struct {
	Missing  []string // keys
	Jobs     []string // identities of commands whose ledger record must be read
	Stale    bool     // records were changed while they were read: read all of them once more
	Puts     []Put
	Messages []Message
	Head     *Head
	Unread   error // why the data of the event were ignored
}

// TypeTick is the type of the message by which a rollout goes on without another event.
const TypeTick = "recompose.internal.rollout.tick.v1"

// TypeNoted is the type of the command that an event of another function implies.
const TypeNoted = "recompose.internal.rollout.noted.v1"

// step is one step of one rollout. Its input, in, has the records that were read. It notes which others it needs: then it
// is repeated from the beginning with them.
type step struct {
	Facts
	name    string
	in      map[string][]byte
	missing []string
	jobs    []string
	head    *Head // nil: there is none
	before  []byte
	records map[string]any // decoded, in the order of keys
	keys    []string
	out     []Message
	asking  []*Batch // that need a look which verifies
	ending  bool     // the stored head ends the batches that are not sent: an abort, a retry or a rollback
	more    bool     // further batches can be formed at once
	ripe    bool     // the stored head shows that everything is read for the plan
	claims  bool     // the stored head shows that this step may claim desktops
	freed   []string // keys of claims that are withdrawn after the head is stored
	stale   bool     // the head is older than another record: read everything once more
	unread  error    // the data of the event cannot be read
}

// Step is one step of the rollout with this name: the event is noted, and it is decided what follows. in has the
// records that were read, nil for one that does not exist. Step is pure: the same arguments give the same result.
func Step(name string, in map[string][]byte, e Event, f Facts) (Result, error) {
	s := &step{Facts: f, name: name, in: in, records: map[string]any{}}
	if f.Pace <= 0 {
		s.Pace = 1
	}
	if err := s.open(); err != nil {
		return Result{}, err
	}
	if s.overtaken(e) {
		return Result{Head: s.head}, nil
	}
	if s.head != nil && s.ready() {
		s.complete()
	}
	if s.ready() {
		s.note(e)
	}
	if s.head != nil && s.ready() {
		s.decide()
	}
	s.stay()
	if !s.ready() || s.stale {
		return Result{Missing: s.missing, Jobs: s.jobs, Stale: s.stale}, nil
	}
	return s.result()
}

// overtaken reports whether another step has taken the place of this tick, and is storing hundreds of records at present: a
// second step would only make its puts conflict.
func (s *step) overtaken(e Event) bool {
	h := s.head
	return h != nil && e.Tick > 0 && h.Tick != nil && h.Tick.Seq != e.Tick && !s.Republish && !s.Retried &&
		(h.Moving != "" || h.Reading.ripe())
}

func (s *step) ready() bool { return len(s.missing) == 0 && len(s.jobs) == 0 }

func (s *step) open() error {
	value, known := s.in[HeadKey(s.name)]
	if !known {
		s.missing = append(s.missing, HeadKey(s.name))
		return nil
	}
	if value == nil {
		return nil
	}
	s.head, s.before = &Head{}, value
	if err := json.Unmarshal(value, s.head); err != nil {
		return fmt.Errorf("read %s: %w", HeadKey(s.name), err)
	}
	s.ending, s.ripe = s.head.ending(), s.head.Reading.ripe()
	s.claims = s.ripe || s.head.Moving != ""
	return nil
}

// record returns the record under a key; false if it must be read first. A record that does not exist is zero.
func record[T any](s *step, key string) (*T, bool) {
	if r, ok := s.records[key]; ok {
		return r.(*T), true
	}
	value, known := s.in[key]
	if !known {
		if !slices.Contains(s.missing, key) {
			s.missing = append(s.missing, key)
		}
		return new(T), false
	}
	r := new(T)
	if value != nil && json.Unmarshal(value, r) != nil {
		// A record that cannot be read is damaged; the store has checked its frame, so this is a fault of the program.
		panic("rollout: damaged record " + key)
	}
	s.records[key] = r
	s.keys = append(s.keys, key)
	return r, true
}

// fresh is a record that replaces what is there, without reading its content.
func fresh[T any](s *step, key string) *T {
	r := new(T)
	if _, known := s.in[key]; !known && !slices.Contains(s.missing, key) {
		s.missing = append(s.missing, key) // its revision is needed
	}
	if _, ok := s.records[key]; !ok {
		s.keys = append(s.keys, key)
	}
	s.records[key] = r
	return r
}

func (s *step) batch(n int) (*Batch, bool) {
	b, ok := record[Batch](s, BatchKey(s.name, n))
	_, sum := record[Sum](s, SumKey(s.name, n/SumBatches))
	return b, ok && sum
}

// result lists the records that have changed: batches first, then what is summed up from them, then the head.
func (s *step) result() (Result, error) {
	r := Result{Head: s.head}
	var puts, sums, last []Put
	if s.head != nil {
		s.sumUp()
	}
	if !s.ready() {
		return Result{Missing: s.missing, Jobs: s.jobs}, nil
	}
	for _, key := range s.keys {
		value, err := json.Marshal(s.records[key])
		if err != nil {
			return r, fmt.Errorf("write %s: %w", key, err)
		}
		switch was := s.in[key]; {
		case bytes.Equal(was, value), was == nil && isZero(s.records[key]):
		case strings.Contains(key, "/sum/"):
			sums = append(sums, Put{key, value})
		case key == LiveKey && s.head != nil && s.head.over(), // while a rollout is not over, it is among those that live
			slices.Contains(s.freed, key):
			last = append(last, Put{key, value})
		default:
			puts = append(puts, Put{key, value})
		}
	}
	r.Puts = slices.Concat(puts, sums)
	if s.head != nil {
		value, err := json.Marshal(s.head)
		if err != nil {
			return r, fmt.Errorf("write the head of %s: %w", s.name, err)
		}
		if !bytes.Equal(value, s.before) {
			s.head.Revision++
			s.stampRevision()
			s.head.shrink(len(value) - maxHead)
			if value, err = json.Marshal(s.head); err != nil {
				return r, fmt.Errorf("write the head of %s: %w", s.name, err)
			}
			r.Puts = append(r.Puts, Put{HeadKey(s.name), value})
		}
	}
	r.Puts = append(r.Puts, last...)
	r.Messages, r.Unread = s.out, s.unread
	return r, nil
}

func isZero(r any) bool {
	switch r := r.(type) {
	case *Sum:
		return len(r.Batches) == 0
	case *ExcludedIDs:
		return len(r.Desktops) == 0
	case *Batch:
		return len(r.Rows) == 0
	}
	return reflect.ValueOf(r).Elem().IsZero() // a record that was only read
}

// sumUp sets the summary of each batch of this step, and those of the head.
func (s *step) sumUp() {
	for _, key := range slices.Clone(s.keys) {
		b, ok := s.records[key].(*Batch)
		if !ok || len(b.Rows) == 0 {
			continue
		}
		counts := Counts{}
		for _, r := range b.Rows {
			counts[r.State]++
		}
		n := b.N / SumBatches
		sum, ok := record[Sum](s, SumKey(s.name, n))
		if !ok {
			continue
		}
		if sum.Batches == nil {
			sum.Batches = map[int]Summary{}
		}
		sum.Batches[b.N] = Summary{b.Attempt, b.Wave, counts}
		for len(s.head.Sums) <= n {
			s.head.Sums = append(s.head.Sums, map[int]Counts{})
		}
		s.head.Sums[n] = sum.counts(s.head.Batches)
		if b.State == Ended {
			if _, open := s.head.Open[b.N]; open && !slices.Contains(s.head.Ended, b.N) {
				s.ended(b) // by a worker that died before it stored the head
			}
			delete(s.head.Open, b.N)
			continue
		}
		if s.head.Open == nil {
			s.head.Open = map[int]Open{}
		}
		s.head.Open[b.N] = Open{
			Wave: b.Wave, Attempt: b.Attempt, State: b.State, Size: b.size(), Vain: b.Vain, Due: b.due(),
		}
	}
}

// size is the number of desktops that the batch may still rebuild.
func (b *Batch) size() int {
	n := 0
	for _, r := range b.Rows {
		if r.State == Pending {
			n++
		}
	}
	return n
}

// attribute is the attribute rollout of messages about a batch; attempt 0 is the plan.
func (s *step) attribute(batch, attempt int) string {
	return events.RolloutRef{Name: s.name, Plan: s.head.Plan, Batch: batch, Attempt: attempt}.String()
}

// wait is a wait of recompose, as opposed to one of the spec.
func (s *step) wait(d time.Duration) time.Duration { return time.Duration(float64(d) / s.Pace) }

// republish is how long a request waits for a sign that it was taken.
const republish = 2 * time.Minute

// request makes a command to another function, and publishes it.
func (s *step) request(to, typ string, number, batch, attempt int, expiry time.Time, data any,
	about ...string) *Request {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("rollout: write %s: %v", typ, err)) // our own types
	}
	words := append([]string{"rollout", strconv.Itoa(s.head.Plan), strconv.Itoa(batch), strconv.Itoa(attempt),
		strconv.Itoa(number)}, about...)
	r := &Request{
		ID: events.Derive(s.head.Start.identity(), words...), To: to, Type: typ, Number: number, At: s.Now.UTC(),
		Expiry: expiry, Data: raw,
	}
	s.publish(r, batch, attempt)
	return r
}

// publish publishes a request, for the first time or once more.
func (s *step) publish(r *Request, batch, attempt int) {
	r.RepublishAt = s.Now.Add(s.wait(republish)).UTC()
	s.out = append(s.out, Message{
		To: r.To, Type: r.Type, ID: r.ID, Causation: s.head.Start.ID, Correlation: s.head.Start.Correlation,
		Time: r.At, Expiry: r.Expiry, Rollout: s.attribute(batch, attempt), Data: r.Data,
	})
}

// remind publishes a request once more if it is due.
func (s *step) remind(r *Request, batch, attempt int) {
	if r != nil && !r.Taken && (s.Republish || s.Retried || !s.Now.Before(r.RepublishAt)) {
		s.publish(r, batch, attempt)
	}
}

// report publishes an event of the rollout, and keeps it in the head. A verb that it answers is in v.
func (s *step) report(typ string, v *Verb, change func(*events.Rollout), about ...string) {
	h := s.head
	data := events.Rollout{
		Name: h.Name, Chain: h.Start.Correlation, Phase: h.Phase, Plan: h.Plan, Digest: h.Digest, ImageID: h.Image.ID,
		Counts: h.Counts(),
	}
	entry := Entry{Type: typ, Time: s.Now.UTC()}
	words := append([]string{"rollout", typ, strconv.Itoa(h.Plan), strconv.Itoa(len(h.Waves)), strconv.Itoa(h.Revision)},
		about...)
	switch {
	case v == nil && events.IsNotice(typ):
		data.Command = &h.Start.CommandRef
	case v == nil && Over(h.Phase):
		entry.Causation = events.RolloutEnd(h.Start.identity())
		data.Command = &h.Start.CommandRef
	case v == nil:
		entry.Causation = events.Derive(h.Start.identity(), "rollout", "notice")
	default:
		data.Command, entry.Causation, entry.Correlation = &v.CommandRef, v.ID, v.Correlation
		words = append(words, v.Source, v.ID)
	}
	entry.ID = events.Derive(h.Start.identity(), words...)
	if change != nil {
		change(&data)
	}
	entry.Data, _ = json.Marshal(data)
	h.Log = append(h.Log, entry)
	h.Log = trimmed(h.Log)
	s.out = append(s.out, s.message(entry))
}

// trimmed are the last events that a head keeps.
func trimmed(log []Entry) []Entry {
	first, bytes := len(log), 0
	for kept := 0; first > 0 && kept < logSize; kept++ {
		if bytes += len(log[first-1].Data); bytes > maxLog && kept >= leastLog {
			break
		}
		first--
	}
	return slices.Clone(log[first:])
}

func (s *step) message(e Entry) Message {
	m := Message{Type: e.Type, ID: e.ID, Causation: e.Causation, Correlation: e.Correlation, Time: e.Time, Data: e.Data}
	if m.Correlation == "" {
		m.Correlation = s.head.Start.Correlation
	}
	return m
}

// stampRevision sets the revision in the events of this step.
func (s *step) stampRevision() {
	for i := range s.head.Log {
		e := &s.head.Log[i]
		var data events.Rollout
		if !e.Time.Equal(s.Now.UTC()) || json.Unmarshal(e.Data, &data) != nil || data.Revision != 0 {
			continue
		}
		data.Revision = s.head.Revision
		e.Data, _ = json.Marshal(data)
		for j := range s.out {
			if s.out[j].ID == e.ID {
				s.out[j].Data = e.Data
			}
		}
	}
}

// openNumbers are the numbers of the open batches, in order.
func (h *Head) openNumbers() []int { return slices.Sorted(maps.Keys(h.Open)) }
