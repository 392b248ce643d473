package main

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	wmjs "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/jetstream"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
)

// Variants of Watermill: its package for NATS, with a push consumer, and its newer one, with a pull consumer.
const (
	variantPush = "push"
	variantPull = "pull"
)

// Streams and subjects of Watermill. Its newer package takes a topic for stream and subject.
const (
	peerCommands = "PEER_COMMANDS"
	peerEvents   = "PEER_EVENTS"
)

// runWatermill does the job with Watermill until it is interrupted.
func runWatermill(ctx context.Context, args []string) error {
	p, err := newPeer(args)
	if err != nil {
		return err
	}
	silent := watermill.NopLogger{}
	router, err := message.NewRouter(message.RouterConfig{}, silent)
	if err != nil {
		return err
	}
	var subscriber message.Subscriber
	var publisher message.Publisher
	handlers := 1
	switch p.variant {
	case variantPush:
		subscriber, err = wmnats.NewSubscriber(wmnats.SubscriberConfig{
			URL: p.nats, SubscribersCount: p.concurrency, QueueGroupPrefix: "peer",
			JetStream: wmnats.JetStreamConfig{DurablePrefix: "peer", AckAsync: true},
		}, silent)
		if err != nil {
			return err
		}
		publisher, err = wmnats.NewPublisher(wmnats.PublisherConfig{URL: p.nats}, silent)
	case variantPull:
		handlers = p.concurrency // each takes one message at a time
		subscriber, err = wmjs.NewSubscriber(wmjs.SubscriberConfig{
			URL: p.nats, Logger: silent, AckAsync: true, ConsumeOptions: []jetstream.PullConsumeOpt{jetstream.PullMaxMessages(4)},
			ResourceInitializer: wmjs.GroupedConsumer("peer"),
		})
		if err != nil {
			return err
		}
		publisher, err = wmjs.NewPublisher(wmjs.PublisherConfig{URL: p.nats, Logger: silent})
	default:
		err = fmt.Errorf("variant %q: must be %s or %s", p.variant, variantPush, variantPull)
	}
	if err != nil {
		return err
	}
	for i := range handlers {
		router.AddHandler(fmt.Sprint("job", i), peerCommands, subscriber, peerEvents, publisher, func(m *message.Message) ([]*message.Message, error) {
			c, err := decode(m.Payload)
			if err != nil {
				return nil, err
			}
			answer, err := p.call(m.Context(), c)
			if err != nil {
				return nil, err
			}
			body, id, err := p.event(c, answer)
			if err != nil {
				return nil, err
			}
			event := message.NewMessage(id, body)
			event.Metadata.Set("Content-Type", events.ContentType)
			event.Metadata.Set("Nats-Msg-Id", id)
			return []*message.Message{event}, nil
		})
	}
	return router.Run(ctx)
}
