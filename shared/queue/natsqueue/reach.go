package natsqueue

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// reachWithin is how long a server may take to answer whether a connection can be used.
const reachWithin = 5 * time.Second

// NoJetStreamError reports that a server has no JetStream, and reaches no other server that has it.
type NoJetStreamError struct{ URL string }

func (e *NoJetStreamError) Error() string {
	return fmt.Sprintf("JetStream is not enabled on %s: start nats-server with -js, or set jetstream in its configuration", e.URL)
}

// Unwrap is the answer of the server. It passes when the server is started with JetStream.
func (e *NoJetStreamError) Unwrap() error { return nats.ErrNoResponders }

// checkJetStream refuses a server without JetStream, unless another one answers for it: in a cluster, or behind a leaf node.
func checkJetStream(nc *nats.Conn, n names) error {
	if enabled, _ := nc.ConnectedServerJetStream(); enabled || !nc.IsConnected() {
		return nil
	}
	_, err := nc.Request("$JS.API.STREAM.INFO."+n.commands(), nil, reachWithin)
	if errors.Is(err, nats.ErrNoResponders) {
		return &NoJetStreamError{nc.ConnectedUrlRedacted()}
	}
	return nil // what else is wrong is reported where JetStream is used
}

// checkInbox returns a *DeniedError where the user of a connection may not subscribe where answers come in: each request
// would wait for its answer in vain.
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

// inboxDenied is a *DeniedError where the server last refused a subscription to an inbox; else nil.
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
