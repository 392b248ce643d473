package awstest

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// byHand answers calls that receive and delete messages without a Mapping.
func (s *Server) byHand(action string, body []byte) (any, *fault) {
	var in struct {
		QueueName           string
		QueueURL            string `json:"QueueUrl"`
		MaxNumberOfMessages int
		VisibilityTimeout   *int
		ReceiptHandle       string
		Entries             []struct{ ReceiptHandle string }
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refuse("SerializationException", err.Error())
	}
	name := queueOf(in.QueueURL)
	if action == "CreateQueue" {
		s.queues[in.QueueName] = &box{visibility: 30 * time.Second}
		return map[string]string{"QueueUrl": s.QueueURL(in.QueueName)}, nil
	}
	b := s.queues[name]
	if b == nil {
		return nil, refuse("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
	}
	now := time.Now()
	switch action {
	case "DeleteQueue":
		delete(s.queues, name)
	case "GetQueueAttributes":
		away := 0
		for _, m := range b.messages {
			if m.receipt != "" && now.Before(m.visible) {
				away++
			}
		}
		return map[string]any{"Attributes": map[string]string{"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(away)}}, nil
	case "ReceiveMessage":
		visibility := b.visibility
		if in.VisibilityTimeout != nil {
			visibility = time.Duration(*in.VisibilityTimeout) * time.Second
		}
		messages := []any{}
		for _, m := range b.take(max(in.MaxNumberOfMessages, 1), now, visibility) {
			r := record(name, m, now)
			attributes := map[string]Attribute{}
			for n, a := range r.MessageAttributes {
				attributes[n] = Attribute{a.DataType, a.StringValue}
			}
			answer := map[string]any{"MessageId": r.MessageID, "ReceiptHandle": r.ReceiptHandle, "Body": r.Body, "MD5OfBody": r.MD5OfBody,
				"Attributes": r.Attributes, "MessageAttributes": attributes}
			if len(m.Attributes) > 0 {
				answer["MD5OfMessageAttributes"] = hashAttributes(m.Attributes)
			}
			messages = append(messages, answer)
		}
		return map[string]any{"Messages": messages}, nil
	case "DeleteMessage":
		b.delete(in.ReceiptHandle)
	case "DeleteMessageBatch":
		for _, e := range in.Entries {
			b.delete(e.ReceiptHandle)
		}
	}
	return map[string]any{}, nil
}

// await holds a receive call until there are messages, for a tenth of the wait time that the call requests: most tests
// have sent before what they expect.
func (s *Server) await(ctx context.Context, body []byte) {
	var in struct {
		QueueURL        string `json:"QueueUrl"`
		WaitTimeSeconds int
	}
	_ = json.Unmarshal(body, &in) // byHand reports a malformed body
	ctx, cancel := context.WithTimeout(ctx, time.Duration(in.WaitTimeSeconds)*time.Second/10)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && !s.has(queueOf(in.QueueURL)) {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// has reports whether a queue has a message to receive, or there is no reason to wait.
func (s *Server) has(queue string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.queues[queue]
	return b == nil || slices.ContainsFunc(b.messages, func(m *Message) bool { return !time.Now().Before(m.visible) })
}

func (b *box) delete(receipt string) {
	b.messages = slices.DeleteFunc(b.messages, func(m *Message) bool { return m.receipt == receipt && receipt != "" })
}

// subscribe subscribes a queue to all messages of the topic.
func (s *Server) subscribe(form url.Values) (any, *fault) {
	queue := form.Get("Endpoint")[strings.LastIndexByte(form.Get("Endpoint"), ':')+1:]
	if form.Get("TopicArn") != TopicARN || s.queues[queue] == nil {
		return nil, refuse("InvalidParameter", "Invalid parameter: TopicArn or Endpoint")
	}
	s.topic.subscriptions[queue] = &subscription{raw: true}
	type answer struct {
		XMLName xml.Name `xml:"SubscribeResponse"`
		ARN     string   `xml:"SubscribeResult>SubscriptionArn"`
	}
	return answer{ARN: TopicARN + ":" + queue}, nil
}

func (s *Server) unsubscribe(form url.Values) (any, *fault) {
	delete(s.topic.subscriptions, strings.TrimPrefix(form.Get("SubscriptionArn"), TopicARN+":"))
	return struct {
		XMLName xml.Name `xml:"UnsubscribeResponse"`
	}{}, nil
}
