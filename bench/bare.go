package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
)

// Variants of the bare loop: with a record of each end, as the product keeps one, and with the two records of a write.
const (
	variantRecord = "record"
	variantWrite  = "write"
)

// bucket is where the variants keep their records.
const bucket = "PEER_RECORDS"

// runBare does the job with nats.go alone until it is interrupted: goroutines that share an iterator, each of which
// calls, publishes, waits until that is stored, and acknowledges.
func runBare(ctx context.Context, args []string) error {
	p, err := newPeer(args)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(p.nats)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	b := &bare{peer: p, js: js}
	if p.variant != "" {
		if b.records, err = js.KeyValue(ctx, bucket); err != nil {
			return err
		}
	}
	c, err := js.Consumer(ctx, "RECOMPOSE_COMMANDS", p.function)
	if err != nil {
		return err
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(2 * p.concurrency))
	if err != nil {
		return err
	}
	var loops sync.WaitGroup
	for range p.concurrency {
		loops.Go(func() {
			for {
				m, err := messages.Next()
				if err != nil {
					return
				}
				if err := b.handle(ctx, m); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "bare:", err)
					_ = m.Nak()
				}
			}
		})
	}
	<-ctx.Done()
	messages.Stop()
	loops.Wait()
	return nil
}

type bare struct {
	*peer
	js      jetstream.JetStream
	records jetstream.KeyValue
}

func (b *bare) handle(ctx context.Context, m jetstream.Msg) error {
	c, err := decode(m.Data())
	if err != nil {
		return err
	}
	key := events.Identity(c.Source, c.ID)
	var revision uint64
	switch b.variant {
	case variantRecord:
		if _, err := b.records.Get(ctx, key); !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("a record before the call: %w", err)
		}
	case variantWrite:
		if revision, err = b.records.Create(ctx, key, m.Data()); err != nil {
			return err
		}
	}
	answer, err := b.call(ctx, c)
	if err != nil {
		return err
	}
	body, id, err := b.event(c, answer)
	if err != nil {
		return err
	}
	switch b.variant {
	case variantRecord:
		_, err = b.records.Create(ctx, key, body)
	case variantWrite:
		_, err = b.records.Update(ctx, key, body, revision)
	}
	if err != nil {
		return err
	}
	event := &nats.Msg{Subject: endOf(b.function), Data: body, Header: nats.Header{"Content-Type": {events.ContentType}}}
	if _, err := b.js.PublishMsg(ctx, event, jetstream.WithMsgID(id)); err != nil {
		return err
	}
	return m.Ack()
}
