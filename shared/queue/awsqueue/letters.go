package awsqueue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"recompose/events"
	"recompose/shared/queue"
)

// Queues are the queues of one function.
type Queues struct{ URL, DeadLetterURL string }

// Letters reads the dead letters of functions in their dead-letter queues. SQS shows a message only by receiving it:
// a dead letter that was read is hidden from other readers for five minutes or until Close. Methods must not be
// called concurrently.
type Letters struct {
	client *sqs.Client
	out    outlet
	boxes  []*letterBox
	now    func() time.Time
}

var _ queue.Letters = (*Letters)(nil)

// letterBox is the dead-letter queue of one function.
type letterBox struct {
	fn     queue.Function
	queues Queues
	hands  map[string]hand // by message id: the messages that this reader has received
	others int             // number of messages that other readers have received
}

type hand struct {
	message sqstypes.Message
	until   time.Time
}

// hold is how long a received message is hidden from other readers.
const hold = 5 * time.Minute

// NewLetters makes a reader of the dead letters of functions. It does not connect yet; the error names a function
// whose queues are not known.
func NewLetters(c aws.Config, fns []queue.Function, queues map[string]Queues) (*Letters, error) {
	l := &Letters{now: time.Now}
	l.client, _ = Clients(c)
	l.out = outlet{sqs: l.client, storeFor: sendFor}
	for _, fn := range fns {
		q := queues[fn.Name]
		if q.URL == "" || q.DeadLetterURL == "" {
			return nil, fmt.Errorf("the queues of %s are not known", fn.Name)
		}
		l.boxes = append(l.boxes, &letterBox{fn: fn, queues: q, hands: map[string]hand{}})
	}
	return l, nil
}

// Hidden implements queue.Letters. A reader that was killed hides its letters for five minutes.
func (l *Letters) Hidden() (n int) {
	for _, b := range l.boxes {
		n += b.others
	}
	return n
}

// DeadLetters implements queue.Letters.
func (l *Letters) DeadLetters(ctx context.Context, f queue.LetterFilter) ([]queue.Letter, error) {
	var each errgroup.Group
	for _, b := range l.boxes {
		b.others = 0
		if f.Function == "" || f.Function == b.fn.Name {
			each.Go(func() error { return l.take(ctx, b) })
		}
	}
	if err := each.Wait(); err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	var letters []queue.Letter
	for _, b := range l.boxes {
		for _, h := range b.hands {
			if letter := b.letter(h.message); f.Matches(letter) {
				letter.Body = nil
				letters = append(letters, letter)
			}
		}
	}
	slices.SortFunc(letters, func(a, b queue.Letter) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.ID, b.ID), cmp.Compare(a.MessageID, b.MessageID))
	})
	return letters, nil
}

// take receives all dead letters of a box.
func (l *Letters) take(ctx context.Context, b *letterBox) error {
	for id, h := range b.hands {
		if l.now().After(h.until) {
			delete(b.hands, id)
		}
	}
	for more := true; more; {
		until := l.now().Add(hold)
		got, err := l.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &b.queues.DeadLetterURL, MaxNumberOfMessages: maxBatch, WaitTimeSeconds: 1, VisibilityTimeout: int32(hold.Seconds()),
			MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"},
		})
		if err != nil {
			return fmt.Errorf("read the dead letters of %s: %w", b.fn.Name, err)
		}
		more = false // no more messages, or so many that the first ones are received a second time
		for _, m := range got.Messages {
			_, known := b.hands[*m.MessageId]
			more = more || !known
			b.hands[*m.MessageId] = hand{m, until}
		}
	}
	away := sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible
	counted, err := l.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &b.queues.DeadLetterURL, AttributeNames: []sqstypes.QueueAttributeName{away}})
	if err != nil {
		return fmt.Errorf("count the dead letters of %s: %w", b.fn.Name, err)
	}
	n, _ := strconv.Atoi(counted.Attributes[string(away)]) // 0 if it is missing
	b.others = max(n-len(b.hands), 0)
	return nil
}

// DeadLetter implements queue.Letters.
func (l *Letters) DeadLetter(ctx context.Context, letter queue.Letter) (queue.Letter, error) {
	b, m, err := l.hand(ctx, letter)
	if err != nil {
		return letter, err
	}
	return b.letter(m), nil
}

// hand returns a dead letter that this reader has received, and keeps hidden for long enough to use it.
func (l *Letters) hand(ctx context.Context, letter queue.Letter) (*letterBox, sqstypes.Message, error) {
	for _, b := range l.boxes {
		if b.fn.Name != letter.Function {
			continue
		}
		if h, ok := b.hands[letter.MessageID]; !ok || l.now().Add(hold/10).After(h.until) {
			if err := l.take(ctx, b); err != nil {
				return b, sqstypes.Message{}, err
			}
		}
		if h, ok := b.hands[letter.MessageID]; ok {
			return b, h.message, nil
		}
	}
	return nil, sqstypes.Message{}, fmt.Errorf("read dead letter %s: %w", letter.ID, queue.ErrNoLetter)
}

// letter reads a dead letter as a function, SQS or SNS stored it.
func (b *letterBox) letter(m sqstypes.Message) queue.Letter {
	h := Handler{fn: b.fn}
	r := h.read(asRecord(m), time.Time{})
	letter := queue.Letter{
		Function: b.fn.Name, MessageID: aws.ToString(m.MessageId), First: r.stored, Headers: r.delivery.Headers,
		Body: r.delivery.Body, Size: len(r.delivery.Body), BareType: r.delivery.Bare.Type, Stream: queueName(b.queues.URL),
	}
	text := func(name string) string { return aws.ToString(m.MessageAttributes[name].StringValue) }
	if letter.ID = text(AttrDeadID); letter.ID != "" {
		letter.Class, letter.Reason, letter.Cut = text(AttrClass), text(AttrReason), text(AttrCut)
		letter.Attempts, _ = strconv.Atoi(text(AttrAttempts)) // 0 if it is missing
		letter.Last, _ = events.ParseTime(text(AttrLast))
		var c Command
		if json.Unmarshal([]byte(text(AttrCommand)), &c) == nil {
			letter.Command, letter.Correlation = events.CommandRef{Type: c.Type, ID: c.ID, Source: c.Source}, c.Correlation
		}
		return letter
	}
	letter.ID, letter.Class = events.Derive(letter.MessageID, "dead", b.fn.Name, queue.ClassUndelivered), queue.ClassUndelivered
	letter.Attempts = r.delivery.Deliveries
	letter.Reason = "SNS could not deliver it to the queue of the function"
	if m.Attributes[string(sqstypes.MessageSystemAttributeNameDeadLetterQueueSourceArn)] != "" {
		letter.Reason = "SQS moved it here after too many receives: each time the function did not start, or did not end"
	}
	if e, err := events.Decode(letter.Headers, letter.Body, bareOf(letter)); err == nil {
		letter.Command, letter.Correlation = events.CommandRef{Type: e.Type, ID: e.ID, Source: e.Source}, e.Correlation
	}
	return letter
}

// bareOf describes the message of a dead letter if it has no envelope.
func bareOf(l queue.Letter) events.Bare {
	bare := events.Bare{Type: l.BareType, Source: "sqs/" + l.Stream, ID: l.Headers.Get(attrID), Time: l.First}
	if bare.ID == "" || len(bare.ID) > maxForeignID {
		bare.ID, bare.NoID = l.MessageID, true
	}
	return bare
}

// asRecord converts a message to the form in which Lambda delivers it.
func asRecord(m sqstypes.Message) *lambda.SQSMessage {
	r := &lambda.SQSMessage{
		MessageId: aws.ToString(m.MessageId), Body: aws.ToString(m.Body), Attributes: m.Attributes, MessageAttributes: map[string]lambda.SQSMessageAttribute{},
	}
	for name, a := range m.MessageAttributes {
		r.MessageAttributes[name] = lambda.SQSMessageAttribute{StringValue: a.StringValue, DataType: aws.ToString(a.DataType)}
	}
	return r
}

// CheckRedrive implements queue.Letters.
func (l *Letters) CheckRedrive(letter queue.Letter) (events.Envelope, error) {
	if letter.Cut != "" {
		return events.Envelope{}, fmt.Errorf("it was too large to be stored completely (%s); send the command once more", letter.Cut)
	}
	e, err := events.Decode(letter.Headers, letter.Body, bareOf(letter))
	if err != nil {
		return events.Envelope{}, nil //nolint:nilerr // the zero envelope reports an unreadable message
	}
	return e, nil
}

// Redrive implements queue.Letters.
func (l *Letters) Redrive(ctx context.Context, letter queue.Letter) error {
	b, m, err := l.hand(ctx, letter)
	if err != nil {
		return err
	}
	letter = b.letter(m)
	if _, err := l.CheckRedrive(letter); err != nil {
		return fmt.Errorf("redrive dead letter %s: %w", letter.ID, err)
	}
	redriven := message{body: aws.ToString(m.Body), attributes: map[string]string{}}
	for name, a := range m.MessageAttributes {
		if a.StringValue != nil {
			redriven.attributes[name] = *a.StringValue
		}
	}
	if letter.Class == queue.ClassUndelivered { // the message has no attribute with its age yet
		original, err := json.Marshal(letter.Headers)
		if err != nil {
			return err
		}
		redriven = message{body: string(letter.Body), attributes: map[string]string{
			AttrDeadID: letter.ID, AttrFirst: letter.First.Format(time.RFC3339Nano), AttrOriginal: attributeText(string(original), 8*maxOriginal),
		}}
	}
	if err := l.out.send(ctx, b.queues.URL, redriven, 0); err != nil {
		return fmt.Errorf("redrive dead letter %s: %w", letter.ID, err)
	}
	return l.remove(ctx, b, letter.MessageID)
}

// Drop implements queue.Letters.
func (l *Letters) Drop(ctx context.Context, letter queue.Letter) error {
	b, _, err := l.hand(ctx, letter)
	switch {
	case errors.Is(err, queue.ErrNoLetter):
		return nil
	case err != nil:
		return err
	}
	return l.remove(ctx, b, letter.MessageID)
}

func (l *Letters) remove(ctx context.Context, b *letterBox, messageID string) error {
	_, err := l.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &b.queues.DeadLetterURL, ReceiptHandle: b.hands[messageID].message.ReceiptHandle})
	if err != nil {
		return fmt.Errorf("remove dead letter %s: %w", messageID, err)
	}
	delete(b.hands, messageID)
	return nil
}

// Close makes the received dead letters visible to other readers at once. Without it they are hidden for up to five
// minutes.
func (l *Letters) Close(ctx context.Context) error {
	var faults []error
	for _, b := range l.boxes {
		var entries []sqstypes.ChangeMessageVisibilityBatchRequestEntry
		for _, h := range b.hands {
			entries = append(entries, sqstypes.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(strconv.Itoa(len(entries))), ReceiptHandle: h.message.ReceiptHandle,
			})
		}
		clear(b.hands)
		for some := range slices.Chunk(entries, maxBatch) {
			if _, err := l.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &b.queues.DeadLetterURL, Entries: some}); err != nil {
				faults = append(faults, fmt.Errorf("release dead letters of %s: %w", b.fn.Name, err))
			}
		}
	}
	return errors.Join(faults...)
}
