// Package lambdaboot starts the Lambda programs of all functions: it makes a handler of batches from the environment.
// Everything is made once, at the cold start, and used by every invocation.
package lambdaboot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"

	"recompose/shared/config"
	"recompose/shared/credentials"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store/dynamostore"
	"recompose/shared/telemetry/logging"
	"recompose/shared/workspace"
)

// Constructor makes a function.
type Constructor func(*workspace.Client, *once.Engine) queue.Function

// Main runs a function on Lambda until Lambda ends the sandbox. If the cold start fails, Main logs every fault and ends
// the process with code 1: Lambda starts another sandbox with the next messages, and no message is lost.
func Main(function Constructor) {
	run(func(ctx context.Context, log *slog.Logger, m *meter) (*awsqueue.Handler, error) {
		return boot(ctx, log, m, function)
	})
}

// run runs the handler that boot makes.
func run(boot func(context.Context, *slog.Logger, *meter) (*awsqueue.Handler, error)) {
	log := newLog(os.Stdout)
	m := &meter{out: os.Stdout, now: time.Now}
	h, err := (*awsqueue.Handler)(nil), config.ApplyProxy()
	for _, r := range config.Retired() {
		log.Warn(r.Variable + " " + r.Problem)
	}
	if err == nil {
		h, err = boot(context.Background(), log, m)
	}
	if err != nil {
		log.Error("the cold start failed", "error", err)
		os.Exit(1)
	}
	log.Info("cold start", logging.KeyFunction, m.function, "version", build())
	var first sync.Once // no message is being handled before; preparing for signals takes a twentieth of a cold start
	lambda.StartHandlerFunc(func(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
		first.Do(func() { drainAtTheEnd(h, log) })
		defer m.invoked(ctx)
		return h.Handle(ctx, batch)
	})
}

// drainAtTheEnd finishes the messages being handled when Lambda signals that the sandbox ends, which it does only if an
// extension is registered. All other messages are redelivered.
func drainAtTheEnd(h *awsqueue.Handler, log *slog.Logger) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		h.Drain()
		log.Info("the sandbox ends")
		time.AfterFunc(answerFor, func() { os.Exit(0) })
	}()
}

// answerFor is how long the response to the last invocation may take to reach Lambda.
const answerFor = 200 * time.Millisecond

// boot makes the handler of a function from the environment.
func boot(ctx context.Context, log *slog.Logger, m *meter, function Constructor) (*awsqueue.Handler, error) {
	account, err := environment()
	if err != nil {
		return nil, err
	}
	keys, err := newSecret(account)
	if err != nil {
		return nil, err
	}
	c, err := keys.load(ctx)
	if err != nil {
		return nil, err
	}
	current, err := credentials.Of(c, nil)
	if err != nil {
		return nil, err
	}
	auth := &rotating{current: current, version: keys.version}
	api, err := workspace.New(workspace.Options{
		Endpoint: c.Endpoint(), ProjectID: c.ProjectID, Auth: auth, Concurrency: c.Concurrency, SignatureWindow: c.SignatureWindow,
		ReadsPerMinute: part(c.ReadsPerMinute, c.ReadsShare, c), WritesPerMinute: part(c.WritesPerMinute, c.WritesShare, c),
		OnReach: func(why error) {
			if why != nil {
				log.Warn("the Workspace service cannot be reached: no answer; check its address, DNS, TLS and HTTPS_PROXY", "error", why)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	owner := newOwner()
	store, err := dynamoledger.New(dynamoledger.Options{Options: dynamostore.Options{Config: account, Table: c.Table}, Worker: owner, Log: log})
	if err != nil {
		return nil, err
	}
	own, err := service.Configured(ctx, c)
	if err != nil {
		return nil, err
	}
	claim := service.Claim{Store: store.Values(), Service: own, By: owner, Now: time.Now}
	key := safety.NewKey(safety.KeyOptions{
		Store: store.Values(), Credentials: &sandboxCredentials{keys, auth}, Probe: api.Probe, By: owner, Log: log, Now: time.Now,
	})
	safe := safety.New(safety.Options{
		Operators: &safety.Operators{Store: store.Values(), Older: true}, Key: key, Service: own,
		Files: &safety.Files{AllowDesktopsFile: c.AllowDesktopsFile, DenyDesktopsFile: c.DenyDesktopsFile, Log: log},
	})
	f := function(api, once.New(c, api, once.Options{
		Store: store, Owner: owner, Log: log, Safety: safe, Rollouts: store.Values(), OnRecovery: m.recovered,
	}))
	m.function, m.topic = f.Name, topicName(c)
	if f.Writes { // the role of the others does not allow these reads, and they need none
		claim.Ledger, m.frozen, m.unfit = store, safe.Frozen, store.Unfit
		if err := store.Fit(ctx, ""); err != nil && !errors.Is(err, ledger.ErrLost) { // Fit has logged a loss
			log.Error("no write begins until it is known whether the ledger has all its records", "error", err)
		}
	}
	return awsqueue.New(f, options(account, c, log, m, store, meteredKey{sameService{claim: claim, Key: key}, m}))
}

// newOwner is a name for this sandbox.
func newOwner() string {
	return fmt.Sprintf("%s/%s/%s", lambdacontext.FunctionName, lambdacontext.LogStreamName, rand.Text()[:8])
}

func options(account aws.Config, c *config.Config, log *slog.Logger, m *meter, store *dynamoledger.Store, key queue.Key) awsqueue.Options {
	queues, topic := awsqueue.Clients(account)
	return awsqueue.Options{
		QueueURL: c.QueueURL, DeadLetterQueueURL: c.DeadLetterQueueURL, TopicARN: c.TopicARN, SQS: queues, SNS: topic, Log: log,
		Concurrency: c.Concurrency, Stamp: store.Stamp, Observe: m.handled, Key: key,
	}
}

func topicName(c *config.Config) string { return c.TopicARN[strings.LastIndexByte(c.TopicARN, ':')+1:] }

// part returns the part of a stack's rate limit for one sandbox: its function has a share in percent, which its
// sandboxes divide evenly.
func part(perMinute, percent float64, c *config.Config) float64 {
	return perMinute * percent / 100 / float64(c.Sandboxes)
}

// errUnchanged reports that the secret has the same credentials as before.
var errUnchanged = errors.New("the secret has no other credentials")
