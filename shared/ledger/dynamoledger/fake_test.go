package dynamoledger_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// item is an item of a table in DynamoDB's JSON.
type item map[string]map[string]string

// fake is a DynamoDB with one table that knows the calls of the ledger and the two conditions of its puts.
type fake struct {
	*httptest.Server

	mu    sync.Mutex // of what is below
	id    string     // of the table
	items map[string]item
	calls []string // in order

	lose   int                       // so many writes are done and answered with 500
	fail   int                       // so many calls are refused with 500
	before func(name string, c call) // is told of each call first

	crash string // what stands in for every answer to a read
}

func startFake(t *testing.T) *fake {
	f := &fake{id: "t1", items: map[string]item{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

type call struct {
	TableName                 string
	ConsistentRead            bool
	Key, Item                 item
	ConditionExpression       string
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues item
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")
	body, err := io.ReadAll(r.Body)
	var c call
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if f.before != nil {
		f.before(name, c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, name)
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "SerializationException", err.Error())
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=id/"):
		refuse(w, http.StatusBadRequest, "MissingAuthenticationTokenException", "not signed")
	case c.TableName != "ledger":
		refuse(w, http.StatusBadRequest, "ResourceNotFoundException", "Requested resource not found")
	case f.fail > 0:
		f.fail--
		refuse(w, http.StatusInternalServerError, "InternalServerError", "on purpose")
	default:
		f.serve(w, name, c)
	}
}

func (f *fake) serve(w http.ResponseWriter, name string, c call) {
	switch name {
	case "DescribeTable":
		_, _ = fmt.Fprintf(w, `{"Table": {"TableName": "ledger", "TableId": %q}}`, f.id)
	case "GetItem":
		if !c.ConsistentRead {
			refuse(w, http.StatusBadRequest, "ValidationException", "this fake answers consistent reads only")
			return
		}
		if f.crash != "" {
			_, _ = io.WriteString(w, f.crash)
			return
		}
		answer := map[string]item{}
		if there, ok := f.items[c.Key["pk"]["S"]]; ok {
			answer["Item"] = there
		}
		_ = json.NewEncoder(w).Encode(answer)
	case "PutItem":
		if !f.holds(w, c, c.Item["pk"]["S"]) {
			return
		}
		f.items[c.Item["pk"]["S"]] = c.Item
		f.answer(w)
	case "DeleteItem":
		if !f.holds(w, c, c.Key["pk"]["S"]) {
			return
		}
		delete(f.items, c.Key["pk"]["S"])
		f.answer(w)
	default:
		refuse(w, http.StatusBadRequest, "UnknownOperationException", name)
	}
}

// answer answers a write that was done, or loses the answer.
func (f *fake) answer(w http.ResponseWriter) {
	if f.lose > 0 {
		f.lose--
		refuse(w, http.StatusInternalServerError, "InternalServerError", "stored, on purpose")
		return
	}
	_, _ = io.WriteString(w, "{}")
}

// holds tells whether the condition of a write holds, and refuses the write if not.
func (f *fake) holds(w http.ResponseWriter, c call, key string) bool {
	there, exists := f.items[key]
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
	_, _ = fmt.Fprintf(w, `{"__type": "com.amazonaws.dynamodb.v20120810#%s", "message": %q}`, code, message)
}
