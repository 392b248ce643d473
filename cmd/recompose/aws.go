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
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store/dynamostore"
	"recompose/shared/telemetry/logging"
)

// dialAWS finds what is deployed on AWS under a name.
func dialAWS(cmd *cobra.Command, name string) (*connection, error) {
	log, err := logging.New(cmd.ErrOrStderr(), "warn", logging.Text) // so that people see when AWS does not answer
	if err != nil {
		return nil, err
	}
	t, err := awsstack.Find(cmd.Context(), name)
	if err != nil {
		return nil, fmt.Errorf("--aws: %w", err)
	}
	line := &connection{
		close: func() {},
		resume: func(e events.Envelope, _ bool) resumeFunc { // nothing keeps the events
			return func(bool) string { return repeatHint(cmd, e) }
		},
		behind: func(ctx context.Context) behind { return behindStack(ctx, t) },
		ledger: func(context.Context) (ledger.Store, error) { return ledgerOf(t) },
		operators: func(context.Context) (*safety.Operators, error) {
			s, err := tableOf(t)
			return &safety.Operators{Store: s, Older: true}, err
		},
	}
	sender := awsqueue.NewSender(t.Config, t.TopicARN, t.QueueURL)
	var last events.Envelope
	line.send = func(ctx context.Context, e events.Envelope) (receipt, error) {
		last = e
		err := sender.Send(ctx, e)
		if errors.Is(err, awsqueue.ErrNotSent) {
			err = fmt.Errorf("%w: %w", errNotSent, err)
		}
		return receipt{shown: sentOnAWS{e.ID, e.Correlation, e.Digest(), t.TopicARN, t.QueueURL}}, err
	}
	line.follow = func(ctx context.Context, _ time.Time) (*follower, error) {
		if t.TopicARN == "" {
			return nil, wrongUse(errors.New("--wait: what is said goes to the topic, which is not known by a queue; give --aws the name of the stack, or the topic's ARN"))
		}
		f, err := awsqueue.Follow(ctx, t.Config, t.TopicARN, log)
		if err != nil {
			return nil, err
		}
		return &follower{
			read: func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
				again := func(ctx context.Context) {
					log.WarnContext(ctx, "the command has not come back on the topic yet, so what follows from it could be missed; it is sent again, and done once")
					if err := sender.Send(ctx, last); err != nil && ctx.Err() == nil {
						log.WarnContext(ctx, "it could not be sent again", "error", err)
					}
				}
				return echoing(ctx, f.Read, last, echoWithin, again, each)
			},
			close: func() { closeAWS(cmd, f.Close) },
		}, nil
	}
	if t.Stack == "" {
		return line, nil
	}
	line.where = stackText(t)
	if values, err := tableOf(t); err == nil {
		line.why = (&awsWhy{values, t.Table}).why
	}
	letters, err := awsqueue.NewLetters(t.Config, functions.Routes(), t.Queues)
	if err != nil {
		return nil, fmt.Errorf("--aws: stack %s: %w", t.Stack, err)
	}
	line.letters, line.close = letters, func() { closeAWS(cmd, letters.Close) }
	return line, nil
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

var errNoTable = wrongUse(errors.New("--aws: this needs the name of the stack, for the table is not known by a topic or a queue"))

func tableOptions(t *awsstack.Target) dynamostore.Options {
	return dynamostore.Options{Config: t.Config, Table: t.Table}
}

func stackText(t *awsstack.Target) string { return "stack " + t.Stack + " in " + t.Config.Region }

// sentOnAWS is what --json prints of a command that was sent and is not waited for.
type sentOnAWS struct {
	ID          string `json:"id"`
	Correlation string `json:"correlationid"`
	Digest      string `json:"digest"`
	Topic       string `json:"topic,omitempty"`
	Queue       string `json:"queue,omitempty"`
}

// closeWithin is how long tidying up may take, also after Ctrl-C.
const closeWithin = 10 * time.Second

func closeAWS(cmd *cobra.Command, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), closeWithin)
	defer cancel()
	if err := do(ctx); err != nil {
		say(cmd.ErrOrStderr(), "left behind on AWS: %s", foreign(err.Error()))
	}
}

// behindStack is the service that the functions of a stack recorded.
func behindStack(ctx context.Context, t *awsstack.Target) behind {
	if t.Table == "" {
		return behind{unknown: "only the functions' table has which service they work on, and --aws names no stack"}
	}
	s, err := tableOf(t)
	if err != nil {
		return behind{unknown: err.Error()}
	}
	return recorded(service.Read(ctx, s))
}

// echoWithin is how long a command that was sent to a topic may take to come back to who follows the topic.
const echoWithin = 15 * time.Second

// echoing follows a topic that a command was sent to. The topic carries the command too: seen there, it proves that
// nothing that follows from it is missed. While it is not seen it is sent again, which does it once and has all said again.
func echoing(ctx context.Context, read reader, sent events.Envelope,
	within time.Duration, again func(context.Context), each func(events.Envelope) (bool, error),
) error {
	ctx, cancel := context.WithCancel(ctx)
	digest := sent.Digest()
	echoed := make(chan struct{})
	var seen sync.Once
	var repeats sync.WaitGroup
	defer repeats.Wait()
	defer cancel()
	repeats.Go(func() {
		tick := time.NewTicker(within)
		defer tick.Stop()
		for {
			select {
			case <-echoed:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				again(ctx) // whether or not that is stored: the next tick does it once more
			}
		}
	})
	return read(ctx, func(e events.Envelope) (bool, error) {
		if events.IsCommand(e.Type) {
			if e.Identity() == sent.Identity() && e.Digest() == digest {
				seen.Do(func() { close(echoed) })
			}
			return true, nil
		}
		return each(e)
	})
}
