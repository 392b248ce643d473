package functions_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"recompose/events"
	"recompose/functions"
)

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// matches returns the distinct texts of the first group of an expression.
func matches(expression, text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return found
}

// docs/aws.md names what the templates have, and each parameter and alarm of template.yaml.
func TestTheDocsNameWhatTheTemplateHas(t *testing.T) {
	t.Parallel()
	docs, tp := readText(t, "../docs/aws.md"), readTemplate(t)
	outputs := matches(`\$\(output (\w+)\)`, docs)
	require.Contains(t, outputs, "TopicArn")
	require.Contains(t, outputs, "TableName")
	for name := range outputs {
		require.NotNil(t, tp.at("Outputs", name), "%s is no output", name)
	}

	parameters, deploys := tp.at("Parameters").(map[string]any), 0
	for command := range strings.SplitSeq(strings.ReplaceAll(docs, "\\\n", " "), "\n") {
		of, known := tp, strings.HasPrefix(command, "sam deploy")
		if sample := regexp.MustCompile(`--template-file (\S+)`).FindStringSubmatch(command); sample != nil {
			var read map[string]any
			require.NoError(t, yaml.Unmarshal([]byte(readText(t, "../"+sample[1])), &read))
			of, known = read, true
		}
		_, overrides, given := strings.Cut(command, "--parameter-overrides ")
		if !known || !given {
			continue
		}
		deploys++
		set := matches(`(\w+)=`, overrides)
		for name := range set {
			require.NotNil(t, of.at("Parameters", name), "%s is no parameter: %s", name, command)
		}
		for name, p := range of.at("Parameters").(map[string]any) {
			require.True(t, set[name] || at(p, "Default") != nil, "%s is missing: %s", name, command)
		}
	}
	require.Equal(t, 4, deploys)
	for name := range parameters {
		require.Contains(t, docs, "`"+name+"`")
	}
	each(t, func(t *testing.T, tp template, f deployed) {
		docs = strings.ReplaceAll(docs, "`<Function>", "`"+f.id+"DeadLetterAlarm` `"+f.id+"AgeAlarm` `"+f.id+"ErrorsAlarm` `"+f.id+"ThrottlesAlarm` `<Function>")
	})
	for name, r := range tp.at("Resources").(map[string]any) {
		if at(r, "Type") == "AWS::CloudWatch::Alarm" {
			require.Contains(t, docs, "`"+name+"`")
		}
	}
	for name := range matches("`(\\w+Alarm)`", docs) {
		require.Equal(t, "AWS::CloudWatch::Alarm", tp.at("Resources", name, "Type"), name)
	}
	rule := readText(t, "../deploy/aws/rule.yaml")
	for line := range strings.Lines(docs[strings.Index(docs, "InputPathsMap:"):strings.Index(docs, "InputTemplate:")]) {
		require.Contains(t, rule, strings.TrimSpace(line), "the transformer is that of the sample")
	}
}

// Each function has its rows in the documents, and with them what its command may do.
func TestTheDocsHaveEachFunction(t *testing.T) {
	t.Parallel()
	readme, aws, security := readText(t, "../README.md"), readText(t, "../docs/aws.md"), readText(t, "../docs/security.md")
	for _, name := range functions.Names() {
		require.Regexp(t, `(?m)^\| .* \| `+name+`\b.* \| .* \| .* \|$`, readme, "README.md needs a row of %s in the flow", name)
		require.Regexp(t, `(?m)^\| `+name+` \| .* \|$`, aws, "docs/aws.md needs a row of %s in the rights on Huawei Cloud", name)
	}
	for _, c := range events.Commands {
		if !c.Reads() {
			continue
		}
		answer := strings.TrimSuffix(strings.TrimPrefix(c.Answer, "recompose.event."), ".v1")
		require.Regexp(t, `(?m)^\| `+"`"+regexp.QuoteMeta(c.Type)+"`"+` \| `+c.Function+`\b.* \| `+regexp.QuoteMeta(c.Call)+`\b.* \| `+"`"+answer+"`", readme,
			"README.md: call and event of %s", c.Function)
		require.Contains(t, security, "`"+c.Type+"`", "docs/security.md names the commands that only read")
	}
	n, alarms := len(functions.Names()), 0
	for _, r := range readTemplate(t).at("Resources").(map[string]any) {
		if at(r, "Type") == "AWS::CloudWatch::Alarm" && at(r, "Condition") == nil {
			alarms++
		}
	}
	for _, cost := range []string{fmt.Sprintf("| alarms | %d × 4 + %d = %d |", n, alarms-4*n, alarms), fmt.Sprintf("| %d queues × 5 pollers", n)} {
		require.True(t, strings.Contains(aws, cost), "docs/aws.md, the cost, needs: %s", cost)
	}
}

// Lambda may give a new account ten sandboxes only, so the docs name how many the defaults need.
func TestTheDocsNameTheSandboxesOfTheDefaults(t *testing.T) {
	t.Parallel()
	sandboxes := 0
	each(t, func(t *testing.T, tp template, f deployed) {
		switch limit := at(f.resource("Function"), "Events", "Queue", "Properties", "ScalingConfig", "MaximumConcurrency").(type) {
		case int:
			sandboxes += limit
		default:
			sandboxes += tp.at("Parameters", at(limit, "Ref").(string), "Default").(int)
		}
	})
	require.Contains(t, readText(t, "../docs/aws.md"), fmt.Sprintf("- %d concurrent sandboxes", sandboxes))
}

// sam build makes the programs in the checkout, so that nothing is copied and the version is known.
func TestTheSettingsOfSAM(t *testing.T) {
	t.Parallel()
	settings := readText(t, "../samconfig.toml")
	require.Regexp(t, `(?m)^build_in_source = true\b`, settings)
	require.Regexp(t, `(?m)^capabilities = "CAPABILITY_IAM"$`, settings)
	require.Regexp(t, `-X recompose/shared/lambdaboot\.version=\$\(VERSION\)`, readText(t, "../Makefile"))
}
