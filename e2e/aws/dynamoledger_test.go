//go:build e2e

package aws_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/store"
	"recompose/shared/store/dynamostore"
	"recompose/shared/testkit/ledgertest"
	"recompose/shared/testkit/storetest"
)

const table = "recompose-ledger"

// place is a DynamoDB on disk with the table of template.yaml.
type place struct {
	dir string
	srv *server
}

func startPlace(t *testing.T) *place {
	t.Helper()
	p := &place{dir: filepath.Join(t.TempDir(), "db")}
	p.srv = startServer(t, "dynamodb", p.dir)
	createTable(t, p.srv.url)
	return p
}

func (p *place) Restart(t *testing.T) {
	p.srv.close(t)
	p.srv = startServer(t, "dynamodb", p.dir)
}

func (p *place) Open(t *testing.T) ledger.Store { return openLedger(t, p.srv.url) }

func openLedger(t *testing.T, url string) *dynamoledger.Store {
	t.Helper()
	s, err := dynamoledger.New(dynamoledger.Options{Options: dynamostore.Options{
		Config: aws.Config{Region: region, BaseEndpoint: &url, Credentials: credentials()}, Table: table,
	}})
	require.NoError(t, err)
	return s
}

// values is a place for values.
type values struct{ *place }

func (v values) Open(t *testing.T) store.Store { return openLedger(t, v.srv.url).Values() }

func (v values) Foreign(t *testing.T, key string) []func() {
	db := database(v.srv.url)
	var puts []func()
	for _, item := range []map[string]types.AttributeValue{
		{},
		{"rev": &types.AttributeValueMemberN{Value: "0"}, "data": &types.AttributeValueMemberS{Value: "{}"}},
		{"rev": &types.AttributeValueMemberS{Value: "1"}, "data": &types.AttributeValueMemberS{Value: "{}"}},
		{"rev": &types.AttributeValueMemberN{Value: "1"}},
	} {
		item["pk"] = &types.AttributeValueMemberS{Value: key}
		puts = append(puts, func() {
			_, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: item})
			require.NoError(t, err)
		})
	}
	return puts
}

func database(url string) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{Region: region, BaseEndpoint: &url, Credentials: credentials()})
}

func createTable(t *testing.T, url string) {
	t.Helper()
	db := database(url)
	_, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: aws.String(table), BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash}},
	})
	require.NoError(t, err)
	require.NoError(t, dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(table)}, time.Minute))
}

func TestStoreOnAnIndependentDynamoDB(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Place { return values{startPlace(t)} })
}

func TestLedgerOnAnIndependentDynamoDB(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Stores { return startPlace(t) })
}

// TestTheLimitOfAnItem shows that the ledger refuses what DynamoDB would refuse, and little else.
func TestTheLimitOfAnItem(t *testing.T) {
	t.Parallel()
	p := startPlace(t)
	s := p.Open(t)
	lo, hi := 300<<10, 500<<10 // length of a record's owner: the largest that is stored, the smallest that is refused
	for hi-lo > 1 {
		mid := (lo + hi) / 2
		_, rev, err := s.Get(t.Context(), "k")
		if err != nil {
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		if _, err = s.Put(t.Context(), "k", ledger.Record{Owner: strings.Repeat("x", mid)}, rev); err == nil {
			lo = mid
			continue
		}
		require.ErrorContains(t, err, "DynamoDB's limit is 400 KB", "refused by the ledger, not by DynamoDB")
		hi = mid
	}
	require.Greater(t, lo, 400<<10-500)
}

// TestARecreatedTableIsAnotherOne shows that DescribeTable returns another id or time for a recreated table.
func TestARecreatedTableIsAnotherOne(t *testing.T) {
	t.Parallel()
	p := startPlace(t)
	warm := openLedger(t, p.srv.url)
	require.NoError(t, warm.Fit(t.Context(), ""))
	old := warm.Epoch()
	db := database(p.srv.url)
	items, err := db.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(table)})
	require.NoError(t, err)
	require.Len(t, items.Items, 1)
	_, err = db.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String(table)})
	require.NoError(t, err)
	require.NoError(t, dynamodb.NewTableNotExistsWaiter(db, func(o *dynamodb.TableNotExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}).Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(table)}, time.Minute))
	createTable(t, p.srv.url)

	_, err = db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: items.Items[0]})
	require.NoError(t, err, "like a restored backup")
	require.ErrorContains(t, openLedger(t, p.srv.url).Fit(t.Context(), ""), "it is a restored copy")
	require.ErrorIs(t, warm.Fit(t.Context(), old), ledger.ErrLost)
	require.NoError(t, openLedger(t, p.srv.url).Accept(t.Context()))
	require.NoError(t, warm.Fit(t.Context(), old))
}
