// Package dynamostore keeps values in one DynamoDB table.
//
// The table has only the string key "pk"; the deployment creates it. An item is a value:
//
//	pk       its key
//	rev      its revision, one more with each put: the condition of every put
//	data     the value, a JSON text
//	put      a random text of the put that stored it
//	expires  when DynamoDB may remove it, in seconds since 1970; most have none
//
// An item without key, revision or value is damaged.
//
// # Freshness
//
// Every read is strongly consistent, and every put is conditional on the revision that was read. If the answer of a
// put is lost, the SDK sends the put once more, and the second attempt conflicts with the first. The store recognizes
// its own put by the random text, so a conflict is always another process's change. If that process has already replaced
// the value of the first attempt, the put conflicts although its value was stored for a while.
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

// maxItem is DynamoDB's limit of one item, including the names of attributes.
const maxItem = 400 << 10

// Names of attributes.
const (
	attrKey, attrRevision, attrData, attrPut, attrExpires = "pk", "rev", "data", "put", "expires"
)

const (
	within   = 5 * time.Second // for one call, unless the context ends earlier
	attempts = 4
	backoff  = 500 * time.Millisecond // the SDK's default waits after a throttled attempt are longer than the timeout of one call
)

// noRevision is the revision of a damaged item that has none: a put replaces it whatever it holds.
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

// New makes a store. It makes no call, so a cold start does not wait for it; the error names the missing setting.
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

// Table returns the name of the table.
func (s *Store) Table() string { return s.table }

// TableID identifies one table: a table that is recreated under the same name has another id. It blocks for at most
// five seconds or until ctx ends.
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

// Get reads a value with a strongly consistent read. It blocks for at most five seconds or until ctx ends.
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	i, err := s.item(ctx, key)
	if err != nil {
		return nil, i.rev, fmt.Errorf("read %s: %w", key, err)
	}
	return []byte(i.data), i.rev, nil
}

// GetAll is Get of several keys in one call. A key that DynamoDB leaves unprocessed because of low throughput is read
// separately.
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
		stored, why := item{}, err
		if err == nil {
			stored, why = parse(found[key])
		}
		v.Data, v.Revision = []byte(stored.data), stored.rev
		if why != nil {
			v.Data, v.Err = nil, fmt.Errorf("read %s: %w", key, why)
		}
	}
	return values
}

// items reads several items by their keys, strongly consistent. unread are the keys that the answer leaves
// unprocessed.
func (s *Store) items(ctx context.Context, keys []string) (found map[string]attributes, unread map[string]bool, err error) {
	request := types.KeysAndAttributes{ConsistentRead: aws.Bool(true)}
	for _, key := range keys {
		request.Keys = append(request.Keys, attributes{attrKey: text(key)})
	}
	out, err := s.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{s.table: request}})
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

// Put stores a value that replaces the one with this revision; zero: there must be none. It never expires. It blocks
// until DynamoDB has stored it, for at most five seconds or until ctx ends.
func (s *Store) Put(ctx context.Context, key string, value []byte, old store.Revision) (store.Revision, error) {
	return s.PutUntil(ctx, key, value, old, time.Time{})
}

// PutUntil is Put of a value that DynamoDB may remove after a time; zero: never.
func (s *Store) PutUntil(ctx context.Context, key string, value []byte, old store.Revision, expires time.Time) (store.Revision, error) {
	rev, err := s.put(ctx, key, value, old, expires)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return rev, nil
}

func (s *Store) put(ctx context.Context, key string, value []byte, old store.Revision, expires time.Time) (store.Revision, error) {
	rev := old + 1
	if old == 0 || old == noRevision { // a revision of a deleted value must never be reused
		rev = store.Revision(max(s.now().UnixMicro(), 1))
	}
	item := map[string]types.AttributeValue{
		attrKey: text(key), attrRevision: number(rev), attrData: text(string(value)), attrPut: text(rand.Text()),
	}
	if !expires.IsZero() {
		item[attrExpires] = number(expires.Unix())
	}
	if n := size(item); n > maxItem {
		return 0, fmt.Errorf("it has %d bytes; DynamoDB's limit is 400 KB (%d bytes) for an item", n, maxItem)
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
	case err == nil && there.put == attributes(item).text(attrPut): // an earlier attempt of this put was stored, and its answer was lost
		return rev, nil
	case err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged):
		return 0, errors.Join(err, errors.New("it is unknown whether the value was stored"))
	}
	return 0, store.ErrConflict
}

// Delete removes the value with this revision. It blocks like Put.
func (s *Store) Delete(ctx context.Context, key string, old store.Revision) error {
	in := &dynamodb.DeleteItemInput{TableName: &s.table, Key: map[string]types.AttributeValue{attrKey: text(key)}}
	if old != noRevision {
		in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = has(old)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := s.db.DeleteItem(ctx, in)
	if refused(err) { // another value or none, perhaps after an earlier attempt of this call whose answer was lost
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
	_, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
	return ok
}

// has is the condition that the stored item has a revision. The placeholder avoids a name that could become reserved.
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

// attributes are the attributes of an item by name.
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

// size estimates the size of an item by DynamoDB's rules, never too low.
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
