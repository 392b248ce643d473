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
	"golang.org/x/sync/errgroup"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
)

// A bucket that was deleted, truncated or replaced by an older copy looks like a bucket with fewer records. So its
// expected content is kept outside of it: the metadata of the event stream has the bucket's epoch, which begins with
// the time at which the bucket was created, and each event of a function has the bucket's highest sequence and its
// number of keys.

const (
	metadataKey = "recompose-ledger" // in the metadata of the event stream
	readBack    = 32                 // number of events that are read for the expected content
)

// epoch is an Epoch in the form of the metadata.
type epoch struct {
	ledger.Epoch
	// Since is the number of the last event before it; zero for the bucket's first epoch.
	Since uint64 `json:"since,omitempty"`
	// Floor is the bucket's highest sequence at that time: the loss of deleted values up to it is accepted.
	Floor uint64 `json:"floor,omitempty"`
	// Rollouts is when the bucket of rollouts was created; "" if the deployment has never had one. Without its records no
	// rollout seems to live, and a plain rebuild would begin on a desktop that a rollout holds.
	Rollouts string `json:"rollouts,omitempty"`
	// RolloutsFloor is that bucket's highest sequence when its loss was accepted.
	RolloutsFloor uint64 `json:"rollouts_floor,omitempty"`
}

// read decodes a stored epoch; it returns false if the text is damaged.
func (e *epoch) read(kept string) bool {
	return json.Unmarshal([]byte(kept), e) == nil && e.ID != ""
}

// named returns the epoch with this id, as far as an id shows it: the id begins with the time at which the bucket was
// created.
func named(id string) epoch {
	made, _, _ := strings.Cut(id, "/")
	return epoch{Epoch: ledger.Epoch{ID: id, Store: made}}
}

// bucket is the present state of the bucket.
type bucket struct {
	there    bool
	made     string // time of creation
	has      bounds
	ages     bool // records may expire, so their number proves nothing
	limit    string
	loss     loss
	lossAt   store.Revision
	damage   string // of the stored loss
	rollouts string // when the bucket of rollouts was created; "" if there is none
	removed  uint64 // the highest sequence of the bucket of rollouts if it has no record
}

// Fit checks whether a write may begin. It requests the state of the bucket each time. At first, after each reconnect
// and while the ledger is incomplete, it also reads the expected content. It blocks for at most 15 seconds or until
// ctx ends.
func (s *Store) Fit(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*within)
	defer cancel()
	reason, err := s.fit(ctx, id)
	if err != nil {
		return fmt.Errorf("check whether the ledger is complete: %w", err)
	}
	return s.show(ctx, reason)
}

func (s *Store) fit(ctx context.Context, id string) (string, error) {
	if e := s.life.current(); s.life.sound(s.nc.Stats().Reconnects) && e.Knows(id) {
		must := s.life.bounds()
		state, err := s.look(ctx)
		if err != nil {
			return "", err
		}
		if reason, _ := judge(state, e, must); reason == "" && state.rollouts == e.Rollouts {
			s.life.count(state.has)
			return "", nil
		}
	}
	return s.compare(ctx, id)
}

// show logs a change, and turns a reason into an error.
func (s *Store) show(ctx context.Context, reason string) error {
	before, changed := s.life.show(reason)
	if reason == "" {
		if changed {
			s.o.Log.InfoContext(ctx, "the ledger is complete; writes may begin", "bucket", s.bucket, "before", before)
		}
		return nil
	}
	err := &ledger.LostError{Reason: "bucket " + s.bucket + ": " + reason, Accept: acceptWith}
	if changed {
		s.o.Log.ErrorContext(ctx, "no write begins: the ledger is incomplete", "bucket", s.bucket, "error", err)
	}
	return err
}

// judge returns what is wrong with the bucket, "" for nothing, and whether that must be stored because it may not show
// later.
func judge(state bucket, e epoch, must bounds) (reason string, keep bool) {
	switch {
	case !state.there:
		return "it does not exist", false
	case state.made != e.Store:
		return fmt.Sprintf("it was created at %s, and the one that this deployment has used at %s", state.made, e.Store), false
	case state.damage != "":
		return state.damage, false
	case state.loss.In == e.ID && state.loss.Reason != "":
		return state.loss.Reason, false
	case state.limit != "":
		return state.limit + "; recompose setup repairs it", false
	case e.Rollouts != "" && state.rollouts == "":
		return "the bucket of rollouts does not exist", false
	case e.Rollouts != "" && state.rollouts != e.Rollouts:
		return fmt.Sprintf("the bucket of rollouts was created at %s, and the one that this deployment has used at %s",
			state.rollouts, e.Rollouts), false
	case state.removed > e.RolloutsFloor:
		return "the bucket of rollouts is empty, and had records", true
	case state.has.seq < must.seq:
		return fmt.Sprintf("its highest sequence is %d and was %d: it was cut, or is an older copy",
			state.has.seq, must.seq), true
	case !state.ages && state.has.records < must.records:
		return fmt.Sprintf("it has %d records and had %d", state.has.records, must.records), true
	}
	return "", false
}

// compare compares the bucket with all that is known about it outside of it.
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
	known, must := s.life.current().ID, s.life.bounds() // before look: puts continue in the meantime
	state, err := s.look(ctx)
	if err != nil {
		return "", err
	}
	if !state.there {
		return "it does not exist", nil
	}
	e, adopt := out.epoch, out.epoch.ID == ""
	if adopt {
		e = named(cmp.Or(out.newest, s.life.current().ID, state.made))
	}
	if e.Rollouts == "" && state.rollouts != "" {
		if s.o.Verify {
			return fmt.Sprintf("the bucket of rollouts is not recorded in the metadata of stream %s; recompose setup repairs it",
				s.events), nil
		}
		e.Rollouts, adopt = state.rollouts, true
	}
	suspect := s.life.begin(e, reconnects)
	if known != e.ID {
		must = bounds{}
	}
	must = bounds{max(must.seq, out.must.seq), max(must.records, out.must.records)}
	reason, keep := judge(state, e, must)
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
		return s.keep(ctx, found, state, must)
	}
	if reason == "" {
		s.life.count(state.has)
		s.life.saw(must.seq)
		if adopt && !s.o.Verify {
			return "", s.remember(ctx, e)
		}
	}
	return reason, nil
}

// look requests the present state of the bucket, in one round trip.
func (s *Store) look(ctx context.Context) (bucket, error) {
	var own, rollouts *jetstream.StreamInfo
	var lost store.Value
	var reads errgroup.Group
	reads.Go(func() (err error) {
		own, err = info(ctx, s.values, ledger.NoRecords)
		return err
	})
	reads.Go(func() (err error) {
		rollouts, err = info(ctx, s.rollouts, "none")
		return err
	})
	reads.Go(func() error {
		lost.Data, lost.Revision, lost.Err = s.values.Get(ctx, lossKey)
		return nil
	})
	if err := reads.Wait(); err != nil {
		return bucket{}, err
	}
	if own == nil {
		return bucket{}, nil
	}
	// Both numbers count keys, because one version of each is kept; if a file is damaged, one of the numbers may still
	// be the old one. The values of operators come and go: counting them could hide the loss of a record.
	keys := min(own.State.Msgs, own.State.NumSubjects)
	state := bucket{
		there: true, made: createdAt(own), ages: own.Config.MaxAge > 0, limit: natsstore.Retention(own.Config),
		has: bounds{own.State.LastSeq, keys - min(keys, uint64(len(own.State.Subjects)))},
	}
	if rollouts != nil {
		state.rollouts = createdAt(rollouts)
		if rollouts.State.Msgs == 0 {
			state.removed = rollouts.State.LastSeq
		}
	}
	state.lossAt = lost.Revision
	switch deleted, ok := errors.AsType[*natsstore.DeletedError](lost.Err); {
	case errors.Is(lost.Err, store.ErrDamaged):
		state.damage = fmt.Sprintf("its key %s is damaged", lossKey)
		return state, nil
	case ok:
		state.lossAt = deleted.Mark
		return state, nil
	case errors.Is(lost.Err, store.ErrNotFound):
		return state, nil
	case lost.Err != nil:
		return state, lost.Err
	}
	if err := json.Unmarshal(lost.Data, &state.loss); err != nil {
		state.damage = fmt.Sprintf("its key %s is damaged: %v", lossKey, err)
	}
	return state, nil
}

// info requests the state of a bucket's stream, with the keys that match; nil if there is no bucket.
func info(ctx context.Context, b *natsstore.Store, keys string) (*jetstream.StreamInfo, error) {
	i, err := b.Info(ctx, keys)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("bucket %s: %w", b.Bucket(), err)
	}
	return i, nil
}

// createdAt identifies a bucket: one that is created anew has another time.
func createdAt(i *jetstream.StreamInfo) string { return i.Created.UTC().Format(time.RFC3339Nano) }

// outside is what is known about the bucket outside of it.
type outside struct {
	epoch  epoch  // zero: the event stream has none
	newest string // the epoch of the newest event that has one
	last   uint64 // number of the newest event
	must   bounds
	jobs   []string // keys of the records that the newest events of jobs require
	damage string   // of the epoch
}

// outside reads the event stream; without a stream nothing is known.
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
		out.newest = cmp.Or(out.newest, e)
		id = cmp.Or(id, e)
		if e != "" && e == id {
			out.must = bounds{max(out.must.seq, b.seq), max(out.must.records, b.records)}
			out.jobs = append(out.jobs, recordOf(m.Data)...)
		}
	}
	for _, about := range []string{events.TypeJobAccepted, events.TypeJobCompleted} { // they may be older than the newest events
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

// subject returns the subject of an event type in the deployment.
func (s *Store) subject(about string) string {
	if s.o.Deployment == "" {
		return about
	}
	return s.o.Deployment + "." + about
}

// recordOf returns the key of the record that the event of a job requires; "" for other events.
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

// without returns the first record that is missing, or is older than the event about its job; "" if there is none.
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
		case errors.Is(err, store.ErrDamaged): // a damaged record stops its own command
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
	b.seq, _ = strconv.ParseUint(h.Get(headerSequence), 10, 64) // zero if there is none
	b.records, _ = strconv.ParseUint(h.Get(headerRecords), 10, 64)
	return h.Get(headerEpoch), b
}

// remember stores the epoch in the metadata of the event stream, if that stream exists.
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
		return fmt.Errorf("store the ledger's epoch in the metadata of stream %s: %w", s.events, err)
	}
	return nil
}
