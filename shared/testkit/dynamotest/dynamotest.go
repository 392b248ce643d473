// Package dynamotest is a DynamoDB with one table in memory, for tests that inspect each call.
package dynamotest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Item is an item of a table in DynamoDB's JSON.
type Item map[string]map[string]string

// Fake is a DynamoDB with the table "ledger". It supports the calls of the store and the two conditions of its puts.
type Fake struct {
	*httptest.Server

	mu    sync.Mutex // guards the fields below
	ID    string     // of the table
	Items map[string]Item
	Calls []string // in order

	Lose     int                       // number of writes that are stored and answered with 500
	Fail     int                       // number of calls that are refused with 500
	Before   func(name string, c Call) // runs before each call
	ReadOnly bool                      // the role of the function may not write

	Answer string // replaces every answer to a read
	Leave  string // a key that BatchGetItem returns as unprocessed, so that the client requests it once more
}

// Start starts a Fake, which ends with the test.
func Start(t *testing.T) *Fake {
	f := &Fake{ID: "t1", Items: map[string]Item{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// Config returns the configuration of a client of this server.
func (f *Fake) Config() aws.Config {
	return aws.Config{
		Region: "eu-central-1", BaseEndpoint: &f.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	}
}

// Call is a call of a client.
type Call struct {
	TableName                 string
	ConsistentRead            bool
	Key, Item                 Item
	RequestItems              map[string]*Keys
	ConditionExpression       string
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues Item
}

// Keys are the requested keys of one table.
type Keys struct {
	ConsistentRead bool
	Keys           []Item
}

func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")
	body, err := io.ReadAll(r.Body)
	var c Call
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if batch := c.RequestItems["ledger"]; batch != nil {
		c.TableName, c.ConsistentRead = "ledger", batch.ConsistentRead
	}
	if f.Before != nil {
		f.Before(name, c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Calls = append(f.Calls, name)
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "SerializationException", err.Error())
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=id/"):
		refuse(w, http.StatusBadRequest, "MissingAuthenticationTokenException", "not signed")
	case c.TableName != "ledger":
		refuse(w, http.StatusBadRequest, "ResourceNotFoundException", "Requested resource not found")
	case f.Fail > 0:
		f.Fail--
		refuse(w, http.StatusInternalServerError, "InternalServerError", "on purpose")
	case f.ReadOnly && name == "PutItem":
		refuse(w, http.StatusBadRequest, "AccessDeniedException", "not authorized to perform dynamodb:PutItem")
	default:
		f.serve(w, name, c)
	}
}

func (f *Fake) serve(w http.ResponseWriter, name string, c Call) {
	switch name {
	case "DescribeTable":
		_, _ = fmt.Fprintf(w, `{"Table": {"TableName": "ledger", "TableId": %q}}`, f.ID)
	case "GetItem":
		if !c.ConsistentRead {
			refuse(w, http.StatusBadRequest, "ValidationException", "this fake answers consistent reads only")
			return
		}
		if f.Answer != "" {
			_, _ = io.WriteString(w, f.Answer)
			return
		}
		answer := map[string]Item{}
		if there, ok := f.Items[c.Key["pk"]["S"]]; ok {
			answer["Item"] = there
		}
		_ = json.NewEncoder(w).Encode(answer)
	case "BatchGetItem":
		f.several(w, c.RequestItems["ledger"])
	case "PutItem":
		if !f.holds(w, c, c.Item["pk"]["S"]) {
			return
		}
		f.Items[c.Item["pk"]["S"]] = c.Item
		f.answer(w)
	case "DeleteItem":
		if !f.holds(w, c, c.Key["pk"]["S"]) {
			return
		}
		delete(f.Items, c.Key["pk"]["S"])
		f.answer(w)
	default:
		refuse(w, http.StatusBadRequest, "UnknownOperationException", name)
	}
}

// several answers a read of several keys, in another order.
func (f *Fake) several(w http.ResponseWriter, batch *Keys) {
	switch {
	case !batch.ConsistentRead:
		refuse(w, http.StatusBadRequest, "ValidationException", "this fake answers consistent reads only")
		return
	case f.Answer != "":
		_, _ = io.WriteString(w, f.Answer)
		return
	}
	found, left := []Item{}, &Keys{ConsistentRead: true}
	for _, key := range slices.Backward(batch.Keys) {
		there, ok := f.Items[key["pk"]["S"]]
		switch {
		case key["pk"]["S"] == f.Leave:
			left.Keys = append(left.Keys, key)
		case ok:
			found = append(found, there)
		}
	}
	unprocessed := map[string]*Keys{}
	if len(left.Keys) > 0 {
		unprocessed["ledger"] = left
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Responses": map[string][]Item{"ledger": found}, "UnprocessedKeys": unprocessed})
}

// answer answers a write that was stored, or loses the answer.
func (f *Fake) answer(w http.ResponseWriter) {
	if f.Lose > 0 {
		f.Lose--
		refuse(w, http.StatusInternalServerError, "InternalServerError", "stored, on purpose")
		return
	}
	_, _ = io.WriteString(w, "{}")
}

// holds reports whether the condition of a write holds, and refuses the write if it does not.
func (f *Fake) holds(w http.ResponseWriter, c Call, key string) bool {
	there, exists := f.Items[key]
	holds := true
	switch c.ConditionExpression {
	case "":
	case "attribute_not_exists(pk)":
		holds = !exists
	case "#r = :r":
		holds = exists && maps.Equal(there[c.ExpressionAttributeNames["#r"]], c.ExpressionAttributeValues[":r"])
	default:
		refuse(w, http.StatusBadRequest, "ValidationException", "unknown condition "+c.ConditionExpression)
		return false
	}
	if !holds {
		refuse(w, http.StatusBadRequest, "ConditionalCheckFailedException", "The conditional request failed")
	}
	return holds
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": message})
}
