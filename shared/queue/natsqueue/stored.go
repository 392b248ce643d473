package natsqueue

import (
	"context"
	"errors"
	"fmt"

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
