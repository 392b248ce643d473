// Package natsledger keeps ledger records in a NATS key-value bucket.
//
// The bucket is RECOMPOSE_LEDGER, with "<deployment>_" before it where there is a deployment. It keeps one version of
// each record, in files and without a limit of age: a record must be kept for 400 days at least, and the freeze, which
// is in the same bucket, until it is thawed. A limit of age on a bucket that exists is removed, or refused with Verify.
//
// # Freshness
//
// The client's own Get asks any replica, which may answer with an older copy. Get here asks the leader of the bucket's
// stream instead, whatever the bucket's settings. A leader that has lost its place and does not know it yet can still
// answer with what was true a moment ago. That is safe for this use: records only move forward, so what an old copy
// says was done is done, and to act on what it says was not done takes a Put, which a quorum refuses.
package natsledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/ledger"
)

// Options of a Store. The zero value works.
type Options struct {
	Deployment string // stands before the bucket's name: at most 32 of a-z, 0-9 and -
	Replicas   int    // zero: three in a cluster, one otherwise, and a bucket that exists keeps its own
	Verify     bool   // the bucket must be there; nothing is made or changed
	Mend       bool   // put limits back that could have records removed

	Worker string       // names this worker where it finds that records are lost
	Log    *slog.Logger // default: silent
}

// Store is a ledger.Store. Its methods may be used at the same time.
type Store struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	o      Options
	bucket string
	events string // the stream that keeps the epoch
	life   life
}

var _ ledger.Store = (*Store)(nil)

var deploymentForm = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

const (
	within          = 5 * time.Second // for one answer, where the context has no earlier end
	clusterReplicas = 3
	rounds          = 5 // how often making the bucket may be crossed by another worker
)

// New opens the ledger, and makes its bucket if it is not there. It may be run by many workers at once. The error tells
// how a bucket that exists differs from what is safe, except for limits that could have records removed: those are what
// Fit reports, and only Options.Mend changes them. The connection stays the caller's.
func New(ctx context.Context, nc *nats.Conn, o Options) (*Store, error) {
	bucket, err := bucketOf(o.Deployment)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(within))
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{nc: nc, js: js, o: o, bucket: bucket, events: inDeployment(o.Deployment, "RECOMPOSE_EVENTS")}
	if s.kv, err = s.open(ctx); err != nil {
		return nil, fmt.Errorf("open the ledger, bucket %s: %w", s.bucket, err)
	}
	return s, nil
}

// bucketOf is the name of a deployment's bucket.
func bucketOf(deployment string) (string, error) {
	if !deploymentForm.MatchString(deployment) {
		return "", fmt.Errorf("the deployment %q must be at most 32 of a-z, 0-9 and -", deployment)
	}
	return inDeployment(deployment, "RECOMPOSE_LEDGER"), nil
}

// inDeployment is the name that a bucket or stream has in a deployment.
func inDeployment(deployment, name string) string {
	if deployment == "" {
		return name
	}
	return deployment + "_" + name
}

func (s *Store) open(ctx context.Context) (jetstream.KeyValue, error) {
	config := jetstream.KeyValueConfig{
		Bucket: s.bucket, Description: "recompose: what each write command has done", History: 1, Storage: jetstream.FileStorage,
		Replicas: max(s.o.Replicas, 1),
	}
	if s.o.Replicas == 0 && s.nc.ConnectedClusterName() != "" {
		config.Replicas = clusterReplicas
	}
	var err error
	for range rounds {
		var kv jetstream.KeyValue
		kv, err = s.js.KeyValue(ctx, s.bucket)
		if err == nil {
			return kv, s.check(ctx)
		}
		if !errors.Is(err, jetstream.ErrBucketNotFound) {
			return nil, err
		}
		if s.o.Verify {
			return nil, errors.New("it is not there: run recompose setup")
		}
		if kv, err = s.js.CreateKeyValue(ctx, config); err == nil {
			return kv, nil
		}
		if !errors.Is(err, jetstream.ErrBucketExists) {
			return nil, err
		}
	}
	return nil, err
}

// check refuses a bucket that could lose records, and changes what may be changed. It never shortens how long they are
// kept.
func (s *Store) check(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, s.stream())
	if err != nil {
		return err
	}
	is := stream.CachedInfo().Config
	to := is
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if is.Storage != jetstream.FileStorage {
		fault("storage is %v, must be File", is.Storage)
	}
	if limit := retention(is); limit != "" && s.o.Mend {
		fault("%s", limit)
		to.MaxAge, to.Discard = 0, jetstream.DiscardNew
	} else if limit == "" && is.MaxAge > 0 && !s.o.Verify {
		fault("max_age (ttl) is %v, should be none: the freeze is in the bucket, too", is.MaxAge)
		to.MaxAge = 0
	}
	if s.o.Replicas > 0 && is.Replicas != s.o.Replicas {
		fault("num_replicas is %d, should be %d", is.Replicas, s.o.Replicas)
		to.Replicas = s.o.Replicas
	}
	if len(faults) == 0 {
		return nil
	}
	told := strings.Join(faults, "; ")
	if s.o.Verify {
		return errors.New(told)
	}
	if _, err := s.js.UpdateStream(ctx, to); err != nil {
		return fmt.Errorf("%s; changing it: %w", told, err)
	}
	if is.Storage != jetstream.FileStorage {
		return errors.New(told)
	}
	return nil
}

// stream is the name of the bucket's stream.
func (s *Store) stream() string { return "KV_" + s.bucket }

// Get reads a record from the leader. It blocks until there is an answer, at most five seconds or until ctx ends.
func (s *Store) Get(ctx context.Context, key string) (ledger.Record, ledger.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r, rev, err := s.get(ctx, key)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		err = fmt.Errorf("read ledger record %s: %w", key, err)
	}
	return r, rev, err
}

// answer is what the leader says to a request for the last message of a subject.
type answer struct {
	Message struct {
		Seq  uint64 `json:"seq"`
		Hdrs []byte `json:"hdrs"`
		Data []byte `json:"data"`
	} `json:"message"`
	Error *jetstream.APIError `json:"error"`
}

func (s *Store) get(ctx context.Context, key string) (ledger.Record, ledger.Revision, error) {
	var r ledger.Record
	data, rev, err := s.last(ctx, key)
	var gone *deletedError
	if errors.As(err, &gone) {
		err = s.deleted(ctx, key, gone.seq)
	}
	if err == nil {
		s.life.saw(uint64(rev))
		if err = decode(data, &r); err != nil {
			err = fmt.Errorf("it is damaged: %w", err)
		}
	}
	if err != nil {
		return ledger.Record{}, 0, err
	}
	return r, rev, nil
}

var errForeign = fmt.Errorf("%w: nobody but the worker may have the right to publish there", ledger.ErrDamaged)

// decode reads a record, and nothing else. Whoever may ask a NATS server anything can name any subject for the answer, and
// so have it stored in the place of a record; read as an empty one it would free its command for a second call.
func decode(data []byte, r *ledger.Record) error {
	var marks struct { // every record is written with these
		Digest *string `json:"digest"`
		Fence  *uint64 `json:"fence"`
	}
	if err := json.Unmarshal(data, &marks); err != nil {
		return err
	}
	if marks.Digest == nil || marks.Fence == nil {
		return errForeign
	}
	return json.Unmarshal(data, r)
}

// deletedError: somebody has deleted what a key had. It is ledger.ErrNotFound by errors.Is.
type deletedError struct{ seq uint64 }

func (e *deletedError) Error() string        { return "it was deleted" }
func (e *deletedError) Is(target error) bool { return target == ledger.ErrNotFound }

// last is what the leader has under a key.
func (s *Store) last(ctx context.Context, key string) ([]byte, ledger.Revision, error) {
	m, err := s.message(ctx, s.stream(), map[string]any{"last_by_subj": "$KV." + s.bucket + "." + key})
	if err != nil {
		return nil, 0, err
	}
	if m.header.Get(jetstream.StreamHeader) != "" { // stored as the answer to a direct read, which may be of a deleted key
		return nil, ledger.Revision(m.seq), errForeign
	}
	if m.header.Get("KV-Operation") != "" || m.header.Get("Nats-Marker-Reason") != "" { // deleted or purged
		return nil, 0, &deletedError{m.seq}
	}
	return m.data, ledger.Revision(m.seq), nil
}

// stored is a message as the leader of a stream gives it.
type stored struct {
	seq    uint64
	header nats.Header
	data   []byte
}

// message asks the leader of a stream for one message. The error is ledger.ErrNotFound by errors.Is if there is none.
func (s *Store) message(ctx context.Context, stream string, which map[string]any) (stored, error) {
	ask, err := json.Marshal(which)
	if err != nil {
		return stored{}, err
	}
	m, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, ask)
	if err != nil {
		return stored{}, err
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return stored{}, fmt.Errorf("read the server's answer: %w", err)
	}
	if a.Error != nil {
		if a.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return stored{}, ledger.ErrNotFound
		}
		return stored{}, a.Error
	}
	found := stored{seq: a.Message.Seq, data: a.Message.Data}
	if len(a.Message.Hdrs) > 0 {
		if found.header, err = nats.DecodeHeadersMsg(a.Message.Hdrs); err != nil {
			return stored{}, fmt.Errorf("read the server's answer: %w", err)
		}
	}
	return found, nil
}

// Put stores a record in the place of the one with this revision; zero: of none. It blocks until the server has stored
// it, at most five seconds or until ctx ends.
//
// The error is ledger.ErrConflict by errors.Is if there is another record by now. After any other error the record may
// have been stored. A put by which it shows that the bucket is not the one that it was succeeds, and Fit reports it.
func (s *Store) Put(ctx context.Context, key string, r ledger.Record, old ledger.Revision) (ledger.Revision, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	rev, err := s.put(ctx, key, data, old, false)
	if err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	return rev, nil
}

// put stores what belongs under a key. That its old value was deleted is a loss, unless it is deletable.
func (s *Store) put(ctx context.Context, key string, data []byte, old ledger.Revision, deletable bool) (ledger.Revision, error) {
	if s.life.current().ID == "" { // a put before the first comparison could hide a loss
		if err := s.Fit(ctx, ""); err != nil && !errors.Is(err, ledger.ErrLost) {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	floor, isNew := s.life.highest(), old == 0
	rev, err := s.kv.Update(ctx, key, data, uint64(old))
	if isNew && wrongRevision(err) {
		var gone *deletedError
		_, _, get := s.last(ctx, key)
		if errors.As(get, &gone) && (deletable || gone.seq <= s.life.current().Floor) {
			isNew = false // the key is there, with a mark that its value was deleted
			rev, err = s.kv.Update(ctx, key, data, gone.seq)
		}
	}
	switch {
	case err == nil:
		s.life.stored(rev, floor, isNew)
		return ledger.Revision(rev), nil
	case wrongRevision(err):
		return 0, ledger.ErrConflict
	default:
		return 0, err
	}
}

// wrongRevision knows a refused compare-and-set. Its code is another one on replicated buckets.
func wrongRevision(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
