//go:build e2e

package aws_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// The template is checked against the resource schemas of AWS and the rules of its linter, which are in a package of
// AWS. That package knows plain CloudFormation, so the test first expands the functions of SAM: see plain.

type object = map[string]any

// finding is an error that validate.mjs reports.
type finding struct{ Rule, Severity, Where, Message string }

// validate checks templates and returns the findings for each.
func validate(t *testing.T, templates ...object) [][]finding {
	t.Helper()
	args := []string{"validate.mjs"}
	for i, tp := range templates {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i, ".json"))
		text, err := json.Marshal(tp)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		args = append(args, file)
	}
	var faults strings.Builder
	cmd := exec.CommandContext(t.Context(), "node", args...)
	cmd.Stderr = &faults
	out, err := cmd.Output()
	require.NoError(t, err, faults.String())
	all := make([][]finding, 0, len(templates))
	for line := range strings.Lines(string(out)) {
		var some []finding
		require.NoError(t, json.Unmarshal([]byte(line), &some))
		all = append(all, slices.DeleteFunc(some, mistaken))
	}
	require.Len(t, all, len(templates))
	return all
}

// mistaken reports whether a finding is a false positive. Two names look like a password and are ARNs. And the
// validator examines the branch of Fn::If in which the resource of the same condition exists.
func mistaken(f finding) bool {
	return f.Rule == "W2509" && slices.Contains([]string{"Parameters/SecretArn", "Parameters/SecretKmsKeyArn"}, f.Where) ||
		f.Rule == "W1001" && f.Where == "Outputs/TableName/Value.Fn::If.1"
}

// given are values of the parameters that may be left empty.
var given = map[string]string{
	"PermissionsBoundary": "arn:aws:iam::123456789012:policy/boundary", "SubnetIds": "subnet-0a1b2c3d,subnet-1a2b3c4d", "SecurityGroupIds": "sg-0a1b2c3d",
	"AlarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:alarms", "ExistingTableName": "recompose-Table-1A2B3C",
}

// filled is a template with a value for each of them. The validator uses the default even if a condition excludes it;
// with a value it checks what AWS gets.
func filled(tp object) object {
	for name, value := range given {
		if p, ok := tp["Parameters"].(object)[name].(object); ok {
			p["Default"] = value
		}
	}
	return tp
}

// parse reads template.yaml, with intrinsic functions in their long form.
func parse(t *testing.T) object { return parseFile(t, "template.yaml") }

// parseFile reads a template of this repository.
func parseFile(t *testing.T, path string) object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	require.NoError(t, err)
	var n yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &n))
	return long(t, n.Content[0]).(object)
}

func long(t *testing.T, n *yaml.Node) any {
	t.Helper()
	var v any
	switch {
	case n.Kind == yaml.MappingNode:
		o := object{}
		for i := 0; i < len(n.Content); i += 2 {
			o[n.Content[i].Value] = long(t, n.Content[i+1])
		}
		v = o
	case n.Kind == yaml.SequenceNode:
		l := []any{}
		for _, c := range n.Content {
			l = append(l, long(t, c))
		}
		v = l
	case strings.HasPrefix(n.Tag, "!!"):
		require.NoError(t, n.Decode(&v))
	default:
		v = n.Value
	}
	switch {
	case strings.HasPrefix(n.Tag, "!!"):
		return v
	case n.Tag == "!Ref":
		return object{"Ref": v}
	case n.Tag == "!GetAtt":
		name, attribute, _ := strings.Cut(v.(string), ".")
		return object{"Fn::GetAtt": []any{name, attribute}}
	default:
		return object{"Fn::" + n.Tag[1:]: v}
	}
}

// The properties that the template may give to SAM's types. SAM knows more; plain knows the expansion of these.
var (
	samFunction = []string{"Architectures", "CodeUri", "Environment", "Events", "Handler", "LoggingConfig", "MemorySize", "RecursiveLoop", "Role",
		"Runtime", "Timeout", "Tracing", "VpcConfig"}
	samQueue = []string{"BatchSize", "FunctionResponseTypes", "Queue", "ScalingConfig"}
)

// plain is the template as SAM's transform passes it to CloudFormation: a function with its globals, and a mapping for
// its event. Most properties keep their names and values.
func plain(tp object) (object, error) {
	out, resources := maps.Clone(tp), object{}
	globals := tp["Globals"].(object)["Function"].(object)
	delete(out, "Transform")
	delete(out, "Globals")
	out["Resources"] = resources
	for id, r := range tp["Resources"].(object) {
		if r.(object)["Type"] != "AWS::Serverless::Function" {
			resources[id] = r
			continue
		}
		own := r.(object)["Properties"].(object)
		p := maps.Clone(globals)
		maps.Copy(p, own)
		p["Environment"] = object{"Variables": merged(in(globals, "Environment", "Variables"), in(own, "Environment", "Variables"))}
		p["LoggingConfig"] = merged(globals["LoggingConfig"], own["LoggingConfig"])
		for name := range p {
			if !slices.Contains(samFunction, name) {
				return nil, fmt.Errorf("%s: SAM knows no %s", id, name)
			}
		}
		for event, e := range p["Events"].(object) {
			mapping := maps.Clone(e.(object)["Properties"].(object))
			for name := range mapping {
				if e.(object)["Type"] != "SQS" || !slices.Contains(samQueue, name) {
					return nil, fmt.Errorf("%s: SAM knows no %s of an event %v", id, name, e.(object)["Type"])
				}
			}
			mapping["EventSourceArn"], mapping["FunctionName"] = mapping["Queue"], object{"Ref": id}
			delete(mapping, "Queue")
			resources[id+event] = object{"Type": "AWS::Lambda::EventSourceMapping", "Properties": mapping}
		}
		p["Code"], p["TracingConfig"] = object{"S3Bucket": "programs", "S3Key": id}, object{"Mode": p["Tracing"]}
		for _, name := range []string{"CodeUri", "Tracing", "Events"} {
			delete(p, name)
		}
		resources[id] = object{"Type": "AWS::Lambda::Function", "Properties": p}
	}
	return out, nil
}

// merged is SAM's combination of an object of a function with that of the globals.
func merged(globals, own any) object {
	all := object{}
	maps.Copy(all, globals.(object))
	maps.Copy(all, own.(object))
	return all
}

func TestTheTemplateFitsTheSchemasOfAWS(t *testing.T) {
	t.Parallel()
	tp, err := plain(filled(parse(t)))
	require.NoError(t, err)
	require.Empty(t, validate(t, tp)[0])
	for _, sample := range []string{"deploy/aws/nightly.yaml", "deploy/aws/rule.yaml"} {
		require.Empty(t, validate(t, filled(parseFile(t, sample)))[0], sample)
	}
}

// TestTheSchemasOfAWSFindFaults shows that the check can fail, and knows the newer properties. It does not check
// policies; functions/template_test.go does.
func TestTheSchemasOfAWSFindFaults(t *testing.T) {
	t.Parallel()
	// in returns the value under a path of the template's resources.
	in := func(tp object, path ...string) object {
		o := tp["Resources"].(object)
		for _, p := range path {
			o = o[p].(object)
		}
		return o
	}
	function := func(tp object) object { return in(tp, "RebuildFunction", "Properties") }
	event := func(tp object) object {
		return in(tp, "RebuildFunction", "Properties", "Events", "Queue", "Properties")
	}
	queue := func(tp object) object { return in(tp, "RebuildQueue", "Properties") }
	rename := func(o object, from, to string) {
		o[to] = o[from]
		delete(o, from)
	}
	harms := map[string]func(tp object){
		"a misspelt property of a queue": func(tp object) { rename(queue(tp), "SqsManagedSseEnabled", "SqsManagedSSEEnabled") },
		"a misspelt property of a log": func(tp object) {
			rename(tp["Globals"].(object)["Function"].(object)["LoggingConfig"].(object), "SystemLogLevel", "LogLevel")
		},
		"a misspelt property of an event": func(tp object) { rename(event(tp)["ScalingConfig"].(object), "MaximumConcurrency", "Maximum") },
		"a misspelt property of a filter": func(tp object) {
			rename(in(tp, "RebuildSubscription", "Properties"), "FilterPolicyScope", "FilterScope")
		},
		"a wrong type":                       func(tp object) { function(tp)["Timeout"] = "a minute" },
		"a number out of its range":          func(tp object) { queue(tp)["MaximumMessageSize"] = 1048577 },
		"a batch out of its range":           func(tp object) { event(tp)["BatchSize"] = 10001 },
		"a concurrency out of its range":     func(tp object) { event(tp)["ScalingConfig"] = object{"MaximumConcurrency": 1} },
		"a value of no enumeration":          func(tp object) { function(tp)["RecursiveLoop"] = "Yes" },
		"a log format that is none":          func(tp object) { function(tp)["LoggingConfig"].(object)["LogFormat"] = "XML" },
		"a log level that is none":           func(tp object) { function(tp)["LoggingConfig"].(object)["ApplicationLogLevel"] = "ALL" },
		"a runtime that is none":             func(tp object) { tp["Globals"].(object)["Function"].(object)["Runtime"] = "provided.al2022" },
		"a response type that is none":       func(tp object) { event(tp)["FunctionResponseTypes"] = []any{"ReportFailures"} },
		"an unknown type":                    func(tp object) { in(tp, "RebuildQueue")["Type"] = "AWS::SQS::Queues" },
		"a missing property":                 func(tp object) { delete(in(tp, "Table", "Properties"), "KeySchema") },
		"days that logs are not kept":        func(tp object) { in(tp, "RebuildLogs", "Properties")["RetentionInDays"] = 31 },
		"an operator that no alarm has":      func(tp object) { in(tp, "RebuildAgeAlarm", "Properties")["ComparisonOperator"] = "MoreThan" },
		"an attribute that a resource lacks": func(tp object) { event(tp)["Queue"] = object{"Fn::GetAtt": []any{"RebuildQueue", "ARN"}} },
		"a reference to nothing":             func(tp object) { queue(tp)["QueueName"] = object{"Ref": "Rebuilds"} },
		"a condition that is none":           func(tp object) { in(tp, "AlarmTopic")["Condition"] = "HasEmail" },
		"a subnet that is none":              func(tp object) { tp["Parameters"].(object)["SubnetIds"].(object)["Default"] = "net-1" },
		"a boundary that is none":            func(tp object) { in(tp, "RebuildRole", "Properties")["PermissionsBoundary"] = "boundary" },
		"a policy of the table's life":       func(tp object) { in(tp, "Table")["DeletionPolicy"] = "RetainOnCreate" },
		"a misspelt part of a saved query":   func(tp object) { rename(in(tp, "ChainQuery", "Properties"), "QueryString", "Query") },
		"a misspelt part of the dashboard":   func(tp object) { rename(in(tp, "Dashboard", "Properties"), "DashboardBody", "Body") },
		"a setting that no function has":     func(tp object) { function(tp)["Environment"].(object)["Variables"].(object)["A-B"] = "c" },
	}
	names := slices.Sorted(maps.Keys(harms))
	var harmed []object
	for _, name := range names {
		tp := filled(parse(t))
		harms[name](tp)
		tp, err := plain(tp)
		require.NoError(t, err, name)
		harmed = append(harmed, tp)
	}
	for i, found := range validate(t, harmed...) {
		require.NotEmpty(t, found, names[i])
	}
	for name, harm := range map[string]func(tp object){
		"RecursiveLop": func(tp object) { rename(function(tp), "RecursiveLoop", "RecursiveLop") },
		"BatchSiz":     func(tp object) { rename(event(tp), "BatchSize", "BatchSiz") },
	} {
		tp := parse(t)
		harm(tp)
		_, err := plain(tp)
		require.ErrorContains(t, err, name)
	}
}
