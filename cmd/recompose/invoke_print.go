package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
)

// invoked is the result of an invocation, as --json prints it.
type invoked struct {
	Answer      awsqueue.Answer  `json:"answer"`
	Published   []invokedMessage `json:"published"`
	Delayed     []invokedDelay   `json:"delayed"`
	DeadLetters []invokedMessage `json:"dead_letters"`
	Stopped     string           `json:"stopped,omitempty"` // why no more messages may be handled
}

// invokedMessage is a message that would have been sent: its body as JSON where it is JSON, else as a string.
type invokedMessage struct {
	Attributes map[string]string `json:"attributes"`
	Message    any               `json:"message"`

	body string
}

type invokedDelay struct {
	Seconds int    `json:"seconds"`
	Why     string `json:"why,omitempty"`
	invokedMessage
}

// newInvoked joins the answer, what would have been sent, and why messages are delayed.
func newInvoked(answer awsqueue.Answer, r *awsqueue.Recorder, why delayReasons) invoked {
	all := invoked{Answer: answer, Published: messagesOf(r.Published), DeadLetters: messagesOf(r.DeadLetters), Delayed: []invokedDelay{}}
	for i, m := range messagesOf(r.Delayed) {
		all.Delayed = append(all.Delayed, invokedDelay{int(r.Delayed[i].Delay / time.Second), why[m.envelope().ID], m})
	}
	if r.Stop != nil {
		all.Stopped = r.Stop.Error()
	}
	return all
}

func messagesOf(rs []awsqueue.Recorded) []invokedMessage {
	ms := make([]invokedMessage, len(rs))
	for i, r := range rs {
		ms[i] = invokedMessage{r.Attributes, r.Body, r.Body}
		if json.Valid([]byte(r.Body)) {
			ms[i].Message = json.RawMessage(r.Body)
		}
	}
	return ms
}

// envelope is the message as an envelope; zero where it is none.
func (m invokedMessage) envelope() events.Envelope {
	var e events.Envelope
	_ = json.Unmarshal([]byte(m.body), &e)
	return e
}

// print is the result for people.
func (all invoked) print(w io.Writer) {
	answer, _ := json.Marshal(all.Answer)
	say(w, "\nanswer: %s", answer)
	for _, m := range all.Published {
		e := m.envelope()
		say(w, "\npublished: %s %s", foreign(e.Type), foreign(e.ID))
		for _, line := range describe(e) {
			if line != e.Type && e.Type != events.TypeDesktopDescribed { // its data has all
				say(w, "  %s", foreign(line))
			}
		}
		m.printAttributes(w, "type", "id")
		say(w, "  data: %s", indented(e.Data))
	}
	for _, d := range all.Delayed {
		e := d.envelope()
		say(w, "\ndelayed by %v: %s %s", time.Duration(d.Seconds)*time.Second, foreign(e.Type), foreign(e.ID))
		if d.Why != "" {
			say(w, "  %s", foreign(d.Why))
		}
		say(w, "  attempt %s", foreign(cmp.Or(d.Attributes[queue.AttemptHeader], "0")))
	}
	for _, m := range all.DeadLetters {
		say(w, "\ndead letter: %s", foreign(m.Attributes[awsqueue.AttrClass]))
		say(w, "  %s", foreign(m.Attributes[awsqueue.AttrReason]))
		m.printAttributes(w, awsqueue.AttrClass, awsqueue.AttrReason, awsqueue.AttrOriginal)
	}
	say(w, "")
	if len(all.Published)+len(all.Delayed)+len(all.DeadLetters) == 0 {
		say(w, "It publishes nothing.")
		return
	}
	say(w, "Nothing of this was sent.")
}

// printAttributes prints the attributes one a line, but for those that stand elsewhere.
func (m invokedMessage) printAttributes(w io.Writer, but ...string) {
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		if !slices.Contains(but, name) {
			say(w, "  %s: %s", foreign(name), foreign(m.Attributes[name]))
		}
	}
}

// indented is JSON on many lines, fit to be printed under a line that is indented by two.
func indented(raw json.RawMessage) string {
	line, err := foreignJSON(raw)
	if err != nil {
		return fmt.Sprintf("%q", raw)
	}
	var b bytes.Buffer
	if json.Indent(&b, line, "  ", "  ") != nil {
		return foreign(string(line))
	}
	return strings.TrimSpace(b.String())
}
