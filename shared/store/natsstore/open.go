package natsstore

import (
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
	Deployment string // stands before the bucket's name: at most 32 of a-z, 0-9 and -
	Replicas   int    // zero: three in a cluster, one otherwise, and a bucket that exists keeps its own
	Verify     bool   // the bucket must be there; nothing is made or changed
	Mend       bool   // put limits back that could have values removed

	// Direct reads from any replica, and looks at no bucket: for people, who may have the right to single keys alone. What
	// it reads can be a moment old.
	Direct bool
}

var deploymentForm = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

const (
	clusterReplicas = 3
	rounds          = 5 // how often making the bucket may be crossed by another worker
	// KeepAtLeast is the shortest limit of age that the bucket may have.
	KeepAtLeast = 400 * 24 * time.Hour
)

// Open opens the store, and makes its bucket if it is not there. It may be run by many workers at once. The error tells
// how a bucket that exists differs from what is safe, except for limits that could have values removed: see Retention.
// The connection stays the caller's.
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Store, error) {
	if !deploymentForm.MatchString(o.Deployment) {
		return nil, fmt.Errorf("the deployment %q must be at most 32 of a-z, 0-9 and -", o.Deployment)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(within))
	if err != nil {
		return nil, err
	}
	s := &Store{nc: nc, js: js, o: o, bucket: InDeployment(o.Deployment, "RECOMPOSE_LEDGER")}
	if o.Direct {
		return s, nil
	}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", s.bucket, err)
	}
	return s, nil
}

// InDeployment is the name that a bucket or stream has in a deployment.
func InDeployment(deployment, name string) string {
	if deployment == "" {
		return name
	}
	return deployment + "_" + name
}

func (s *Store) open(ctx context.Context) error {
	config := jetstream.KeyValueConfig{
		Bucket: s.bucket, Description: "recompose: what each write command has done", History: 1, Storage: jetstream.FileStorage,
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
			return errors.New("it is not there: run recompose setup")
		}
		if _, err = s.js.CreateKeyValue(ctx, config); !errors.Is(err, jetstream.ErrBucketExists) {
			return err
		}
	}
	return err
}

// check refuses a bucket that could lose values, and changes what may be changed. It never shortens how long they are
// kept.
func (s *Store) check(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, s.Stream())
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
	if limit := Retention(is); limit != "" && s.o.Mend {
		fault("%s", limit)
		to.MaxAge, to.Discard = 0, jetstream.DiscardNew
	} else if limit == "" && is.MaxAge > 0 && !s.o.Verify {
		fault("max_age (ttl) is %v, should be none: the freeze is in the bucket, too", is.MaxAge)
		to.MaxAge = 0
	}
	if !is.AllowDirect {
		fault("allow_direct is off, must be on: people read the freeze and the lists so")
		to.AllowDirect = true
	}
	if s.o.Replicas > 0 && is.Replicas != s.o.Replicas {
		fault("num_replicas is %d, should be %d", is.Replicas, s.o.Replicas)
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
		return fmt.Errorf("%s; changing it: %w", found, err)
	}
	if is.Storage != jetstream.FileStorage {
		return errors.New(found)
	}
	return nil
}

// Retention is the limit of a bucket that could have values removed which are needed; "" for none. Only Options.Mend
// changes it.
func Retention(c jetstream.StreamConfig) string {
	switch {
	case c.MaxAge > 0 && c.MaxAge < KeepAtLeast:
		return fmt.Sprintf("max_age (ttl) is %v, must be none, or at least %v (400 days)", c.MaxAge, KeepAtLeast)
	case c.Discard != jetstream.DiscardNew && (c.MaxBytes > 0 || c.MaxMsgs > 0):
		return fmt.Sprintf("discard is %v with a limit, must be new: values must never make way", c.Discard)
	}
	return ""
}
