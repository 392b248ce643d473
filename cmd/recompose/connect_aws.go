package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/awsstack"
	"recompose/shared/chain/reasons"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
	"recompose/shared/store/dynamostore"
	"recompose/shared/telemetry/logging"
)

// dialAWS finds the deployment on AWS: a stack, a topic or a queue.
func dialAWS(cmd *cobra.Command, name string) (*connection, error) {
	log, err := logging.New(cmd.ErrOrStderr(), "warn", logging.Text) // shows when AWS does not answer
	if err != nil {
		return nil, err
	}
	t, err := awsstack.Find(cmd.Context(), name)
	if err != nil {
		return nil, fmt.Errorf("--aws: %w", err)
	}
	conn := &connection{
		close: func() {},
		resume: func(e events.Envelope, _ bool) resumeFunc { // events are not stored on AWS
			return func(bool) string { return repeatHint(cmd, e) }
		},
		service: func(ctx context.Context) recordedService { return stackService(ctx, t) },
		ledger:  func(context.Context) (ledger.Store, error) { return ledgerOf(t) },
		operators: func(context.Context) (*safety.Operators, error) {
			s, err := tableOf(t)
			return &safety.Operators{Store: s, Older: true}, err
		},
		rollouts: func(context.Context) (store.Store, error) { return tableOf(t) },
	}
	sender := awsqueue.NewSender(t.Config, t.TopicARN, t.QueueURL)
	publish := sender.Send
	if t.Approval != "" {
		approvals := awsqueue.NewSender(t.Config, t.Approval, "")
		publish = func(ctx context.Context, e events.Envelope) error {
			if e.Type == events.TypeRolloutApprove {
				return approvals.Send(ctx, e)
			}
			return sender.Send(ctx, e)
		}
	}
	var last events.Envelope
	conn.send = func(ctx context.Context, e events.Envelope) (receipt, error) {
		last = e
		err := publish(ctx, e)
		if errors.Is(err, awsqueue.ErrNotSent) {
			err = fmt.Errorf("%w: %w", errNotSent, err)
		}
		return receipt{shown: sentToAWS{e.ID, e.Correlation, e.Digest(), t.TopicARN, t.QueueURL}}, err
	}
	conn.follow = func(ctx context.Context, _ time.Time) (*follower, error) {
		if t.TopicARN == "" {
			return nil, wrongUse(errors.New("--wait: events go to the topic, and a queue does not name its topic; give --aws " +
				"the name of the stack or the ARN of the topic"))
		}
		f, err := awsqueue.Follow(ctx, t.Config, t.TopicARN, log)
		if err != nil {
			return nil, err
		}
		return &follower{
			read: func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
				resend := func(ctx context.Context) {
					log.WarnContext(ctx, "the command has not been received from the topic yet, so its events could be missed; "+
						"resending it, which does it once")
					if err := publish(ctx, last); err != nil && ctx.Err() == nil {
						log.WarnContext(ctx, "the command could not be resent", "error", err)
					}
				}
				return followSent(ctx, f.Read, last, echoWithin, resend, each)
			},
			close: func() { closeAWS(cmd, f.Close) },
		}, nil
	}
	if t.Stack == "" {
		return conn, nil
	}
	conn.where = stackText(t)
	if values, err := tableOf(t); err == nil {
		conn.why = &reasons.AWS{Values: values, Table: t.Table}
	}
	letters, err := awsqueue.NewLetters(t.Config, functions.Routes(), t.Queues)
	if err != nil {
		return nil, fmt.Errorf("--aws: stack %s: %w", t.Stack, err)
	}
	conn.letters, conn.close = letters, func() { closeAWS(cmd, letters.Close) }
	return conn, nil
}

// tableOf opens the table of a stack.
func tableOf(t *awsstack.Target) (*dynamostore.Store, error) {
	if t.Table == "" {
		return nil, errNoTable
	}
	return dynamostore.New(tableOptions(t))
}

// ledgerOf opens the ledger in the table of a stack.
func ledgerOf(t *awsstack.Target) (*dynamoledger.Store, error) {
	if t.Table == "" {
		return nil, errNoTable
	}
	return dynamoledger.New(dynamoledger.Options{Options: tableOptions(t)})
}

var errNoTable = wrongUse(errors.New("--aws: give the name of the stack: a topic or a queue does not name the table"))

func tableOptions(t *awsstack.Target) dynamostore.Options {
	return dynamostore.Options{Config: t.Config, Table: t.Table}
}

func stackText(t *awsstack.Target) string { return "stack " + t.Stack + " in " + t.Config.Region }

// sentToAWS is what send --aws --json prints without --wait.
type sentToAWS struct {
	ID          string `json:"id"`
	Correlation string `json:"correlationid"`
	Digest      string `json:"digest"`
	Topic       string `json:"topic,omitempty"`
	Queue       string `json:"queue,omitempty"`
}

// closeWithin bounds the removal of queues, also after Ctrl-C.
const closeWithin = 10 * time.Second

func closeAWS(cmd *cobra.Command, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), closeWithin)
	defer cancel()
	if err := do(ctx); err != nil {
		printLine(cmd.ErrOrStderr(), "not removed on AWS: %s", escape(err.Error()))
	}
}

// stackService reads the service that the functions of a stack recorded.
func stackService(ctx context.Context, t *awsstack.Target) recordedService {
	if t.Table == "" {
		return recordedService{unknown: "only the functions' table names their service, and --aws names no stack"}
	}
	s, err := tableOf(t)
	if err != nil {
		return recordedService{unknown: err.Error()}
	}
	return serviceOf(service.Read(ctx, s))
}

// echoWithin bounds the time from sending a command to a topic until the follower of the topic receives it.
const echoWithin = 15 * time.Second

// followSent follows a topic that a command was sent to. The topic delivers the command too: once it is received, no
// event of it can be missed. Until then it is resent, which does it once and republishes its events.
func followSent(ctx context.Context, read reader, sent events.Envelope,
	within time.Duration, resend func(context.Context), each func(events.Envelope) (bool, error),
) error {
	ctx, cancel := context.WithCancel(ctx)
	digest := sent.Digest()
	received := make(chan struct{})
	var seen sync.Once
	var repeats sync.WaitGroup
	defer repeats.Wait()
	defer cancel()
	repeats.Go(func() {
		tick := time.NewTicker(within)
		defer tick.Stop()
		for {
			select {
			case <-received:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				resend(ctx) // if that fails, the next tick repeats it
			}
		}
	})
	return read(ctx, func(e events.Envelope) (bool, error) {
		if events.IsCommand(e.Type) {
			if e.Identity() == sent.Identity() && e.Digest() == digest {
				seen.Do(func() { close(received) })
			}
			return true, nil
		}
		if e.Answered().ID == sent.ID { // the topic for approvals delivers no command here
			seen.Do(func() { close(received) })
		}
		return each(e)
	})
}
