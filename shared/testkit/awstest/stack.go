package awstest

import (
	"encoding/xml"
	"maps"
	"net/url"
	"slices"
)

// Stack is what CloudFormation returns about a deployed template.
type Stack struct{ Parameters, Outputs map[string]string }

// SetStack deploys a stack.
func (s *Server) SetStack(name string, stack Stack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stacks[name] = stack
}

func (s *Server) describeStacks(form url.Values) (any, *fault) {
	stack, ok := s.stacks[form.Get("StackName")]
	if !ok {
		return nil, refuse("ValidationError", "Stack with id "+form.Get("StackName")+" does not exist")
	}
	type parameter struct{ ParameterKey, ParameterValue string }
	type output struct{ OutputKey, OutputValue string }
	type member struct {
		StackName, StackStatus, CreationTime string
		Parameters                           []parameter `xml:"Parameters>member"`
		Outputs                              []output    `xml:"Outputs>member"`
	}
	m := member{StackName: form.Get("StackName"), StackStatus: "CREATE_COMPLETE", CreationTime: "2026-01-15T08:30:00Z"}
	for _, k := range slices.Sorted(maps.Keys(stack.Parameters)) {
		m.Parameters = append(m.Parameters, parameter{k, stack.Parameters[k]})
	}
	for _, k := range slices.Sorted(maps.Keys(stack.Outputs)) {
		m.Outputs = append(m.Outputs, output{k, stack.Outputs[k]})
	}
	return struct {
		XMLName xml.Name `xml:"DescribeStacksResponse"`
		Stacks  []member `xml:"DescribeStacksResult>Stacks>member"`
	}{Stacks: []member{m}}, nil
}
