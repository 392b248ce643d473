package awstest

import (
	"encoding/json"
	"encoding/xml"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const maxPublished = 256 << 10

// TopicARN names the topic.
const TopicARN = "arn:aws:sns:" + Region + ":" + Account + ":recompose"

type topic struct {
	subscriptions map[string]*subscription // by queue
	published     []Message
	refuse        func(body string) (code string, sender bool)
	batches       []int
}

type subscription struct {
	types []string // nil for all types
	// inRollout are types of messages that match only with the attribute rollout.
	inRollout []string
	raw       bool
}

// Subscribe subscribes a queue to the types of the topic, with raw delivery or without.
func (s *Server) Subscribe(queue string, raw bool, types ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topic.subscriptions[queue] = &subscription{types: types, raw: raw}
}

// SubscribeRollout is Subscribe with types that match only messages with the attribute rollout.
func (s *Server) SubscribeRollout(queue string, raw bool, types, inRollout []string) {
	s.Subscribe(queue, raw, types...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topic.subscriptions[queue].inRollout = inRollout
}

func (s *subscription) takes(m Message) bool {
	typ, rollout := m.Attributes["type"], m.Attributes["rollout"]
	return s.types == nil || slices.Contains(s.types, typ) || rollout != "" && slices.Contains(s.inRollout, typ)
}

// RefuseEntries sets a function that decides on each message of a batch: it returns the error code to refuse it with,
// or "" to accept it.
func (s *Server) RefuseEntries(code func(body string) (code string, sender bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topic.refuse = code
}

// Published returns all messages that the topic accepted, in order.
func (s *Server) Published() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.topic.published)
}

// Batches returns the sizes of the published batches.
func (s *Server) Batches() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.topic.batches)
}

// query reads a call of SNS.
func query(body []byte) (action string, form url.Values) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", nil
	}
	return form.Get("Action"), form
}

type publishBatchAnswer struct {
	XMLName    xml.Name     `xml:"PublishBatchResponse"`
	Successful []entryTaken `xml:"PublishBatchResult>Successful>member"`
	Failed     []entryFault `xml:"PublishBatchResult>Failed>member"`
}

type entryTaken struct {
	ID        string `xml:"Id"`
	MessageID string `xml:"MessageId"`
}

type entryFault struct {
	ID          string `xml:"Id"`
	Code        string
	Message     string
	SenderFault bool
}

func (s *Server) publishBatch(form url.Values) (any, *fault) {
	if form.Get("Action") != "PublishBatch" || form.Get("TopicArn") != TopicARN {
		return nil, refuse("NotFound", "Topic does not exist")
	}
	type entry struct {
		id string
		m  Message
	}
	var entries []entry
	size := 0
	for i := 1; ; i++ {
		at := "PublishBatchRequestEntries.member." + strconv.Itoa(i)
		if !form.Has(at + ".Id") {
			break
		}
		e := entry{form.Get(at + ".Id"), Message{Body: form.Get(at + ".Message"), Attributes: map[string]string{}}}
		for j := 1; form.Has(at + ".MessageAttributes.entry." + strconv.Itoa(j) + ".Name"); j++ {
			a := at + ".MessageAttributes.entry." + strconv.Itoa(j)
			e.m.Attributes[form.Get(a+".Name")] = form.Get(a + ".Value.StringValue")
			size += len(form.Get(a+".Name")) + len("String") + len(form.Get(a+".Value.StringValue"))
		}
		size += len(e.m.Body)
		if f := fit(e.m.Body, e.m.Attributes); f != nil {
			return nil, f
		}
		entries = append(entries, e)
	}
	switch {
	case len(entries) == 0:
		return nil, refuse("EmptyBatchRequest", "The batch request doesn't contain any entries.")
	case len(entries) > maxAttributes:
		return nil, refuse("TooManyEntriesInBatchRequest", "The batch request contains more entries than permissible.")
	case size > maxPublished:
		return nil, refuse("BatchRequestTooLong", "The length of all the batch messages put together is more than the limit.")
	}
	s.topic.batches = append(s.topic.batches, len(entries))
	var answer publishBatchAnswer
	for _, e := range entries {
		if s.topic.refuse != nil {
			if code, sender := s.topic.refuse(e.m.Body); code != "" {
				answer.Failed = append(answer.Failed, entryFault{e.id, code, "injected fault", sender})
				continue
			}
		}
		e.m.ID, e.m.Sent = s.id(), time.Now()
		s.topic.published = append(s.topic.published, e.m)
		s.distribute(e.m)
		answer.Successful = append(answer.Successful, entryTaken{e.id, e.m.ID})
	}
	return answer, nil
}

// Publish publishes a message, as a sender does.
func (s *Server) Publish(body string, attributes map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := Message{ID: s.id(), Body: body, Attributes: attributes, Sent: time.Now()}
	s.topic.published = append(s.topic.published, m)
	s.distribute(m)
}

func (s *Server) distribute(m Message) {
	for queue, sub := range s.topic.subscriptions {
		if !sub.takes(m) {
			continue
		}
		if sub.raw {
			s.put(queue, m.Body, m.Attributes, 0)
			continue
		}
		attributes := map[string]map[string]string{}
		for name, value := range m.Attributes {
			attributes[name] = map[string]string{"Type": "String", "Value": value}
		}
		body, _ := json.Marshal(map[string]any{ // strings only
			"Type": "Notification", "MessageId": m.ID, "TopicArn": TopicARN, "Message": m.Body,
			"Timestamp": m.Sent.UTC().Format("2006-01-02T15:04:05.000Z"), "SignatureVersion": "1", "Signature": "none",
			"MessageAttributes": attributes,
		})
		s.put(queue, string(body), nil, 0)
	}
}
