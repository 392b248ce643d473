// Package natsstore keeps values in a NATS key-value bucket.
//
// The bucket is RECOMPOSE_LEDGER or RECOMPOSE_ROLLOUTS, with the prefix "<deployment>_" if there is a deployment. It
// keeps one version of each value, in files and without a limit of age: a ledger record must be kept for at least 400
// days, and a freeze until it is thawed. Rollouts have a bucket of their own, because the ledger's keys are counted to
// detect a loss of records.
//
// # Freshness
//
// The client's own Get reads from any replica, which may return an older copy. [Store.Get] reads from the leader of
// the bucket's stream instead, whatever the bucket's settings. For a moment, a leader that has been replaced and has
// not learned it yet can still return an older value. A put that replaces that value fails, because a quorum refuses
// it.
//
// # Foreign bytes
//
// A client of a NATS server can choose any subject for the answer to a request, and so have that answer stored as a
// value. Each put has a header with a digest of the key and the value. A message with a wrong digest, or one that was
// stored as the answer to a read, is damaged. Values of earlier versions have no such header: of those, a JSON object
// is valid unless it is an answer of the server.
package natsstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/store"
)

const (
	within      = 5 * time.Second // for one answer, unless the context ends earlier
	frameHeader = "Recompose-Value"
)

// ErrNoBucket reports that no stream answers for the bucket. A put that returns it stored nothing.
var ErrNoBucket = errors.New("the bucket does not answer: it does not exist, has allow_direct off, none of its servers is up, or the account has no JetStream; run recompose setup")

// Store is a store.Store.
type Store struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	o      Options
	bucket string
}

var _ store.Store = (*Store)(nil)

// Bucket returns the name of the bucket.
func (s *Store) Bucket() string { return s.bucket }

// Stream returns the name of the bucket's stream.
func (s *Store) Stream() string { return "KV_" + s.bucket }

// Subject is the subject on which a value is put; a client that may publish there can change the value.
func (s *Store) Subject(key string) string { return "$KV." + s.bucket + "." + key }

// DirectSubject is the subject on which a value is requested with Options.Direct.
func (s *Store) DirectSubject(key string) string {
	return "$JS.API.DIRECT.GET." + s.Stream() + "." + s.Subject(key)
}

// DeletedError reports that a value was deleted. It is store.ErrNotFound by errors.Is.
type DeletedError struct {
	Mark store.Revision // of the delete marker
}

func (e *DeletedError) Error() string { return "it was deleted" }

// Is makes the error a store.ErrNotFound.
func (e *DeletedError) Is(target error) bool { return target == store.ErrNotFound }

// Get reads a value from the leader, or with Options.Direct from any replica. It blocks for at most five seconds or
// until ctx ends. The error is a *DeletedError by errors.As if the value was deleted.
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	m, err := s.message(ctx, key)
	if err == nil {
		err = check(key, m)
	}
	switch {
	case errors.Is(err, store.ErrDamaged):
		return nil, store.Revision(m.Seq), fmt.Errorf("read %s: %w", key, err)
	case err != nil:
		return nil, 0, fmt.Errorf("read %s: %w", key, err)
	}
	return m.Data, store.Revision(m.Seq), nil
}

// GetAll is Get of several keys, in parallel.
func (s *Store) GetAll(ctx context.Context, keys ...string) []store.Value {
	return store.GetEach(ctx, s.Get, keys)
}

func (s *Store) message(ctx context.Context, key string) (Message, error) {
	if s.o.Direct {
		return s.direct(ctx, key)
	}
	return Read(ctx, s.nc, s.Stream(), map[string]any{"last_by_subj": s.Subject(key)})
}

// check returns why a message is not a value of this key: the value was deleted, or the message is something else.
func check(key string, m Message) error {
	if m.Header.Get(jetstream.StreamHeader) != "" { // stored as the answer to a direct read, perhaps of a deleted key
		return fmt.Errorf("%w: an answer of the server", store.ErrDamaged)
	}
	if m.Header.Get("KV-Operation") != "" || m.Header.Get("Nats-Marker-Reason") != "" { // deleted or purged
		return &DeletedError{store.Revision(m.Seq)}
	}
	switch frame := m.Header.Get(frameHeader); {
	case frame == "" && !unframed(m.Data):
		return fmt.Errorf("%w: only a worker must have the right to publish there", store.ErrDamaged)
	case frame != "" && frame != frameOf(key, m.Data):
		return fmt.Errorf("%w: its digest is wrong", store.ErrDamaged)
	}
	return nil
}

// frameOf returns the digest of a value under its key.
func frameOf(key string, value []byte) string {
	h := sha256.New()
	_, _ = h.Write(append([]byte(key), 0)) // never fails
	_, _ = h.Write(value)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// unframed reports whether bytes without a digest can be a value of an earlier version: a JSON object that is not an
// answer of the server.
func unframed(data []byte) bool {
	var answer struct {
		Type   *string `json:"type"`
		Stream *string `json:"stream"`
		Server any     `json:"server"`
	}
	if len(data) == 0 || data[0] != '{' || json.Unmarshal(data, &answer) != nil {
		return false
	}
	return answer.Stream == nil && answer.Server == nil && (answer.Type == nil || !strings.HasPrefix(*answer.Type, "io.nats."))
}

// Put stores a value that replaces the one with this revision; zero: there must be none. It blocks until the server
// has stored it, for at most five seconds or until ctx ends.
func (s *Store) Put(ctx context.Context, key string, value []byte, old store.Revision) (store.Revision, error) {
	rev, err := s.Update(ctx, key, value, old)
	if old == 0 && errors.Is(err, store.ErrConflict) {
		if deleted, ok := s.deleted(ctx, key); ok {
			rev, err = s.Update(ctx, key, value, deleted.Mark)
		}
	}
	return rev, err
}

// Update is Put, but it replaces a deleted value only by the revision of its delete marker.
func (s *Store) Update(ctx context.Context, key string, value []byte, old store.Revision) (store.Revision, error) {
	m := nats.NewMsg(s.Subject(key))
	m.Header.Set(frameHeader, frameOf(key, value))
	m.Data = value
	rev, err := s.publish(ctx, m, old)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return rev, nil
}

// Delete removes the value with this revision. It blocks like Put.
func (s *Store) Delete(ctx context.Context, key string, old store.Revision) error {
	if old == 0 {
		return nil
	}
	m := nats.NewMsg(s.Subject(key))
	m.Header.Set("KV-Operation", "DEL")
	_, err := s.publish(ctx, m, old)
	if errors.Is(err, store.ErrConflict) {
		_, _, get := s.Get(ctx, key)
		if errors.Is(get, store.ErrNotFound) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func (s *Store) publish(ctx context.Context, m *nats.Msg, old store.Revision) (store.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(uint64(old)))
	switch {
	case wrongRevision(err):
		return 0, store.ErrConflict
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return 0, fmt.Errorf("%w: %w", ErrNoBucket, err)
	case err != nil:
		return 0, err
	}
	return store.Revision(ack.Sequence), nil
}

func (s *Store) deleted(ctx context.Context, key string) (deleted *DeletedError, ok bool) {
	_, _, err := s.Get(ctx, key)
	return errors.AsType[*DeletedError](err)
}

// wrongRevision recognizes a refused compare-and-set. Replicated buckets use another error code.
func wrongRevision(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Message is a message as the leader of a stream stores it.
type Message struct {
	Seq    uint64
	Header nats.Header
	Data   []byte
}

// Read reads one message from the leader of a stream. The error is store.ErrNotFound by errors.Is if there is none. It
// blocks until there is an answer or ctx ends.
func Read(ctx context.Context, nc *nats.Conn, stream string, which map[string]any) (Message, error) {
	request, err := json.Marshal(which)
	if err != nil {
		return Message{}, err
	}
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return Message{}, err
	}
	var a struct {
		Message struct {
			Seq  uint64 `json:"seq"`
			Hdrs []byte `json:"hdrs"`
			Data []byte `json:"data"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return Message{}, fmt.Errorf("read the server's answer: %w", err)
	}
	if a.Error != nil {
		if a.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return Message{}, store.ErrNotFound
		}
		return Message{}, a.Error
	}
	found := Message{Seq: a.Message.Seq, Data: a.Message.Data}
	if len(a.Message.Hdrs) > 0 {
		if found.Header, err = nats.DecodeHeadersMsg(a.Message.Hdrs); err != nil {
			return Message{}, fmt.Errorf("read the server's answer: %w", err)
		}
	}
	return found, nil
}

// refused reports whether the server refused this client the right to publish on a subject.
func (s *Store) refused(subject string) bool {
	last := s.nc.LastError()
	return errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), subject)
}

// direct requests the value of a key from any replica. It needs only the right to publish on DirectSubject of this
// key.
func (s *Store) direct(ctx context.Context, key string) (Message, error) {
	m, err := s.nc.RequestWithContext(ctx, s.DirectSubject(key), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return Message{}, ErrNoBucket
	case errors.Is(err, context.DeadlineExceeded) && s.refused(s.DirectSubject(key)):
		return Message{}, fmt.Errorf("no answer within %v; the read needs the right to publish on %s: %w", within, s.DirectSubject(key), err)
	case errors.Is(err, context.DeadlineExceeded):
		return Message{}, fmt.Errorf("no answer within %v: %w", within, err)
	case err != nil:
		return Message{}, err
	case m.Header.Get("Status") == "404":
		return Message{}, store.ErrNotFound
	case m.Header.Get("Status") != "":
		return Message{}, fmt.Errorf("the server answers %s %s", m.Header.Get("Status"), m.Header.Get("Description"))
	}
	numbers := m.Header.Values(jetstream.SequenceHeader) // the server appends its own after a stored one
	if len(numbers) == 0 {
		return Message{}, errors.New("the server's answer has no sequence")
	}
	seq, err := strconv.ParseUint(numbers[len(numbers)-1], 10, 64)
	if err != nil {
		return Message{}, fmt.Errorf("read the server's answer: %w", err)
	}
	if len(m.Header.Values(jetstream.StreamHeader)) == 1 { // the answer's own; if there are two, one was stored
		m.Header.Del(jetstream.StreamHeader)
	}
	return Message{Seq: seq, Header: m.Header, Data: m.Data}, nil
}

// Info requests the state of the bucket's stream from the leader, with the subjects of the keys that match; * stands
// for one part between dots, and > for all following parts. The error is jetstream.ErrStreamNotFound by errors.Is if
// there is no bucket.
func (s *Store) Info(ctx context.Context, keys string) (*jetstream.StreamInfo, error) {
	request, err := json.Marshal(map[string]string{"subjects_filter": s.Subject(keys)})
	if err != nil {
		return nil, err
	}
	m, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO."+s.Stream(), request)
	if err != nil {
		return nil, err
	}
	var a struct {
		jetstream.StreamInfo
		Error *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &a); {
	case err != nil:
		return nil, fmt.Errorf("read the server's answer: %w", err)
	case a.Error != nil && a.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return nil, jetstream.ErrStreamNotFound
	case a.Error != nil:
		return nil, a.Error
	}
	return &a.StreamInfo, nil
}
