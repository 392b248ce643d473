package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errNoVersion reports that the connection has no server version to read at the moment.
var errNoVersion = errors.New("the NATS server reports no version; is the connection up?")

// codeNoPeers is the server's error when too few servers of a cluster are available for a stream.
const codeNoPeers = 10005

// passing reports whether an error may pass without a change of the configuration: no answer, a lost connection, a
// cluster without a quorum or with too few of its servers.
func passing(err error) bool {
	for _, passing := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, jetstream.ErrNoStreamResponse, nats.ErrDisconnected,
		nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, nats.ErrStaleConnection, errNoVersion,
		jetstream.ErrAsyncPublishTimeout,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.Code == 503 || api.ErrorCode == codeNoPeers)
}

// Await calls do until it succeeds, fails with an error that does not pass, or ctx ends. It calls waiting, if not
// nil, with each passing error.
func Await(ctx context.Context, log *slog.Logger, do func() error, waiting func(error)) error {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 200*time.Millisecond, 10*time.Second
	logged := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		if err != nil && (ctx.Err() != nil || !passing(err)) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		if waiting != nil {
			waiting(err)
		}
		if !logged {
			logged = true
			log.WarnContext(ctx, "NATS is not available yet, waiting for it", "error", err)
		}
	}))
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("wait for NATS: %w", ctx.Err())
	}
	return err
}
