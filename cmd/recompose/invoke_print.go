package main

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"recompose/events"
	"recompose/shared/queue/awsqueue"
)

// invocation is the result of an invocation, as --json prints it.
type invocation struct {
	Answer      awsqueue.Answer   `json:"answer"`
	Published   []recordedMessage `json:"published"`
	Delayed     []recordedMessage `json:"delayed"`
	DeadLetters []recordedMessage `json:"dead_letters"`
}

// recordedMessage is a message that would have been sent.
type recordedMessage struct {
	Seconds    int               `json:"seconds,omitempty"` // of delay
	Attributes map[string]string `json:"attributes"`
	Message    any               `json:"message"` // the body: JSON where it is JSON, else a string
}

func messagesOf(recorded []awsqueue.Recorded) []recordedMessage {
	messages := make([]recordedMessage, len(recorded))
	for i, r := range recorded {
		messages[i] = recordedMessage{int(r.Delay / time.Second), r.Attributes, r.Body}
		if json.Valid([]byte(r.Body)) {
			messages[i].Message = json.RawMessage(r.Body)
		}
	}
	return messages
}

// print prints the result as one JSON object, for people on many lines and with a summary of each event.
func (f invokeFlags) print(w io.Writer, answer awsqueue.Answer, r awsqueue.Recorder) error {
	all := invocation{answer, messagesOf(r.Published), messagesOf(r.Delayed), messagesOf(r.DeadLetters)}
	line, err := foreignJSON(all)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if f.json {
		text.Write(line)
	} else if err := json.Indent(&text, line, "", "  "); err != nil {
		return err
	}
	say(w, "%s", text.String())
	for _, m := range r.Published {
		var e events.Envelope
		if !f.json && json.Unmarshal([]byte(m.Body), &e) == nil {
			for _, summary := range describe(e) {
				say(w, "%s", foreign(summary))
			}
		}
	}
	if !f.json {
		say(w, "Nothing of this was sent.")
	}
	return nil
}
