// Package dynamoledger keeps ledger records in one DynamoDB table.
//
// The table has the string key "pk" and nothing else to it; the deployment makes it. An item is a record:
//
//	pk       the record's key; "freeze" and "breaker" are the two switches, "allow" and "deny" the two lists of desktops,
//	         "allow/…" and "deny/…" their pages; "epoch" names the very table, "control/…" are other small values
//	rev      its revision, one more with each put: the condition of every put
//	data     the record as JSON
//	put      a random text of the put that stored it
//	expires  when DynamoDB may remove it, in seconds since 1970: 400 days after its last put; all else than a record has none
//
// # Freshness
//
// Every read is strongly consistent, and every put is conditional on the revision that was read. A put whose answer was
// lost is sent again by the SDK and then finds itself in its own way; it is known by its random text, so a conflict is
// always somebody else's work.
package dynamoledger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"recompose/shared/ledger"
	"recompose/shared/permit"
)

// Keep is how long a record is kept after it was last put. The same command delivered later could act a second time,
// unless its time shows that it is too old; no queue keeps a message nearly as long.
const Keep = 400 * 24 * time.Hour

// maxItem is DynamoDB's limit of one item, names of attributes included.
const maxItem = 400 << 10

// Names of attributes.
const (
	attrKey, attrRevision, attrData, attrPut, attrExpires = "pk", "rev", "data", "put", "expires"
)

const (
	within   = 5 * time.Second // for one call of the store, where the context has no earlier end
	attempts = 4
	backoff  = 500 * time.Millisecond
)

// Options of a Store. Only Table is required.
type Options struct {
	Table       string
	Region      string                  // empty: AWS_REGION
	Endpoint    string                  // empty: AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL, else the region's
	Credentials aws.CredentialsProvider // nil: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN
	HTTPClient  *http.Client            // nil: the SDK's
	Now         func() time.Time        // nil: time.Now; decides when a record expires, and when a probe is due

	Worker string       // names this process where it finds that records are lost
	Log    *slog.Logger // nil: silent
}

// Store is a ledger.Store, a ledger.Switch and permit.Lists. Its methods may be used at the same time.
type Store struct {
	db     *dynamodb.Client
	table  string
	now    func() time.Time
	worker string
	log    *slog.Logger
	lists  held
	life   life
}

var (
	_ ledger.Store  = (*Store)(nil)
	_ ledger.Switch = (*Store)(nil)
	_ permit.Lists  = (*Store)(nil)
)

// New makes a store. It calls nothing, so a cold start does not wait for it; the error says which setting is missing.
func New(_ context.Context, o Options) (*Store, error) {
	first := func(given string, variables ...string) string {
		for _, v := range variables {
			if given == "" {
				given = os.Getenv(v)
			}
		}
		return given
	}
	o.Region = first(o.Region, "AWS_REGION", "AWS_DEFAULT_REGION")
	o.Endpoint = first(o.Endpoint, "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL")
	var faults []error
	if o.Table == "" {
		faults = append(faults, errors.New("the name of the table is missing"))
	}
	if o.Region == "" {
		faults = append(faults, errors.New("the AWS region is missing: AWS_REGION"))
	}
	if o.Credentials == nil {
		c := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
			SessionToken: os.Getenv("AWS_SESSION_TOKEN"), Source: "environment"}
		if !c.HasKeys() {
			faults = append(faults, errors.New("the AWS credentials are missing: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"))
		}
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("open the ledger: %w", errors.Join(faults...))
	}
	do := dynamodb.Options{Region: o.Region, Credentials: o.Credentials, Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = attempts, backoff // the SDK's own waits are longer than the time that one call has
	})}
	if o.Endpoint != "" {
		do.BaseEndpoint = &o.Endpoint
	}
	if o.HTTPClient != nil {
		do.HTTPClient = o.HTTPClient
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{db: dynamodb.New(do), table: o.Table, now: o.Now, worker: o.Worker, log: silent(o.Log)}, nil
}

// Get reads a record, strongly consistent. It blocks until there is an answer, at most five seconds or until ctx ends.
// The error is ledger.ErrNotFound by errors.Is if there is none.
func (s *Store) Get(ctx context.Context, key string) (ledger.Record, ledger.Revision, error) {
	var r ledger.Record
	rev, err := s.get(ctx, key, &r)
	if err != nil {
		return ledger.Record{}, 0, fmt.Errorf("read ledger record %s: %w", key, err)
	}
	return r, rev, nil
}

// Put stores a record in the place of the one with this revision; zero: of none. It blocks until DynamoDB has stored it,
// at most five seconds or until ctx ends.
//
// The error is ledger.ErrConflict by errors.Is if there is another record by now. After any other error the record may
// have been stored.
func (s *Store) Put(ctx context.Context, key string, r ledger.Record, old ledger.Revision) (ledger.Revision, error) {
	rev, err := s.put(ctx, key, r, old, s.now().Add(Keep))
	if err != nil {
		return 0, fmt.Errorf("write ledger record %s: %w", key, err)
	}
	return rev, nil
}

// get reads the JSON of an item.
func (s *Store) get(ctx context.Context, key string, v any) (ledger.Revision, error) {
	item, err := s.fetch(ctx, key)
	if err != nil {
		return 0, err
	}
	return item.rev, item.read(v)
}

// fetch is item with an end.
func (s *Store) fetch(ctx context.Context, key string) (item, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return s.item(ctx, key)
}

// errDamaged says that something stands in an item's place that is not what belongs there.
var errDamaged = errors.New("it is damaged")

// item is a stored item as it is read.
type item struct {
	rev       ledger.Revision
	data, put string
}

// read reads the JSON of an item.
func (i item) read(v any) error {
	if err := json.Unmarshal([]byte(i.data), v); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

func (s *Store) item(ctx context.Context, key string) (item, error) {
	out, err := s.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: &s.table, ConsistentRead: aws.Bool(true),
		Key: map[string]types.AttributeValue{attrKey: text(key)}})
	switch {
	case err != nil:
		return item{}, err
	case len(out.Item) == 0:
		return item{}, ledger.ErrNotFound
	}
	return parse(out.Item)
}

func parse(a map[string]types.AttributeValue) (item, error) {
	var i item
	number, ok := a[attrRevision].(*types.AttributeValueMemberN)
	data, isText := a[attrData].(*types.AttributeValueMemberS)
	if !ok || !isText {
		return i, fmt.Errorf("%w: something else stands in its place", errDamaged)
	}
	rev, err := strconv.ParseUint(number.Value, 10, 64)
	if err != nil || rev == 0 {
		return i, fmt.Errorf("%w: its revision is %q", errDamaged, number.Value)
	}
	i.rev, i.data, i.put = ledger.Revision(rev), data.Value, putOf(a)
	return i, nil
}

// put stores v as JSON in the place of the item with this revision. A zero time is never.
func (s *Store) put(ctx context.Context, key string, v any, old ledger.Revision, expires time.Time) (ledger.Revision, error) {
	values, err := encode(key, v, old+1, expires)
	if err != nil {
		return 0, err
	}
	if old == 0 {
		return s.store(ctx, values, nil)
	}
	return s.store(ctx, values, &is{attrRevision, number(old)})
}

// is is the condition that the item there is a certain one, by one of its attributes.
type is struct {
	attribute string
	value     types.AttributeValue
}

// expression is the condition as DynamoDB reads it. The placeholder is for a name that could become a reserved word.
func (c is) expression() (*string, map[string]string, map[string]types.AttributeValue) {
	return aws.String("#r = :r"), map[string]string{"#r": c.attribute}, map[string]types.AttributeValue{":r": c.value}
}

// store puts an item in the place of one, nil: of none. The error is ledger.ErrConflict by errors.Is if there is another.
func (s *Store) store(ctx context.Context, values map[string]types.AttributeValue, old *is) (ledger.Revision, error) {
	in := &dynamodb.PutItemInput{TableName: &s.table, Item: values}
	if old == nil {
		in.ConditionExpression = aws.String("attribute_not_exists(" + attrKey + ")")
	} else {
		in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = old.expression()
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := s.db.PutItem(ctx, in)
	if err == nil {
		mine, err := parse(values)
		return mine.rev, err
	}
	if _, refused := errors.AsType[*types.ConditionalCheckFailedException](err); !refused {
		return 0, err
	}
	there, err := s.item(ctx, keyOf(values))
	switch {
	case err == nil && there.put == putOf(values): // an earlier try of this very put was stored, and its answer lost
		return there.rev, nil
	case err != nil && !errors.Is(err, ledger.ErrNotFound):
		return 0, errors.Join(err, errors.New("and so it is not known whether it was stored"))
	}
	return 0, ledger.ErrConflict
}

// encode makes the item of v.
func encode(key string, v any, rev ledger.Revision, expires time.Time) (map[string]types.AttributeValue, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	a := map[string]types.AttributeValue{
		attrKey: text(key), attrRevision: number(rev), attrData: text(string(data)), attrPut: text(rand.Text()),
	}
	if !expires.IsZero() {
		a[attrExpires] = number(expires.Unix())
	}
	if n := size(a); n > maxItem {
		return nil, fmt.Errorf("it has %d bytes; DynamoDB's limit is 400 KB (%d bytes) an item", n, maxItem)
	}
	return a, nil
}

// putOf is the random text of the put that stored, or would store, an item.
func putOf(a map[string]types.AttributeValue) string {
	put, _ := a[attrPut].(*types.AttributeValueMemberS)
	if put == nil {
		return ""
	}
	return put.Value
}

func keyOf(a map[string]types.AttributeValue) string {
	key, _ := a[attrKey].(*types.AttributeValueMemberS)
	if key == nil {
		return ""
	}
	return key.Value
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
