// Package dynamostore keeps values in one DynamoDB table.
//
// The table has the string key "pk" and nothing else to it; the deployment makes it. An item is a value:
//
//	pk       its key
//	rev      its revision, one more with each put: the condition of every put
//	data     the value, a JSON text
//	put      a random text of the put that stored it
//	expires  when DynamoDB may remove it, in seconds since 1970; most have none
//
// An item without one of the first three is damaged.
//
// # Freshness
//
// Every read is strongly consistent, and every put is conditional on the revision that was read. A put whose answer was
// lost is sent once more by the SDK and then finds itself in its own way; it is known by its random text, so a conflict is
// always another process's work.
package dynamostore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"recompose/shared/store"
)

// maxItem is DynamoDB's limit of one item, names of attributes included.
const maxItem = 400 << 10

// Names of attributes.
const (
	attrKey, attrRevision, attrData, attrPut, attrExpires = "pk", "rev", "data", "put", "expires"
)

const (
	within   = 5 * time.Second // for one call, where the context has no earlier end
	attempts = 4
	backoff  = 500 * time.Millisecond // the SDK's own waits after a throttled attempt are longer than one call has
)

// noRevision is the revision of a damaged item that has none: it is replaced whatever it is by then.
const noRevision = store.Revision(math.MaxUint64)

// Options of a Store.
type Options struct {
	Config aws.Config       // the region and the credentials, required
	Table  string           // required
	Now    func() time.Time // nil: time.Now
}

// Store is a store.Store.
type Store struct {
	db    *dynamodb.Client
	table string
	now   func() time.Time
}

var _ store.Store = (*Store)(nil)

// New makes a store. It calls nothing, so a cold start does not wait for it; the error names what is missing.
func New(o Options) (*Store, error) {
	var faults []error
	if o.Table == "" {
		faults = append(faults, errors.New("the name of the table is missing"))
	}
	if o.Config.Region == "" {
		faults = append(faults, errors.New("the AWS region is missing"))
	}
	if o.Config.Credentials == nil {
		faults = append(faults, errors.New("the AWS credentials are missing"))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	db := dynamodb.NewFromConfig(o.Config, func(d *dynamodb.Options) {
		d.Retryer = retry.NewStandard(func(r *retry.StandardOptions) { r.MaxAttempts, r.MaxBackoff = attempts, backoff })
	})
	return &Store{db: db, table: o.Table, now: o.Now}, nil
}

// Table is the name of the table.
func (s *Store) Table() string { return s.table }

// TableID names the very table: one that is made anew under the same name has another. It blocks until there is an
// answer, at most five seconds or until ctx ends.
func (s *Store) TableID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	out, err := s.db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &s.table})
	if err != nil {
		return "", fmt.Errorf("describe table %s: %w", s.table, err)
	}
	if id := aws.ToString(out.Table.TableId); id != "" {
		return id, nil
	}
	return aws.ToTime(out.Table.CreationDateTime).UTC().Format(time.RFC3339Nano), nil
}

// Get reads a value, strongly consistent. It blocks until there is an answer, at most five seconds or until ctx ends.
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	i, err := s.item(ctx, key)
	if err != nil {
		return nil, i.rev, fmt.Errorf("read %s: %w", key, err)
	}
	return []byte(i.data), i.rev, nil
}

// GetAll is Get of several keys in one call. A key that DynamoDB leaves out of its answer for want of throughput is read by
// itself.
func (s *Store) GetAll(ctx context.Context, keys ...string) []store.Value {
	call, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	values := make([]store.Value, len(keys))
	found, unread, err := s.items(call, keys)
	for i, key := range keys {
		v := &values[i]
		if unread[key] {
			v.Data, v.Revision, v.Err = s.Get(ctx, key)
			continue
		}
		is, why := item{}, err
		if err == nil {
			is, why = parse(found[key])
		}
		v.Data, v.Revision = []byte(is.data), is.rev
		if why != nil {
			v.Data, v.Err = nil, fmt.Errorf("read %s: %w", key, why)
		}
	}
	return values
}

// items reads several items, strongly consistent, by their keys. unread are those that the answer leaves out.
func (s *Store) items(ctx context.Context, keys []string) (found map[string]attributes, unread map[string]bool, err error) {
	ask := types.KeysAndAttributes{ConsistentRead: aws.Bool(true)}
	for _, key := range keys {
		ask.Keys = append(ask.Keys, attributes{attrKey: text(key)})
	}
	out, err := s.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{s.table: ask}})
	if err != nil {
		return nil, nil, err
	}
	found, unread = map[string]attributes{}, map[string]bool{}
	for _, i := range out.Responses[s.table] {
		found[attributes(i).text(attrKey)] = i
	}
	for _, i := range out.UnprocessedKeys[s.table].Keys {
		unread[attributes(i).text(attrKey)] = true
	}
	return found, unread, nil
}

// Put stores a value in the place of the one with this revision; zero: of none. It never expires. It blocks until
// DynamoDB has stored it, at most five seconds or until ctx ends.
func (s *Store) Put(ctx context.Context, key string, value []byte, old store.Revision) (store.Revision, error) {
	return s.PutUntil(ctx, key, value, old, time.Time{})
}

// PutUntil is Put of a value that DynamoDB may remove at a time; zero: never.
func (s *Store) PutUntil(ctx context.Context, key string, value []byte, old store.Revision, expires time.Time) (store.Revision, error) {
	rev, err := s.put(ctx, key, value, old, expires)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return rev, nil
}

func (s *Store) put(ctx context.Context, key string, value []byte, old store.Revision, expires time.Time) (store.Revision, error) {
	rev := old + 1
	if old == 0 || old == noRevision { // no revision of a value that was deleted may come again
		rev = store.Revision(max(s.now().UnixMicro(), 1))
	}
	item := map[string]types.AttributeValue{
		attrKey: text(key), attrRevision: number(rev), attrData: text(string(value)), attrPut: text(rand.Text()),
	}
	if !expires.IsZero() {
		item[attrExpires] = number(expires.Unix())
	}
	if n := size(item); n > maxItem {
		return 0, fmt.Errorf("it has %d bytes; DynamoDB's limit is 400 KB (%d bytes) an item", n, maxItem)
	}
	in := &dynamodb.PutItemInput{TableName: &s.table, Item: item}
	switch old {
	case 0:
		in.ConditionExpression = aws.String("attribute_not_exists(" + attrKey + ")")
	case noRevision:
	default:
		in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = has(old)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := s.db.PutItem(ctx, in)
	if err == nil {
		return rev, nil
	}
	if !refused(err) {
		return 0, err
	}
	there, err := s.item(ctx, key)
	switch {
	case err == nil && there.put == attributes(item).text(attrPut): // an earlier try of this very put was stored, and its answer lost
		return rev, nil
	case err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged):
		return 0, errors.Join(err, errors.New("and so it is not known whether it was stored"))
	}
	return 0, store.ErrConflict
}

// Delete removes the value with this revision. It blocks as Put does.
func (s *Store) Delete(ctx context.Context, key string, old store.Revision) error {
	in := &dynamodb.DeleteItemInput{TableName: &s.table, Key: map[string]types.AttributeValue{attrKey: text(key)}}
	if old != noRevision {
		in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = has(old)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := s.db.DeleteItem(ctx, in)
	if refused(err) { // it is another one, or gone: perhaps by an earlier try of this very call, whose answer was lost
		if _, err = s.item(ctx, key); err == nil || errors.Is(err, store.ErrDamaged) {
			err = store.ErrConflict
		}
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

func refused(err error) bool {
	_, is := errors.AsType[*types.ConditionalCheckFailedException](err)
	return is
}

// has is the condition that the item there has a revision. The placeholder is for a name that could become reserved.
func has(rev store.Revision) (*string, map[string]string, map[string]types.AttributeValue) {
	return aws.String("#r = :r"), map[string]string{"#r": attrRevision}, map[string]types.AttributeValue{":r": number(rev)}
}

// item is a stored item.
type item struct {
	rev  store.Revision
	data string
	put  string // the random text of the put that stored it
}

func (s *Store) item(ctx context.Context, key string) (item, error) {
	out, err := s.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{attrKey: text(key)}})
	if err != nil {
		return item{}, err
	}
	return parse(out.Item)
}

func parse(a attributes) (item, error) {
	if len(a) == 0 {
		return item{}, store.ErrNotFound
	}
	i := item{rev: noRevision, put: a.text(attrPut)}
	n, isNumber := a[attrRevision].(*types.AttributeValueMemberN)
	data, isText := a[attrData].(*types.AttributeValueMemberS)
	if isNumber {
		if rev, err := strconv.ParseUint(n.Value, 10, 64); err == nil && rev > 0 {
			i.rev = store.Revision(rev)
		}
	}
	if !isText || i.rev == noRevision {
		return i, fmt.Errorf("%w: it has no %s and %s", store.ErrDamaged, attrRevision, attrData)
	}
	i.data = data.Value
	return i, nil
}

// attributes are those of an item by their names.
type attributes map[string]types.AttributeValue

func (a attributes) text(name string) string {
	value, _ := a[name].(*types.AttributeValueMemberS)
	if value == nil {
		return ""
	}
	return value.Value
}

func text(s string) *types.AttributeValueMemberS { return &types.AttributeValueMemberS{Value: s} }

func number[N ~int64 | ~uint64](n N) *types.AttributeValueMemberN {
	return &types.AttributeValueMemberN{Value: fmt.Sprint(n)}
}

// size is how large DynamoDB counts an item, or a little more.
func size(a map[string]types.AttributeValue) int {
	n := 0
	for name, v := range a {
		n += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			n += len(v.Value)
		case *types.AttributeValueMemberN:
			n += len(v.Value)/2 + 2
		}
	}
	return n
}
