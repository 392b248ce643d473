// Package awstest serves the part of AWS that recompose uses, in this process and over HTTP, for tests: queues, a
// topic, a table of items, secrets and stacks. The real clients talk to it. It refuses what the services refuse, as
// far as recompose could cause it: messages that are too large or have characters that are not allowed, more than ten
// attributes, delays over 900 seconds. It checks no signatures. A Mapping simulates Lambda's event source mapping, and
// a Runtime its API.
package awstest

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Account and Region are those of all resources.
const (
	Account = "000000000000"
	Region  = "us-east-1"
)

// Server is SQS, SNS, DynamoDB, Secrets Manager and CloudFormation. It is safe for concurrent use.
type Server struct {
	URL string

	http *httptest.Server

	mu        sync.Mutex
	queues    map[string]*box
	topic     topic
	tables    map[string]map[string]item
	remade    int // how often tables were recreated
	secrets   map[string]string
	stacks    map[string]Stack
	calls     map[string]int
	faults    func(action string, n int) int
	connected map[string]bool
	number    int
}

// New starts a server; the caller closes it.
func New() *Server {
	s := &Server{
		queues: map[string]*box{}, tables: map[string]map[string]item{}, secrets: map[string]string{}, stacks: map[string]Stack{}, calls: map[string]int{},
		connected: map[string]bool{}, topic: topic{subscriptions: map[string]*subscription{}},
	}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = s.http.URL
	return s
}

// Close stops serving.
func (s *Server) Close() { s.http.Close() }

// Reopen starts serving once more, at another address, with all stored data.
func (s *Server) Reopen() {
	s.http.Close()
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = s.http.URL
}

// Fail sets a function that decides on each call. It gets the action and the number of the call, counted from 1, and
// returns the HTTP status to answer with; 0 lets the call through. A nil function lets every call through.
func (s *Server) Fail(status func(action string, n int) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = status
}

// Calls counts the calls so far of an action such as SendMessage.
func (s *Server) Calls(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[action]
}

// Connections counts the connections so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connected)
}

// SetSecret stores a secret under its ARN.
func (s *Server) SetSecret(arn, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[arn] = value
}

// fault is an error in the form of the services.
type fault struct {
	status        int
	code, message string
}

func refuse(code, message string) *fault { return &fault{http.StatusBadRequest, code, message} }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err != nil {
		return
	}
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ReceiveMessage") {
		s.await(r.Context(), body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected[r.RemoteAddr] = true
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, action, _ := strings.Cut(target, ".")
		answer, f := s.call(action, func() (any, *fault) { return s.json(action, body) })
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		if f != nil {
			w.WriteHeader(f.status)
			answer = map[string]string{"__type": f.code, "message": f.message}
		}
		_ = json.NewEncoder(w).Encode(answer)
		return
	}
	action, form := query(body)
	answer, f := s.call(action, func() (any, *fault) { return s.form(action, form) })
	w.Header().Set("Content-Type", "text/xml")
	if f != nil {
		w.WriteHeader(f.status)
		sender := "Sender"
		if f.status >= http.StatusInternalServerError {
			sender = "Receiver"
		}
		answer = struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Error   any      `xml:"Error"`
		}{Error: struct{ Type, Code, Message string }{sender, f.code, f.message}}
	}
	_ = xml.NewEncoder(w).Encode(answer)
}

// form answers a call of a service that uses forms and XML.
func (s *Server) form(action string, form url.Values) (any, *fault) {
	switch action {
	case "Subscribe":
		return s.subscribe(form)
	case "Unsubscribe":
		return s.unsubscribe(form)
	case "DescribeStacks":
		return s.describeStacks(form)
	default:
		return s.publishBatch(form)
	}
}

// call counts a call and makes it fail if Fail requires it.
func (s *Server) call(action string, do func() (any, *fault)) (any, *fault) {
	s.calls[action]++
	if s.faults != nil {
		if status := s.faults(action, s.calls[action]); status != 0 {
			return nil, &fault{status, "InternalFailure", "injected fault"}
		}
	}
	return do()
}

func (s *Server) json(action string, body []byte) (any, *fault) {
	switch action {
	case "SendMessage":
		return s.sendMessage(body)
	case "ChangeMessageVisibilityBatch":
		return s.changeVisibility(body)
	case "CreateQueue", "DeleteQueue", "GetQueueAttributes", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch":
		return s.byHand(action, body)
	case "DescribeTable":
		return s.describeTable(body)
	case "GetItem":
		return s.getItem(body)
	case "BatchGetItem":
		return s.batchGetItem(body)
	case "PutItem":
		return s.putItem(body)
	case "DeleteItem":
		return s.deleteItem(body)
	case "GetSecretValue":
		return s.getSecret(body)
	default:
		return nil, refuse("UnknownOperationException", action)
	}
}

func (s *Server) getSecret(body []byte) (any, *fault) {
	var in struct {
		SecretID string `json:"SecretId"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, refuse("SerializationException", err.Error())
	}
	value, ok := s.secrets[in.SecretID]
	if !ok {
		return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	return map[string]any{"ARN": in.SecretID, "Name": "recompose", "VersionId": "1", "SecretString": value, "CreatedDate": time.Now().Unix()}, nil
}
