package awstest

import (
	"crypto/md5" //nolint:gosec // SQS returns MD5 digests
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of SQS.
const (
	maxQueued     = 1 << 20
	maxAttributes = 10
	maxDelay      = 900
)

// Attribute is a message attribute.
type Attribute struct {
	DataType    string `json:"DataType"`
	StringValue string `json:"StringValue"`
}

// Message is a message in a queue.
type Message struct {
	ID         string
	Body       string
	Attributes map[string]string
	Sent       time.Time
	Receives   int
	Delay      time.Duration // of the SendMessage call

	visible time.Time
	receipt string
}

type box struct {
	visibility time.Duration
	messages   []*Message
}

// QueueURL is the address of a queue.
func (s *Server) QueueURL(name string) string { return s.URL + "/" + Account + "/" + name }

// queueOf is the name of the queue at an address.
func queueOf(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// QueueARN is the name of a queue.
func QueueARN(name string) string { return "arn:aws:sqs:" + Region + ":" + Account + ":" + name }

// CreateQueue makes a queue if it does not exist.
func (s *Server) CreateQueue(name string, visibility time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues[name] == nil {
		s.queues[name] = &box{visibility: visibility}
	}
}

// Messages returns the messages of a queue, received and delayed ones included.
func (s *Server) Messages(queue string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Message
	if b := s.queues[queue]; b != nil {
		for _, m := range b.messages {
			all = append(all, *m)
		}
	}
	return all
}

// Send puts a message in a queue, as a sender does.
func (s *Server) Send(queue, body string, attributes map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, f := s.put(queue, body, attributes, 0); f != nil {
		return fmt.Errorf("%s: %s", f.code, f.message)
	}
	return nil
}

func (s *Server) put(queue, body string, attributes map[string]string, delay int) (*Message, *fault) {
	b := s.queues[queue]
	size := len(body)
	for name, value := range attributes {
		size += len(name) + len("String") + len(value)
	}
	switch {
	case b == nil:
		return nil, refuse("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
	case delay < 0 || delay > maxDelay:
		return nil, refuse("com.amazonaws.sqs#InvalidParameterValue", fmt.Sprintf("Value %d for parameter DelaySeconds is invalid.", delay))
	case size > maxQueued:
		return nil, refuse("com.amazonaws.sqs#InvalidParameterValue", "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.")
	}
	if f := fit(body, attributes); f != nil {
		return nil, f
	}
	now := time.Now()
	m := &Message{
		ID: s.id(), Body: body, Attributes: maps.Clone(attributes), Sent: now, visible: now.Add(time.Duration(delay) * time.Second),
		Delay: time.Duration(delay) * time.Second,
	}
	b.messages = append(b.messages, m)
	return m, nil
}

// fit refuses a message that SQS and SNS refuse.
func fit(body string, attributes map[string]string) *fault {
	if body == "" {
		return refuse("MissingParameter", "The request must contain the parameter MessageBody.")
	}
	if len(attributes) > maxAttributes {
		return refuse("InvalidParameterValue", "Number of message attributes exceeds the allowed maximum of 10.")
	}
	for name, value := range attributes {
		if value == "" || strings.HasPrefix(strings.ToLower(name), "aws.") || strings.ContainsFunc(name, func(r rune) bool {
			return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("_-.", r)
		}) {
			return refuse("InvalidParameterValue", "The message attribute '"+name+"' is invalid.")
		}
	}
	for _, text := range append(slices.Collect(maps.Values(attributes)), body) {
		for i, r := range text {
			if (r < ' ' && r != '\t' && r != '\n' && r != '\r') || r == 0xfffe || r == 0xffff || (r == 0xfffd && !strings.HasPrefix(text[i:], "\uFFFD")) {
				return refuse("InvalidMessageContents", "Invalid characters found.")
			}
		}
	}
	return nil
}

func (s *Server) id() string {
	s.number++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", s.number)
}

func (s *Server) sendMessage(body []byte) (any, *fault) {
	var in struct {
		QueueURL          string `json:"QueueUrl"`
		MessageBody       string
		DelaySeconds      int
		MessageAttributes map[string]Attribute
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refuse("SerializationException", err.Error())
	}
	m, f := s.put(queueOf(in.QueueURL), in.MessageBody, plain(in.MessageAttributes), in.DelaySeconds)
	if f != nil {
		return nil, f
	}
	answer := map[string]string{"MessageId": m.ID, "MD5OfMessageBody": hash([]byte(m.Body))}
	if len(m.Attributes) > 0 {
		answer["MD5OfMessageAttributes"] = hashAttributes(m.Attributes)
	}
	return answer, nil
}

func plain(attributes map[string]Attribute) map[string]string {
	values := map[string]string{}
	for name, a := range attributes {
		values[name] = a.StringValue
	}
	return values
}

func hash(b []byte) string {
	sum := md5.Sum(b) //nolint:gosec // SQS returns MD5 digests
	return hex.EncodeToString(sum[:])
}

func hashAttributes(attributes map[string]string) string {
	var b []byte
	add := func(text string) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text))) //nolint:gosec // at most a mebibyte
		b = append(b, text...)
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		add(name)
		add("String")
		b = append(b, 1)
		add(attributes[name])
	}
	return hash(b)
}

func (s *Server) changeVisibility(body []byte) (any, *fault) {
	var in struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []struct {
			ID                string `json:"Id"`
			ReceiptHandle     string
			VisibilityTimeout int
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refuse("SerializationException", err.Error())
	}
	b := s.queues[queueOf(in.QueueURL)]
	if b == nil || len(in.Entries) > maxAttributes {
		return nil, refuse("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
	}
	successful, failed := []any{}, []any{}
	for _, e := range in.Entries {
		i := slices.IndexFunc(b.messages, func(m *Message) bool { return m.receipt == e.ReceiptHandle && m.receipt != "" })
		if i < 0 {
			failed = append(failed, map[string]any{"Id": e.ID, "SenderFault": true, "Code": "ReceiptHandleIsInvalid"})
			continue
		}
		b.messages[i].visible = time.Now().Add(time.Duration(e.VisibilityTimeout) * time.Second)
		successful = append(successful, map[string]any{"Id": e.ID})
	}
	return map[string]any{"Successful": successful, "Failed": failed}, nil
}

// receive receives up to n messages, as Lambda does.
func (s *Server) receive(queue string, n int) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.queues[queue]
	if b == nil {
		return nil
	}
	now := time.Now()
	var taken []Record
	for _, m := range b.take(n, now, b.visibility) {
		taken = append(taken, record(queue, m, now))
	}
	return taken
}

func (b *box) take(n int, now time.Time, visibility time.Duration) (taken []*Message) {
	for _, m := range b.messages {
		if len(taken) == n {
			break
		}
		if now.Before(m.visible) {
			continue
		}
		m.Receives++
		m.visible, m.receipt = now.Add(visibility), m.ID+"/"+strconv.Itoa(m.Receives)
		taken = append(taken, m)
	}
	return taken
}

// remove deletes a message unless it was received once more in the meantime.
func (s *Server) remove(queue, receipt string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.queues[queue]; b != nil {
		b.messages = slices.DeleteFunc(b.messages, func(m *Message) bool { return m.receipt == receipt })
	}
}

// Queues returns the names of all queues.
func (s *Server) Queues() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.queues))
}
