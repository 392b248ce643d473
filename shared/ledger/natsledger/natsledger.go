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
}

// Store is a ledger.Store. Its methods may be used at the same time.
type Store struct {
	nc     *nats.Conn
	bucket string
	kv     jetstream.KeyValue
}

var _ ledger.Store = (*Store)(nil)

var deploymentForm = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

const (
	within          = 5 * time.Second // for one answer, where the context has no earlier end
	clusterReplicas = 3
	rounds          = 5 // how often making the bucket may be crossed by another worker
)

// New opens the ledger, and makes its bucket if it is not there. It may be run by many workers at once. The error tells
// how a bucket that exists differs from what is safe. The connection stays the caller's.
func New(ctx context.Context, nc *nats.Conn, o Options) (*Store, error) {
	bucket, err := bucketOf(o.Deployment)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(within))
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	kv, err := open(ctx, nc, js, bucket, o)
	if err != nil {
		return nil, fmt.Errorf("open the ledger, bucket %s: %w", bucket, err)
	}
	return &Store{nc: nc, bucket: bucket, kv: kv}, nil
}

// bucketOf is the name of a deployment's bucket.
func bucketOf(deployment string) (string, error) {
	switch {
	case !deploymentForm.MatchString(deployment):
		return "", fmt.Errorf("the deployment %q must be at most 32 of a-z, 0-9 and -", deployment)
	case deployment == "":
		return "RECOMPOSE_LEDGER", nil
	default:
		return deployment + "_RECOMPOSE_LEDGER", nil
	}
}

func open(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, bucket string, o Options) (jetstream.KeyValue, error) {
	config := jetstream.KeyValueConfig{
		Bucket: bucket, Description: "recompose: what each write command has done", History: 1, Storage: jetstream.FileStorage,
		Replicas: max(o.Replicas, 1),
	}
	if o.Replicas == 0 && nc.ConnectedClusterName() != "" {
		config.Replicas = clusterReplicas
	}
	var err error
	for range rounds {
		var kv jetstream.KeyValue
		kv, err = js.KeyValue(ctx, bucket)
		if err == nil {
			return kv, check(ctx, js, bucket, o)
		}
		if !errors.Is(err, jetstream.ErrBucketNotFound) {
			return nil, err
		}
		if o.Verify {
			return nil, errors.New("it is not there: run recompose setup")
		}
		if kv, err = js.CreateKeyValue(ctx, config); err == nil {
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
func check(ctx context.Context, js jetstream.JetStream, bucket string, o Options) error {
	s, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return err
	}
	is := s.CachedInfo().Config
	to := is
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if is.Storage != jetstream.FileStorage {
		fault("storage is %v, must be File", is.Storage)
	}
	if is.MaxAge != 0 {
		fault("ttl is %v, must be none: records are kept for at least 400 days, and a freeze until it is thawed", is.MaxAge)
		to.MaxAge = 0
	}
	if is.Discard != jetstream.DiscardNew && (is.MaxBytes > 0 || is.MaxMsgs > 0) {
		fault("discard is %v with a limit, must be new: records must never make way", is.Discard)
		to.Discard = jetstream.DiscardNew
	}
	if o.Replicas > 0 && is.Replicas != o.Replicas {
		fault("num_replicas is %d, should be %d", is.Replicas, o.Replicas)
		to.Replicas = o.Replicas
	}
	if len(faults) == 0 {
		return nil
	}
	told := strings.Join(faults, "; ")
	if o.Verify {
		return errors.New(told)
	}
	if _, err := js.UpdateStream(ctx, to); err != nil {
		return fmt.Errorf("%s; changing it: %w", told, err)
	}
	if is.Storage != jetstream.FileStorage {
		return errors.New(told)
	}
	return nil
}

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
	if err == nil {
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

// last is what the leader has under a key.
func (s *Store) last(ctx context.Context, key string) ([]byte, ledger.Revision, error) {
	ask, err := json.Marshal(map[string]string{"last_by_subj": "$KV." + s.bucket + "." + key})
	if err != nil {
		return nil, 0, err
	}
	m, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+s.bucket, ask)
	if err != nil {
		return nil, 0, err
	}
	var a answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return nil, 0, fmt.Errorf("read the server's answer: %w", err)
	}
	if a.Error != nil {
		if a.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, 0, ledger.ErrNotFound
		}
		return nil, 0, a.Error
	}
	if len(a.Message.Hdrs) > 0 {
		h, err := nats.DecodeHeadersMsg(a.Message.Hdrs)
		if err != nil {
			return nil, 0, fmt.Errorf("read the server's answer: %w", err)
		}
		if h.Get(jetstream.StreamHeader) != "" { // stored as the answer to a direct read, which may be of a deleted key
			return nil, ledger.Revision(a.Message.Seq), errForeign
		}
		if h.Get("KV-Operation") != "" || h.Get("Nats-Marker-Reason") != "" { // deleted or purged
			return nil, 0, ledger.ErrNotFound
		}
	}
	return a.Message.Data, ledger.Revision(a.Message.Seq), nil
}

// Put stores a record in the place of the one with this revision; zero: of none, where a record that somebody deleted
// counts as none. It blocks until the server has stored it, at most five seconds or until ctx ends.
//
// The error is ledger.ErrConflict by errors.Is if there is another record by now. After any other error the record may
// have been stored.
func (s *Store) Put(ctx context.Context, key string, r ledger.Record, old ledger.Revision) (ledger.Revision, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	rev, err := s.put(ctx, key, data, old)
	if err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	return rev, nil
}

func (s *Store) put(ctx context.Context, key string, data []byte, old ledger.Revision) (ledger.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var rev uint64
	var err error
	if old == 0 {
		rev, err = s.kv.Create(ctx, key, data)
	} else {
		rev, err = s.kv.Update(ctx, key, data, uint64(old))
	}
	if errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) || wrongRevision(err) {
		return 0, ledger.ErrConflict
	}
	return ledger.Revision(rev), err
}

// wrongRevision knows a refused compare-and-set by its code: it has another one on replicated buckets.
func wrongRevision(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
