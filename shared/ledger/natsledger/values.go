package natsledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"recompose/shared/ledger"
)

// Value reads a small value that is no ledger record from the leader, as Get does. The error is ledger.ErrNotFound by
// errors.Is if there is none, and ledger.ErrDamaged if it was not put there; then the revision is that of what stands
// there.
func (s *Store) Value(ctx context.Context, key string) ([]byte, ledger.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	data, rev, err := s.last(ctx, key)
	if err != nil {
		err = fmt.Errorf("read %s: %w", key, err)
	}
	return data, rev, err
}

// PutValue stores a small value, as Put stores a record.
func (s *Store) PutValue(ctx context.Context, key string, value []byte, old ledger.Revision) (ledger.Revision, error) {
	rev, err := s.put(ctx, key, value, old, true)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return rev, nil
}

// PeekSubject is the subject that Peek publishes on.
func PeekSubject(deployment, key string) (string, error) {
	bucket, err := bucketOf(deployment)
	return "$JS.API.DIRECT.GET.KV_" + bucket + ".$KV." + bucket + "." + key, err
}

// Peek reads a value of a deployment for whoever may read this key alone: it needs no right but to publish on
// PeekSubject. Any replica may answer, so it can be a moment old. The error is ledger.ErrNotFound by errors.Is if there
// is no such value, or no ledger. It blocks until there is an answer, at most five seconds or until ctx ends.
func Peek(ctx context.Context, nc *nats.Conn, deployment, key string) ([]byte, error) {
	subject, err := PeekSubject(deployment, key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, ledger.ErrNotFound
	case errors.Is(err, context.DeadlineExceeded) && refused(nc, subject):
		return nil, fmt.Errorf("read %s: no answer within %v; it needs the right to publish on %s: %w",
			key, within, subject, err)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("read %s: no answer within %v: %w", key, within, err)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", key, err)
	case m.Header.Get("Status") == "404", m.Header.Get("KV-Operation") != "", m.Header.Get("Nats-Marker-Reason") != "":
		return nil, ledger.ErrNotFound
	case m.Header.Get("Status") != "":
		return nil, fmt.Errorf("read %s: the server answers %s %s",
			key, m.Header.Get("Status"), m.Header.Get("Description"))
	}
	return m.Data, nil
}

// refused reports whether the server refused this client to publish on a subject.
func refused(nc *nats.Conn, subject string) bool {
	last := nc.LastError()
	return errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), subject)
}
