package dynamoledger_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// item is an item of a table in DynamoDB's JSON.
type item map[string]map[string]string

// fake is a DynamoDB with one table that knows the three calls of the ledger and the two conditions of its puts.
type fake struct {
	*httptest.Server

	mu    sync.Mutex // of what is below
	items map[string]item
	calls []string // in order

	lose  int    // so many puts are stored and answered with 500
	fail  int    // so many calls are refused with 500
	crash string // what stands in for every answer to a read
}

func startFake(t *testing.T) *fake {
	f := &fake{items: map[string]item{}}
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
		there, exists := f.items[c.Item["pk"]["S"]]
		var holds bool
		switch c.ConditionExpression {
		case "":
			holds = true
		case "attribute_not_exists(pk)":
			holds = !exists
		case "#r = :r":
			holds = exists && there[c.ExpressionAttributeNames["#r"]]["N"] == c.ExpressionAttributeValues[":r"]["N"]
		default:
			refuse(w, http.StatusBadRequest, "ValidationException", "unknown condition "+c.ConditionExpression)
			return
		}
		if !holds {
			refuse(w, http.StatusBadRequest, "ConditionalCheckFailedException", "The conditional request failed")
			return
		}
		f.items[c.Item["pk"]["S"]] = c.Item
		if f.lose > 0 {
			f.lose--
			refuse(w, http.StatusInternalServerError, "InternalServerError", "stored, on purpose")
			return
		}
		_, _ = io.WriteString(w, "{}")
	case "DeleteItem":
		delete(f.items, c.Key["pk"]["S"])
		_, _ = io.WriteString(w, "{}")
	default:
		refuse(w, http.StatusBadRequest, "UnknownOperationException", name)
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"__type": "com.amazonaws.dynamodb.v20120810#%s", "message": %q}`, code, message)
}
