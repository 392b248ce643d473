package awstest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

type item map[string]json.RawMessage

type itemCall struct {
	TableName                 string
	Key                       item
	Item                      item
	ConditionExpression       string
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues item
	RequestItems              map[string]struct{ Keys []item }
}

func key(i item) string { return string(i["pk"]) }

func (s *Server) itemCall(body []byte) (itemCall, map[string]item, *fault) {
	var in itemCall
	if err := json.Unmarshal(body, &in); err != nil {
		return in, nil, refuse("SerializationException", err.Error())
	}
	if s.tables[in.TableName] == nil {
		s.tables[in.TableName] = map[string]item{}
	}
	return in, s.tables[in.TableName], nil
}

func (s *Server) describeTable(body []byte) (any, *fault) {
	in, _, f := s.itemCall(body)
	if f != nil {
		return nil, f
	}
	return map[string]any{"Table": map[string]any{"TableName": in.TableName, "TableId": fmt.Sprint(in.TableName, "-", s.remade)}}, nil
}

// Empty removes all items of a table.
func (s *Server) Empty(table string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tables, table)
}

// Remake recreates the tables with their items: DescribeTable then returns other ids. A table that was restored from a
// backup looks like this, and so does an empty one that was deleted and recreated.
func (s *Server) Remake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remade++
}

func (s *Server) getItem(body []byte) (any, *fault) {
	in, table, f := s.itemCall(body)
	if f != nil {
		return nil, f
	}
	if found := table[key(in.Key)]; found != nil {
		return map[string]any{"Item": found}, nil
	}
	return map[string]any{}, nil
}

func (s *Server) batchGetItem(body []byte) (any, *fault) {
	in, _, f := s.itemCall(body)
	if f != nil {
		return nil, f
	}
	found := map[string][]item{}
	for table, wanted := range in.RequestItems {
		found[table] = []item{}
		if len(wanted.Keys) > 100 {
			return nil, refuse("ValidationException", "Too many items requested for the BatchGetItem call")
		}
		seen := map[string]bool{}
		for _, k := range wanted.Keys {
			if seen[key(k)] {
				return nil, refuse("ValidationException", "Provided list of item keys contains duplicates")
			}
			seen[key(k)] = true
			if i := s.tables[table][key(k)]; i != nil {
				found[table] = append(found[table], i)
			}
		}
	}
	return map[string]any{"Responses": found}, nil
}

// met reports whether a condition holds. It supports the two conditions of the ledger: there is no item, or its
// revision is :r.
func (in itemCall) met(found item) *fault {
	met := true
	switch in.ConditionExpression {
	case "":
	case "attribute_not_exists(pk)":
		met = found == nil
	case "#r = :r":
		met = found != nil && string(found[in.ExpressionAttributeNames["#r"]]) == string(in.ExpressionAttributeValues[":r"])
	default:
		return refuse("com.amazonaws.dynamodb.v20120810#ValidationException", in.ConditionExpression)
	}
	if !met {
		return &fault{http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "The conditional request failed"}
	}
	return nil
}

func (s *Server) putItem(body []byte) (any, *fault) {
	in, table, f := s.itemCall(body)
	if f == nil {
		f = in.met(table[key(in.Item)])
	}
	if f != nil {
		return nil, f
	}
	table[key(in.Item)] = in.Item
	return map[string]any{}, nil
}

func (s *Server) deleteItem(body []byte) (any, *fault) {
	in, table, f := s.itemCall(body)
	if f == nil {
		f = in.met(table[key(in.Key)])
	}
	if f != nil {
		return nil, f
	}
	delete(table, key(in.Key))
	return map[string]any{}, nil
}

// Items counts the items of a table.
func (s *Server) Items(table string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tables[table])
}
