package awsqueue

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"

	"recompose/events"
	"recompose/shared/queue"
)

// Attributes of messages. The filters of subscriptions on the topic use attrType.
const (
	attrType        = "type"
	attrID          = "id" // also the sender's id of a message without an envelope
	attrCorrelation = "correlationid"
	attrRollout     = "rollout"        // absent if the message belongs to no rollout
	attrDue         = "Recompose-Due"  // of a delayed form: when it is due
	attrForm        = "Recompose-Form" // of a delayed form: the seal over body, function, numbers and time
	attrAnew        = "Recompose-Anew" // of a message that was sent anew because SQS had only counted receives
)

// received is a message of a batch.
type received struct {
	delivery queue.Delivery
	stored   time.Time
	due      time.Time // of a delayed form; zero: it is due
}

// maxForeignID is the longest id that a sender may give in the attribute id. A longer one is ignored.
const maxForeignID = 1024

// read converts a message of Lambda. now replaces a missing time.
func (h *Handler) read(m *lambda.SQSMessage, now time.Time) received {
	r := received{stored: now.UTC()}
	if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err == nil && ms > 0 {
		r.stored = time.UnixMilli(ms).UTC()
	}
	deliveries, err := strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
	if err != nil || deliveries < 1 {
		deliveries = 1
	}
	headers := events.Headers{}
	for name, a := range m.MessageAttributes {
		if a.StringValue != nil {
			headers[name] = []string{*a.StringValue}
		}
	}
	body, id := m.Body, m.MessageId
	if headers.Get(attrType) == "" { // a message that a filter of the topic selected is what its attributes describe
		body, id, headers = r.unwrapped(body, id, headers)
	}
	r.due = h.form(headers, body)
	routed := headers.Get(attrType)
	bare := events.Bare{Type: h.fn.BareType(routed), Source: "sqs/" + queueName(m.EventSourceARN), ID: headers.Get(attrID), Time: r.stored}
	if bare.ID == "" || len(bare.ID) > maxForeignID {
		bare.ID, bare.NoID = id, true
	}
	r.delivery = queue.Delivery{Headers: headers, Body: []byte(body), Bare: bare, Type: routed, Deliveries: deliveries}
	return r
}

// unwrapped returns the content of a message that a topic without raw delivery has wrapped, or that was a dead letter.
func (r *received) unwrapped(body, id string, headers events.Headers) (string, string, events.Headers) {
	if n, ok := notification(body); ok {
		body, id = n.Message, n.MessageID
		for name, a := range n.MessageAttributes {
			if a.Type != "Binary" {
				headers[name] = []string{a.Value}
			}
		}
		if !n.Timestamp.IsZero() && n.Timestamp.Before(r.stored) {
			r.stored = n.Timestamp.UTC()
		}
	}
	if first, err := events.ParseTime(headers.Get(AttrFirst)); err == nil && headers.Get(AttrDeadID) != "" && first.Before(r.stored) {
		r.stored = first.UTC() // a message that was moved back keeps its age: SQS would count it anew
	}
	return body, id, restored(headers)
}

// queueName is the last part of an ARN or URL of a queue.
func queueName(of string) string { return of[strings.LastIndexAny(of, ":/")+1:] }

// note is the JSON in which a topic wraps a message if raw delivery is off.
type note struct {
	Type              string
	MessageID         string `json:"MessageId"`
	TopicArn          string
	Message           string
	Timestamp         time.Time
	MessageAttributes map[string]struct{ Type, Value string }
}

func notification(body string) (n note, ok bool) {
	if !strings.Contains(body, `"TopicArn"`) || json.Unmarshal([]byte(body), &n) != nil {
		return note{}, false
	}
	return n, n.Type == "Notification" && n.TopicArn != "" && n.MessageID != ""
}

// form returns when a delayed form is due. From a message that was not made here, as every one with the attribute type,
// it removes the attributes that number a delayed form.
func (h *Handler) form(headers events.Headers, body string) (due time.Time) {
	seal := headers.Get(attrForm)
	sealed := seal != "" && headers.Get(attrType) == "" && seal == h.seal(body, headers.Get)
	if sealed {
		due, _ = events.ParseTime(headers.Get(attrDue))
	}
	for name := range headers {
		for _, ours := range []string{queue.AttemptHeader, queue.FailuresHeader, queue.HeldHeader} {
			if !sealed && strings.EqualFold(name, ours) {
				delete(headers, name)
			}
		}
	}
	return due
}

// seal binds the numbers of a delayed form to its body. It is not a secret: a sender who could forge it can as well
// send a command. It keeps attributes that were copied or invented from being used as ours. The number of holds, which earlier
// versions do not know, is not bound: they must be able to read the form during an upgrade, and after the way back from one.
func (h *Handler) seal(body string, attribute func(name string) string) string {
	return events.Derive(body, "form", h.fn.Name, attribute(queue.AttemptHeader), attribute(queue.FailuresHeader), attribute(attrDue))
}

// restored gives a dead letter that was moved back to its queue its original attributes.
func restored(headers events.Headers) events.Headers {
	if headers.Get(AttrDeadID) == "" {
		return headers
	}
	var original events.Headers
	if json.Unmarshal([]byte(headers.Get(AttrOriginal)), &original) != nil {
		original = nil
	}
	for name, values := range headers {
		if !slices.Contains(deadAttributes, name) && original[name] == nil {
			if original == nil {
				original = events.Headers{}
			}
			original[name] = values
		}
	}
	delete(original, attrForm) // the command is redriven from its beginning, not from a delayed form
	delete(original, attrAnew)
	return original
}
