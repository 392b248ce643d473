package natsqueue

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// reachWithin is how long a server may take to respond to the check of a new connection.
const reachWithin = 5 * time.Second

// NoJetStreamError reports that a server has no JetStream, and that no other server with JetStream is reachable
// through it.
type NoJetStreamError struct{ URL string }

func (e *NoJetStreamError) Error() string {
	return fmt.Sprintf("JetStream is not enabled on %s: start nats-server with -js, or set jetstream in its configuration", e.URL)
}

// Unwrap returns the server's error, which passes when the server is started with JetStream.
func (e *NoJetStreamError) Unwrap() error { return nats.ErrNoResponders }

// checkJetStream returns an error for a server without JetStream, unless another server provides it: in a cluster, or
// behind a leaf node.
func checkJetStream(nc *nats.Conn, n names) error {
	if enabled, _ := nc.ConnectedServerJetStream(); enabled || !nc.IsConnected() {
		return nil
	}
	_, err := nc.Request("$JS.API.STREAM.INFO."+n.commands(), nil, reachWithin)
	if errors.Is(err, nats.ErrNoResponders) {
		return &NoJetStreamError{nc.ConnectedUrlRedacted()}
	}
	return nil // other errors are reported by the calls that use JetStream
}

// checkInbox returns a *DeniedError if the user of a connection may not subscribe to its inbox: no request would get
// its answer.
func checkInbox(nc *nats.Conn) error {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return fmt.Errorf("subscribe to an inbox: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.FlushTimeout(reachWithin); err != nil {
		return fmt.Errorf("subscribe to an inbox: %w", err)
	}
	return inboxDenied(nc)
}

// inboxDenied returns a *DeniedError if the last error of the connection is a refused subscription to an inbox; else
// nil.
func inboxDenied(nc *nats.Conn) error {
	last := nc.LastError()
	if !errors.Is(last, nats.ErrPermissionViolation) {
		return nil
	}
	m := deniedForm.FindStringSubmatch(last.Error())
	if m == nil || !strings.EqualFold(m[1], "subscription") || !strings.HasPrefix(m[2], "_INBOX") {
		return nil
	}
	return &DeniedError{"subscribe to " + m[2] +
		", where answers come in: set NATS_INBOX_PREFIX to the inbox that its permissions name"}
}
