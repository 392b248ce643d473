package natsstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options of a Store. The zero value works.
type Options struct {
	Deployment string // prefix of the bucket's name: at most 32 of a-z, 0-9 and -
	Bucket     string // Ledger or Rollouts; default: Ledger
	Replicas   int    // zero: three in a cluster, one otherwise; an existing bucket keeps its number
	Verify     bool   // the bucket must exist; nothing is created or changed
	Mend       bool   // remove limits that could delete values

	// Direct reads from any replica and does not check the bucket: for operators, who may have the rights to single keys
	// only. A direct read can return a value that is a moment old.
	Direct bool
}

// Names of the buckets, without the deployment.
const (
	Ledger   = "RECOMPOSE_LEDGER"
	Rollouts = "RECOMPOSE_ROLLOUTS"
)

var descriptions = map[string]string{
	Ledger: "recompose: what each write command has done", Rollouts: "recompose: plans and states of rollouts",
}

var deploymentForm = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

const (
	clusterReplicas = 3
	rounds          = 5 // attempts to create the bucket while other workers do the same
	// KeepAtLeast is the shortest limit of age that the bucket may have.
	KeepAtLeast = 400 * 24 * time.Hour
)

// Open opens the store, and creates its bucket if there is none. Many workers may call it at once. The error names how
// an existing bucket differs from a safe one, except for limits of the ledger that could delete values: see Retention.
// The caller keeps ownership of the connection.
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Store, error) {
	if !deploymentForm.MatchString(o.Deployment) {
		return nil, fmt.Errorf("the deployment %q must be at most 32 of a-z, 0-9 and -", o.Deployment)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(within))
	if err != nil {
		return nil, err
	}
	o.Bucket = cmp.Or(o.Bucket, Ledger)
	s := &Store{nc: nc, js: js, o: o, bucket: InDeployment(o.Deployment, o.Bucket)}
	if o.Direct {
		return s, nil
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", s.bucket, err)
	}
	return s, nil
}

// InDeployment returns the name of a bucket or stream in a deployment.
func InDeployment(deployment, name string) string {
	if deployment == "" {
		return name
	}
	return deployment + "_" + name
}

func (s *Store) open(ctx context.Context) error {
	config := jetstream.KeyValueConfig{
		Bucket: s.bucket, Description: descriptions[s.o.Bucket], History: 1, Storage: jetstream.FileStorage,
		Replicas: max(s.o.Replicas, 1),
	}
	if s.o.Replicas == 0 && s.nc.ConnectedClusterName() != "" {
		config.Replicas = clusterReplicas
	}
	var err error
	for range rounds {
		_, err = s.js.KeyValue(ctx, s.bucket)
		if err == nil {
			return s.check(ctx)
		}
		if !errors.Is(err, jetstream.ErrBucketNotFound) {
			return err
		}
		if s.o.Verify {
			return errors.New("it does not exist: run recompose setup")
		}
		if _, err = s.js.CreateKeyValue(ctx, config); !errors.Is(err, jetstream.ErrBucketExists) {
			return err
		}
	}
	return err
}

// check refuses a bucket that could lose values, and repairs the settings that it may change. It never shortens how
// long values are kept.
func (s *Store) check(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, s.Stream())
	if err != nil {
		return err
	}
	config := stream.CachedInfo().Config
	to := config
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if config.Storage != jetstream.FileStorage {
		fault("storage is %v, must be File", config.Storage)
	}
	if limit := Retention(config); limit != "" && (s.o.Mend || s.o.Bucket != Ledger) {
		fault("%s", limit)
		to.MaxAge, to.Discard = 0, jetstream.DiscardNew
	} else if limit == "" && config.MaxAge > 0 && !s.o.Verify {
		fault("max_age (ttl) is %v, must be none: the freeze is in the bucket as well", config.MaxAge)
		to.MaxAge = 0
	}
	if !config.AllowDirect {
		fault("allow_direct is off, must be on: operators read the freeze and the lists with it")
		to.AllowDirect = true
	}
	if s.o.Replicas > 0 && config.Replicas != s.o.Replicas {
		fault("num_replicas is %d, must be %d", config.Replicas, s.o.Replicas)
		to.Replicas = s.o.Replicas
	}
	if len(faults) == 0 {
		return nil
	}
	found := strings.Join(faults, "; ")
	if s.o.Verify {
		return errors.New(found)
	}
	if _, err := s.js.UpdateStream(ctx, to); err != nil {
		return fmt.Errorf("%s; change the bucket: %w", found, err)
	}
	if config.Storage != jetstream.FileStorage {
		return errors.New(found)
	}
	return nil
}

// Retention describes a limit of a bucket that could delete values that are still needed; "" if there is none. From the
// ledger, only Options.Mend removes it.
func Retention(c jetstream.StreamConfig) string {
	switch {
	case c.MaxAge > 0 && c.MaxAge < KeepAtLeast:
		return fmt.Sprintf("max_age (ttl) is %v, must be none, or at least %v (400 days)", c.MaxAge, KeepAtLeast)
	case c.Discard != jetstream.DiscardNew && (c.MaxBytes > 0 || c.MaxMsgs > 0):
		return fmt.Sprintf("discard is %v with a limit, must be new: a full bucket must not delete values", c.Discard)
	}
	return ""
}
