package queue_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/queue"
)

// A function answers one type of command. A transport passes messages to a Processor, stores the result, and
// only then acknowledges the message.
func Example() {
	function := queue.Function{
		Name:  events.FnGetDesktop,
		Types: []string{events.TypeGetDesktop},
		Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			command, err := events.DecodeGetDesktop(c.Envelope.Data)
			if err != nil {
				return nil, queue.Invalid(err)
			}
			if command.DesktopID == "busy" {
				return nil, queue.RetryAfter(time.Minute, errors.New("too many calls"))
			}
			return []queue.Outcome{{
				Type: events.TypeDesktopDescribed, About: []string{"desktop.described"},
				Data: map[string]any{"desktop": map[string]string{"desktop_id": command.DesktopID, "status": "ACTIVE"}},
			}}, nil
		},
	}
	bare := events.Bare{Type: events.TypeGetDesktop, Source: "example", ID: "get-1"}
	for _, body := range []string{`{"desktop_id": "d-1"}`, `{"desktop_id": "busy"}`, `{"desktop_id": "../x"}`, `hello`} {
		result := queue.Processor{}.Process(context.Background(), function, queue.Delivery{Body: []byte(body), Bare: bare, Deliveries: 1})
		for _, e := range result.Events {
			fmt.Println(e.Type, e.Causation, string(e.Data))
		}
		if result.Delay != nil {
			fmt.Println("retry in", result.Delay.After)
		}
	}
	// Output:
	// recompose.event.desktop.described.v1 get-1 {"desktop":{"desktop_id":"d-1","status":"ACTIVE"}}
	// retry in 1m0s
	// recompose.event.command.failed.v1 get-1 {"command":{"type":"recompose.command.getdesktop.v1","id":"get-1","source":"example"},"attempts":1,"effect":"none","error":{"kind":"invalid","error_msg":"desktop_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got \"../x\""}}
	// recompose.event.command.failed.v1 get-1 {"command":{"type":"recompose.command.getdesktop.v1","id":"get-1","source":"example"},"attempts":1,"effect":"none","error":{"kind":"invalid","error_msg":"must be JSON (invalid character 'h' looking for beginning of value, byte 1); got hello"}}
}
