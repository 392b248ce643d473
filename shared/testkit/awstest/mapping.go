package awstest

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"
)

// Record is a message in the form that Lambda gives to a function.
type Record struct {
	MessageID         string                     `json:"messageId"`
	ReceiptHandle     string                     `json:"receiptHandle"`
	Body              string                     `json:"body"`
	Attributes        map[string]string          `json:"attributes"`
	MessageAttributes map[string]RecordAttribute `json:"messageAttributes"`
	MD5OfBody         string                     `json:"md5OfBody"`
	EventSource       string                     `json:"eventSource"`
	EventSourceARN    string                     `json:"eventSourceARN"`
	Region            string                     `json:"awsRegion"`
}

// RecordAttribute is a message attribute in the form that Lambda gives to a function.
type RecordAttribute struct {
	StringValue      string   `json:"stringValue"`
	StringListValues []string `json:"stringListValues"`
	BinaryListValues []string `json:"binaryListValues"`
	DataType         string   `json:"dataType"`
}

func record(queue string, m *Message, now time.Time) Record {
	r := Record{
		MessageID: m.ID, ReceiptHandle: m.receipt, Body: m.Body, MD5OfBody: hash([]byte(m.Body)), EventSource: "aws:sqs",
		EventSourceARN: QueueARN(queue), Region: Region, MessageAttributes: map[string]RecordAttribute{},
		Attributes: map[string]string{
			"ApproximateReceiveCount": strconv.Itoa(m.Receives), "SentTimestamp": strconv.FormatInt(m.Sent.UnixMilli(), 10),
			"SenderId": "AIDATEST", "ApproximateFirstReceiveTimestamp": strconv.FormatInt(now.UnixMilli(), 10),
		},
	}
	for name, value := range m.Attributes {
		r.MessageAttributes[name] = RecordAttribute{StringValue: value, StringListValues: []string{}, BinaryListValues: []string{}, DataType: "String"}
	}
	return r
}

// Event is the payload of an invocation.
func Event(records ...Record) []byte {
	b, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		panic(err)
	}
	return b
}

// Mapping simulates Lambda's event source mapping: it receives messages from a queue in batches, invokes a function,
// and deletes the messages that were not listed as failed.
type Mapping struct {
	Server   *Server
	Queue    string
	Batch    int // messages in a batch; zero: 10
	InFlight int // messages in flight at a time; zero: Batch
	// Invoke runs the function on an event. After an error all messages of the batch stay in the queue.
	Invoke func(ctx context.Context, event []byte) (answer []byte, err error)
}

// Run receives messages until ctx ends, and returns when no invocation runs. The end of ctx does not end invocations.
func (m Mapping) Run(ctx context.Context) {
	m.Batch = cmp.Or(m.Batch, 10)
	m.InFlight = cmp.Or(m.InFlight, m.Batch)
	slots := make(chan struct{}, m.InFlight)
	var invocations sync.WaitGroup
	defer invocations.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		free := min(cap(slots)-len(slots), m.Batch)
		if free == 0 {
			continue
		}
		records := m.Server.receive(m.Queue, free)
		if len(records) == 0 {
			continue
		}
		for range records {
			slots <- struct{}{}
		}
		invocations.Go(func() {
			defer func() {
				for range records {
					<-slots
				}
			}()
			m.invoke(context.WithoutCancel(ctx), records)
		})
	}
}

func (m Mapping) invoke(ctx context.Context, records []Record) {
	answer, err := m.Invoke(ctx, Event(records...))
	if err != nil {
		return
	}
	var failures struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	if json.Unmarshal(answer, &failures) != nil { // Lambda treats the whole batch as failed
		return
	}
	failed := map[string]bool{}
	for _, f := range failures.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	for _, r := range records {
		if !failed[r.MessageID] {
			m.Server.remove(m.Queue, r.ReceiptHandle)
		}
	}
}
