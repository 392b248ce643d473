// Package lambdaboot is what the Lambda programs of all functions have in common: from the environment to a handler of
// batches. Everything is made once, at the cold start, and used by every invocation.
package lambdaboot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
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
	"recompose/shared/permit"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/service"
	"recompose/shared/workspace"
)

// Parts are what a function is made from.
type Parts struct {
	Config *config.Config
	API    *workspace.Client
	Engine *once.Engine // of writes
	Pace   float64      // divides the waits between looks at a job
	Log    *slog.Logger
}

// Main runs a function on Lambda until Lambda ends the sandbox. A cold start that fails is told in the log, with every
// fault, and ends the process with code 1: Lambda tries it again with the next messages, and none is lost.
func Main(function func(Parts) queue.Function) {
	log := newLog(os.Stdout)
	h, err := (*awsqueue.Handler)(nil), config.ApplyProxy()
	if err == nil {
		h, err = boot(context.Background(), log, function)
	}
	if err != nil {
		log.Error("the cold start failed", "error", err)
		os.Exit(1)
	}
	var first sync.Once // until then nothing is in hand; being ready for signals takes a twentieth of a cold start
	lambda.StartHandlerFunc(func(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
		first.Do(func() { drainAtTheEnd(h, log) })
		return h.Handle(ctx, batch)
	})
}

// drainAtTheEnd has what is in hand done when Lambda says that the sandbox ends, which it does only where an extension
// is registered; what is not in hand comes again.
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

// answerFor is how long the answer to the last invocation may take to reach Lambda.
const answerFor = 200 * time.Millisecond

// boot makes the handler of a function from the environment.
func boot(ctx context.Context, log *slog.Logger, function func(Parts) queue.Function) (*awsqueue.Handler, error) {
	environment, err := awsqueue.Environment()
	if err != nil {
		return nil, err
	}
	secrets := secretsManager{config: environment, endpoint: aws.ToString(awsqueue.Endpoint("SECRETS_MANAGER"))}
	keys := &secret{arn: os.Getenv("RECOMPOSE_SECRET_ARN"), settings: settings, value: secrets.value}
	c, err := keys.load(ctx)
	if err != nil {
		return nil, err
	}
	current, err := credentials.Of(c, nil)
	if err != nil {
		return nil, err
	}
	auth := &rotating{current: current, version: keys.version}
	sandboxes := float64(c.Sandboxes) // each takes its share
	api, err := workspace.New(workspace.Config{
		Endpoint: c.Endpoint(), ProjectID: c.ProjectID, Auth: auth, Concurrency: c.Concurrency, SignatureWindow: c.SignatureWindow,
		ReadsPerMinute: c.ReadsPerMinute / sandboxes, WritesPerMinute: c.WritesPerMinute / sandboxes,
		OnReach: func(why error) {
			if why != nil {
				log.Warn("the Workspace service cannot be reached: no answer; check its address, DNS, TLS and HTTPS_PROXY", "error", why)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	owner := fmt.Sprintf("%s/%s/%s", lambdacontext.FunctionName, lambdacontext.LogStreamName, rand.Text()[:8])
	store, err := dynamoledger.New(ctx, dynamoledger.Options{Table: c.Table, Worker: owner, Log: log})
	if err != nil {
		return nil, err
	}
	own, err := service.Of(ctx, c.Endpoint(), c.ProjectID)
	if err != nil {
		return nil, err
	}
	claim := service.Claim{Store: store, Service: own, By: owner, Now: time.Now}
	f := function(parts(c, api, store, claim, log))
	if f.Writes { // others have no right to ask, and need not know
		claim.Ledger = store
		if err := store.Fit(ctx, ""); err != nil && !errors.Is(err, ledger.ErrLost) { // that is in the log
			log.Error("no write begins until it is known whether the ledger has all its records", "error", err)
		}
	}
	queues, topic := awsqueue.Clients(environment)
	o := awsqueue.Options{
		QueueURL: c.QueueURL, DeadLetterQueueURL: c.DeadLetterQueueURL, TopicARN: c.TopicARN, SQS: queues, SNS: topic, Log: log,
		Stamp: store.Stamp,
		Brake: sameService{claim: claim, Brake: &brake{
			store: store, keys: keys, auth: auth, probe: api.Probe, by: owner, log: log, now: time.Now, reads: time.Now().Add(readEvery),
		}},
	}
	if !c.IsDefault("RECOMPOSE_CONCURRENCY") {
		o.Concurrency = c.Concurrency
	}
	return awsqueue.New(f, o)
}

func parts(c *config.Config, api *workspace.Client, store *dynamoledger.Store, claim service.Claim, log *slog.Logger) Parts {
	return Parts{
		Config: c, API: api, Pace: c.Pace, Log: log,
		Engine: once.New(once.Options{
			Store: store, Owner: claim.By, Now: time.Now, ServiceNow: api.ServiceNow, Log: log, Window: c.SignatureWindow,
			Resend:    c.MayResend(),
			Undated:   !api.SignaturesExpire(),
			ProjectID: api.ProjectID(), MaxAge: c.CommandMaxAge, MaxDelayTime: c.MaxDelayTime, ConflictDeadline: c.ConflictWait,
			Pace: c.Pace, Switch: service.Guard{Switch: gate{store}, Claim: claim},
			Lists: permit.All{&permit.Files{Allow: c.AllowFile, Deny: c.DenyFile, Log: log}, store},
		}),
	}
}

// errUnchanged says that the secret has the same credentials as before.
var errUnchanged = errors.New("the secret has no other credentials")
