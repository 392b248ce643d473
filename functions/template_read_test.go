package functions_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// template is template.yaml, with intrinsic functions in their long form: {"Ref": name}, {"Fn::GetAtt": [name,
// attribute]}.
type template map[string]any

func readTemplate(t testing.TB) template {
	t.Helper()
	text, err := os.ReadFile("../template.yaml")
	require.NoError(t, err)
	var n yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &n))
	return convert(t, n.Content[0]).(map[string]any)
}

// convert converts nodes to values, and fails for YAML that CloudFormation does not allow.
func convert(t testing.TB, n *yaml.Node) any {
	t.Helper()
	var v any
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			require.NotContains(t, m, key, "line %d: twice", n.Content[i].Line)
			m[key] = convert(t, n.Content[i+1])
		}
		v = m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, convert(t, c))
		}
		v = list
	case yaml.ScalarNode:
		if strings.HasPrefix(n.Tag, "!!") {
			require.NoError(t, n.Decode(&v), "line %d", n.Line)
		} else {
			v = n.Value
		}
	default:
		require.Fail(t, "no aliases", "line %d", n.Line)
	}
	switch {
	case strings.HasPrefix(n.Tag, "!!"):
		return v
	case n.Tag == "!Ref":
		return map[string]any{"Ref": v}
	case n.Tag == "!GetAtt":
		name, attribute, _ := strings.Cut(v.(string), ".")
		return map[string]any{"Fn::GetAtt": []any{name, attribute}}
	default:
		return map[string]any{"Fn::" + n.Tag[1:]: v}
	}
}

// at returns the value under a path; nil if there is none.
func (tp template) at(path ...string) any { return at(map[string]any(tp), path...) }

func at(v any, path ...string) any {
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

// list returns a list, with each member under a condition replaced by the value that is not AWS::NoValue.
func list(v any) []any {
	var all []any
	members, _ := v.([]any)
	for _, m := range members {
		if choice, ok := at(m, "Fn::If").([]any); ok {
			m = choice[1]
		}
		all = append(all, m)
	}
	return all
}

func ref(name string) any { return map[string]any{"Ref": name} }

func attribute(name, attr string) any { return map[string]any{"Fn::GetAtt": []any{name, attr}} }

// attributes are the attributes that GetAtt may read, as far as the template uses them.
var attributes = map[string][]string{
	"AWS::SQS::Queue": {"Arn", "QueueName"}, "AWS::DynamoDB::Table": {"Arn"}, "AWS::IAM::Role": {"Arn"},
	"AWS::Logs::LogGroup": {"Arn"}, "AWS::SNS::Topic": {"TopicName"}, "AWS::CloudWatch::Alarm": {"Arn"}, "AWS::Events::Rule": {"Arn"},
}

// pseudo are the parameters that CloudFormation knows by itself, as far as the template uses them.
var pseudo = []string{"AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackName"}

var substitution = regexp.MustCompile(`\$\{([^}]*)\}`)

func TestEveryReferenceInTheTemplateResolves(t *testing.T) {
	t.Parallel()
	tp := readTemplate(t)
	parameters, resources := at(tp.at("Parameters")).(map[string]any), at(tp.at("Resources")).(map[string]any)
	conditions := at(tp.at("Conditions")).(map[string]any)
	used := map[string]bool{}
	name := func(where, n string) {
		used[n] = true
		if parameters[n] == nil && resources[n] == nil {
			require.Contains(t, pseudo, n, where)
		}
	}
	getAtt := func(where, resource, attribute string) {
		require.Contains(t, resources, resource, where)
		require.Contains(t, attributes[at(resources, resource, "Type").(string)], attribute, where)
	}
	var walk func(where string, v any)
	walk = func(where string, v any) {
		switch v := v.(type) {
		case []any:
			for i, one := range v {
				walk(fmt.Sprint(where, "/", i), one)
			}
		case map[string]any:
			for key, one := range v {
				here := where + "/" + key
				switch key {
				case "Ref":
					name(here, one.(string))
				case "Fn::GetAtt":
					asked := one.([]any)
					getAtt(here, asked[0].(string), asked[1].(string))
				case "Fn::Sub":
					for _, m := range substitution.FindAllStringSubmatch(one.(string), -1) {
						if resource, attribute, ok := strings.Cut(m[1], "."); ok {
							getAtt(here, resource, attribute)
							continue
						}
						name(here, m[1])
					}
				case "Fn::If":
					require.Contains(t, conditions, one.([]any)[0], here)
					require.Len(t, one, 3, here)
					used[one.([]any)[0].(string)] = true
				case "DependsOn":
					require.Contains(t, resources, one, here)
				case "Condition":
					if c, ok := one.(string); ok {
						require.Contains(t, conditions, c, here)
						used[c] = true
					}
				case "Fn::FindInMap":
					path := one.([]any)
					require.NotNil(t, tp.at("Mappings", path[0].(string), path[1].(string), path[2].(string)), here)
				case "Fn::Join", "Fn::Not", "Fn::And", "Fn::Or", "Fn::Equals", "Fn::Contains":
				default:
					require.NotContains(t, key, "Fn::", here)
				}
				walk(here, one)
			}
		}
	}
	walk("", map[string]any(tp))
	for p := range parameters {
		require.True(t, used[p], "parameter %s is for nothing", p)
	}
	for c := range conditions {
		require.True(t, used[c], "condition %s is for nothing", c)
	}
	var listed []string
	for _, group := range at(tp.at("Metadata", "AWS::CloudFormation::Interface", "ParameterGroups")).([]any) {
		for _, p := range at(group, "Parameters").([]any) {
			listed = append(listed, p.(string))
		}
	}
	require.Len(t, listed, len(parameters))
	for _, p := range listed {
		require.Contains(t, parameters, p)
	}
}

func TestEveryParameterIsExplainedAndChecked(t *testing.T) {
	t.Parallel()
	for name, p := range readTemplate(t).at("Parameters").(map[string]any) {
		require.NotEmpty(t, at(p, "Description"), name)
		require.NotEmpty(t, at(p, "ConstraintDescription"), name)
		given := at(p, "Default")
		switch at(p, "Type") {
		case "String", "CommaDelimitedList":
			pattern, err := regexp.Compile(at(p, "AllowedPattern").(string))
			require.NoError(t, err, name)
			require.True(t, strings.HasPrefix(pattern.String(), "^") && strings.HasSuffix(pattern.String(), "$"), "%s: the whole value", name)
			if given != nil {
				require.Regexp(t, pattern, given, name)
			}
			require.NotRegexp(t, pattern, "not ok", name)
		case "Number":
			if values, ok := at(p, "AllowedValues").([]any); ok {
				require.Contains(t, values, given, name)
				continue
			}
			require.GreaterOrEqual(t, given, at(p, "MinValue"), name)
			require.LessOrEqual(t, given, at(p, "MaxValue"), name)
		default:
			require.Fail(t, "unknown type", name)
		}
	}
}

// A policy with a part of a secret's ARN allows nothing, and no function would start.
func TestTheArnOfTheSecretIsComplete(t *testing.T) {
	t.Parallel()
	pattern := at(readTemplate(t).at("Parameters", "SecretArn"), "AllowedPattern")
	require.Regexp(t, pattern, testSecret)
	require.NotRegexp(t, pattern, strings.TrimSuffix(testSecret, "-AbCdEf"))
	require.NotRegexp(t, pattern, testSecret[:len(testSecret)-1])
}
