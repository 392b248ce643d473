package natsledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
)

// A bucket that was deleted, cut or put back from an older copy looks like a bucket with fewer records. What it must
// have is known outside of it: the metadata of the stream of events has its epoch, which begins with the time at which
// the bucket was made, and each event of a function has the bucket's highest sequence and its number of keys.

const (
	metadataKey = "recompose-ledger" // in the metadata of the stream of events
	readBack    = 32                 // so many events are read for what the bucket must have
)

// epoch is an Epoch as the metadata keeps it.
type epoch struct {
	ledger.Epoch
	// Since is the number of the last event before it; zero: it is the bucket's first.
	Since uint64 `json:"since,omitempty"`
	// Floor is the bucket's highest sequence then: what was deleted up to it is accepted.
	Floor uint64 `json:"floor,omitempty"`
}

// read reads an epoch as it is kept; false if the text is damaged.
func (e *epoch) read(kept string) bool {
	return json.Unmarshal([]byte(kept), e) == nil && e.ID != ""
}

// named is the epoch with this id, as far as an id shows: it begins with the time at which the bucket was made.
func named(id string) epoch {
	made, _, _ := strings.Cut(id, "/")
	return epoch{Epoch: ledger.Epoch{ID: id, Store: made}}
}

// bucket is the bucket as it is.
type bucket struct {
	there  bool
	made   string // when
	has    bounds
	ages   bool // records may expire, after long enough: how many there are proves nothing
	limit  string
	loss   loss
	lossAt store.Revision
	damage string // of the loss
}

// Fit asks whether a write may begin. It asks the server for the state of the bucket each time, and at first, after each
// reconnect and while something does not fit, also for what the bucket must have. It blocks at most 15 seconds or until
// ctx ends.
func (s *Store) Fit(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*within)
	defer cancel()
	reason, err := s.fit(ctx, id)
	if err != nil {
		return fmt.Errorf("find out whether the ledger has all its records: %w", err)
	}
	return s.show(ctx, reason)
}

func (s *Store) fit(ctx context.Context, id string) (string, error) {
	if e := s.life.current(); s.life.sound(s.nc.Stats().Reconnects) && e.Knows(id) {
		must := s.life.bounds()
		is, err := s.look(ctx)
		if err != nil {
			return "", err
		}
		if reason, _ := judge(is, e, must); reason == "" {
			s.life.count(is.has)
			return "", nil
		}
	}
	return s.compare(ctx, id)
}

// show logs a change, and makes an error of a reason.
func (s *Store) show(ctx context.Context, reason string) error {
	before, changed := s.life.show(reason)
	if reason == "" {
		if changed {
			s.o.Log.InfoContext(ctx, "the ledger fits; writes may begin", "bucket", s.bucket, "before", before)
		}
		return nil
	}
	err := &ledger.LostError{Reason: "bucket " + s.bucket + ": " + reason, Accept: acceptWith}
	if changed {
		s.o.Log.ErrorContext(ctx, "no write begins: the ledger does not fit", "bucket", s.bucket, "error", err)
	}
	return err
}

// judge gives what of the bucket does not fit, "" for nothing, and whether that must be kept: it may not show later.
func judge(is bucket, e epoch, must bounds) (reason string, keep bool) {
	switch {
	case !is.there:
		return "it is not there", false
	case is.made != e.Store:
		return fmt.Sprintf("it was made at %s, and the one that this deployment worked with at %s", is.made, e.Store), false
	case is.damage != "":
		return is.damage, false
	case is.loss.In == e.ID && is.loss.Reason != "":
		return is.loss.Reason, false
	case is.limit != "":
		return is.limit + "; recompose setup puts it back", false
	case is.has.seq < must.seq:
		return fmt.Sprintf("its highest sequence is %d and was %d: it was cut, or is an older copy",
			is.has.seq, must.seq), true
	case !is.ages && is.has.records < must.records:
		return fmt.Sprintf("it has %d records and had %d", is.has.records, must.records), true
	}
	return "", false
}

// compare compares the bucket with all that is known of it outside.
func (s *Store) compare(ctx context.Context, id string) (string, error) {
	s.life.comparing.Lock()
	defer s.life.comparing.Unlock()
	reconnects := s.nc.Stats().Reconnects
	out, err := s.outside(ctx)
	if err != nil {
		return "", err
	}
	if out.damage != "" {
		return out.damage, nil
	}
	known, must := s.life.current().ID, s.life.bounds() // before the look: puts go on beside it
	is, err := s.look(ctx)
	if err != nil {
		return "", err
	}
	if !is.there {
		return "it is not there", nil
	}
	e, adopt := out.epoch, out.epoch.ID == ""
	if adopt {
		e = named(cmp.Or(out.newest, s.life.current().ID, is.made))
	}
	suspect := s.life.begin(e, reconnects)
	if known != e.ID {
		must = bounds{}
	}
	must = bounds{max(must.seq, out.must.seq), max(must.records, out.must.records)}
	reason, keep := judge(is, e, must)
	found := loss{By: s.o.Worker, In: e.ID}
	switch {
	case reason != "":
	case suspect != "":
		reason, keep = suspect, true
	case !e.Knows(id):
		reason, keep = fmt.Sprintf("a message carries the epoch %.80q, and this bucket's is %q", id, e.ID), true
		found.Other = id
	default:
		key, err := s.without(ctx, out.jobs)
		if err != nil {
			return "", err
		}
		if key != "" {
			reason, keep = fmt.Sprintf("it has no record %s of a job that the service has accepted", key), true
		}
	}
	if keep {
		found.Reason = reason
		return s.keep(ctx, found, is, must)
	}
	if reason == "" {
		s.life.count(is.has)
		s.life.saw(must.seq)
		if adopt && !s.o.Verify {
			return "", s.remember(ctx, e)
		}
	}
	return reason, nil
}

// look asks for the bucket as it is.
func (s *Store) look(ctx context.Context) (bucket, error) {
	i, err := s.values.Info(ctx, ledger.NoRecords)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return bucket{}, nil
	}
	if err != nil {
		return bucket{}, err
	}
	// Both count keys as long as one version of each is kept; of a damaged file one of them may still be what it was. What
	// people set comes and goes: it could hide that a record is gone.
	keys := min(i.State.Msgs, i.State.NumSubjects)
	is := bucket{
		there: true, made: i.Created.UTC().Format(time.RFC3339Nano), ages: i.Config.MaxAge > 0, limit: natsstore.Retention(i.Config),
		has: bounds{i.State.LastSeq, keys - min(keys, uint64(len(i.State.Subjects)))},
	}
	data, rev, err := s.values.Get(ctx, lossKey)
	is.lossAt = rev
	switch deleted, ok := errors.AsType[*natsstore.DeletedError](err); {
	case errors.Is(err, store.ErrDamaged):
		is.damage = fmt.Sprintf("its key %s is damaged", lossKey)
		return is, nil
	case ok:
		is.lossAt = deleted.Mark
		return is, nil
	case errors.Is(err, store.ErrNotFound):
		return is, nil
	case err != nil:
		return is, err
	}
	if err := json.Unmarshal(data, &is.loss); err != nil {
		is.damage = fmt.Sprintf("its key %s is damaged: %v", lossKey, err)
	}
	return is, nil
}

// outside is what is known of the bucket outside of it.
type outside struct {
	epoch  epoch  // zero: the stream of events has none
	newest string // the epoch of the newest event that has one
	last   uint64 // number of the newest event
	must   bounds
	jobs   []string // keys of the records that the newest events of jobs require
	damage string   // of the epoch
}

// outside reads it from the stream of events; nothing is known where there is none.
func (s *Store) outside(ctx context.Context) (outside, error) {
	var out outside
	stream, err := s.js.Stream(ctx, s.events)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	info := stream.CachedInfo()
	out.last = info.State.LastSeq
	if kept := info.Config.Metadata[metadataKey]; kept != "" {
		if !out.epoch.read(kept) {
			damage := fmt.Sprintf("%s in the metadata of stream %s is damaged: %.200q", metadataKey, s.events, kept)
			return outside{last: out.last, damage: damage}, nil
		}
	}
	id := out.epoch.ID
	first := max(info.State.FirstSeq, out.epoch.Since+1)
	for seq := info.State.LastSeq; seq >= first && seq > 0 && info.State.LastSeq-seq < readBack; seq-- {
		m, err := natsstore.Read(ctx, s.nc, s.events, map[string]any{"seq": seq})
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return out, err
		}
		e, b := stampOf(m.Header)
		if out.newest == "" {
			out.newest = e
		}
		if id == "" {
			id = e
		}
		if e != "" && e == id {
			out.must = bounds{max(out.must.seq, b.seq), max(out.must.records, b.records)}
			out.jobs = append(out.jobs, recordOf(m.Data)...)
		}
	}
	for _, about := range []string{events.TypeJobAccepted, events.TypeJobCompleted} { // they may stand further back
		m, err := natsstore.Read(ctx, s.nc, s.events, map[string]any{"last_by_subj": s.subject(about)})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return out, err
		}
		if e, _ := stampOf(m.Header); e != "" && e == id && m.Seq >= first {
			out.jobs = append(out.jobs, recordOf(m.Data)...)
		}
	}
	return out, nil
}

// subject is that of an event type in the deployment.
func (s *Store) subject(about string) string {
	if s.o.Deployment == "" {
		return about
	}
	return s.o.Deployment + "." + about
}

// recordOf is the key of the record that the event of a job requires; none of other events.
func recordOf(event []byte) []string {
	var e struct {
		Type string `json:"type"`
		Data struct {
			Command events.CommandRef `json:"command"`
		} `json:"data"`
	}
	if json.Unmarshal(event, &e) != nil || e.Data.Command.ID == "" || e.Type != events.TypeJobAccepted && e.Type != events.TypeJobCompleted {
		return nil
	}
	return []string{events.Identity(e.Data.Command.Source, e.Data.Command.ID)}
}

// without gives the first of the records that is not there, or is older than the event about its job; "" if there is none.
func (s *Store) without(ctx context.Context, jobs []string) (string, error) {
	slices.Sort(jobs)
	for _, key := range slices.Compact(jobs) {
		data, _, err := s.values.Get(ctx, key)
		deleted, gone := errors.AsType[*natsstore.DeletedError](err)
		switch {
		case gone && uint64(deleted.Mark) <= s.life.current().Floor: // its loss was accepted
			continue
		case errors.Is(err, store.ErrNotFound):
			return key, nil
		case errors.Is(err, store.ErrDamaged): // that holds its command back by itself
			continue
		case err != nil:
			return "", err
		}
		if r, err := ledger.Decode(data); err == nil && r.JobID == "" && r.End == nil {
			return key, nil
		}
	}
	return "", nil
}

func stampOf(h nats.Header) (id string, b bounds) {
	b.seq, _ = strconv.ParseUint(h.Get(headerSequence), 10, 64) // zero where there is none
	b.records, _ = strconv.ParseUint(h.Get(headerRecords), 10, 64)
	return h.Get(headerEpoch), b
}

// remember puts the epoch in the metadata of the stream of events, if there is that stream.
func (s *Store) remember(ctx context.Context, e epoch) error {
	stream, err := s.js.Stream(ctx, s.events)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	c := stream.CachedInfo().Config
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[metadataKey] = string(data)
	if _, err := s.js.UpdateStream(ctx, c); err != nil {
		return fmt.Errorf("keep the ledger's epoch in the metadata of stream %s: %w", s.events, err)
	}
	return nil
}
