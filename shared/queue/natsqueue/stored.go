package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
	"recompose/shared/chain"
)

// Commands reads the commands that no function has finished, oldest first: those at the entrance, and those that
// functions have delayed or passed on. It reads at most most messages of each stream; more reports whether there are
// others. The error is ErrNotSetUp by errors.Is, or a *DeniedError by errors.As.
func (q *Queue) Commands(ctx context.Context, most int) (commands []chain.Command, more bool, err error) {
	for _, stream := range []string{q.names.commands(), q.names.nexts()} {
		some, left, err := q.commandsOf(ctx, stream, most)
		if err != nil {
			err = q.Denied(err, "$JS.API.STREAM.INFO."+stream, "$JS.API.STREAM.MSG.GET."+stream)
			return nil, false, fmt.Errorf("read the commands of stream %s: %w", stream, q.explain(err))
		}
		commands, more = append(commands, some...), more || left
	}
	return commands, more, nil
}

func (q *Queue) commandsOf(ctx context.Context, stream string, most int) (commands []chain.Command, more bool, err error) {
	s, err := q.js.Stream(ctx, stream)
	if err != nil {
		return nil, false, err
	}
	next := uint64(1)
	for range most {
		m, err := s.GetMsg(ctx, next, jetstream.WithGetMsgSubject(">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return commands, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		next = m.Sequence + 1
		bare := bareMessage(q.names.bareType(m.Subject), stream, m.Sequence, m.Time.UTC(), m.Header.Get(headerMsgID))
		e, _ := events.Decode(events.Headers(m.Header), m.Data, bare) // of an invalid command, the readable part
		if e.ID == "" || !events.IsCommand(e.Type) {
			continue
		}
		due, _ := dueAt(m)
		commands = append(commands, chain.Command{Envelope: e, Stored: m.Time.UTC(), Next: due})
	}
	return commands, true, nil
}

// Chains reads the stored events of all chains whose correlation id begins with prefix. next is the sequence number at
// which reading continues.
func (q *Queue) Chains(ctx context.Context, prefix string) (all chain.Chains, next uint64, err error) {
	all, next = chain.Chains{}, uint64(1)
	err = q.Read(ctx, Since{}, false, func(e events.Envelope, _ time.Time, seq uint64) (bool, error) {
		next = seq + 1
		if strings.HasPrefix(e.Correlation, prefix) {
			all.Add(e)
		}
		return true, nil
	})
	return all, next, err
}
