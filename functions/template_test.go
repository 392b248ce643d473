package functions_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/service"
)

// forAll are the resources that no function has for itself.
var forAll = []string{
	"Topic", "TopicPolicy", "Table", "UnroutedQueue", "UnroutedQueuePolicy", "UnroutedSubscription", "UnroutedAlarm", "UntypedAlarm", "UndeliveredAlarm", "AlarmTopic",
	"ServiceReaderPolicy",
}

// forEach are the resources of one function, as the words behind its name, with their types.
var forEach = map[string]string{
	"Function": "AWS::Serverless::Function", "Role": "AWS::IAM::Role", "Logs": "AWS::Logs::LogGroup",
	"Queue": "AWS::SQS::Queue", "QueuePolicy": "AWS::SQS::QueuePolicy",
	"DeadLetterQueue": "AWS::SQS::Queue", "DeadLetterQueuePolicy": "AWS::SQS::QueuePolicy", "Subscription": "AWS::SNS::Subscription",
	"DeadLetterAlarm": "AWS::CloudWatch::Alarm", "AgeAlarm": "AWS::CloudWatch::Alarm",
	"ErrorsAlarm": "AWS::CloudWatch::Alarm", "ThrottlesAlarm": "AWS::CloudWatch::Alarm",
}

// deployed is one function of the template: a word of forEach gives a resource's properties.
type deployed struct {
	queue.Function
	id       string // what its logical ids begin with
	resource func(word string) any
}

// each runs a test for each row of the routing table.
func each(t *testing.T, test func(t *testing.T, tp template, f deployed)) {
	t.Helper()
	tp := readTemplate(t)
	for _, f := range functions.Routes() {
		t.Run(f.Name, func(t *testing.T) {
			d := deployed{Function: f}
			for name := range tp.at("Resources").(map[string]any) {
				if strings.EqualFold(name, f.Name+"Function") {
					d.id = strings.TrimSuffix(name, "Function")
				}
			}
			require.NotEmpty(t, d.id, "the template does not have the function")
			d.resource = func(word string) any { return tp.at("Resources", d.id+word, "Properties") }
			test(t, tp, d)
		})
	}
}

func TestTheTemplateHasWhatTheRoutesNeedAndNothingMore(t *testing.T) {
	t.Parallel()
	var want []string
	want = append(want, forAll...)
	each(t, func(t *testing.T, tp template, f deployed) {
		for word, typ := range forEach {
			require.Equal(t, typ, tp.at("Resources", f.id+word, "Type"), word)
			want = append(want, f.id+word)
		}
	})
	got := slices.Collect(maps.Keys(readTemplate(t).at("Resources").(map[string]any)))
	require.ElementsMatch(t, want, got)
}

func TestEachFilterTakesWhatItsRouteTakes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, _ template, f deployed) {
		var types []any
		if f.Type != "" {
			types = append(types, f.Type)
		}
		for _, r := range f.Reacts {
			types = append(types, r)
		}
		s := f.resource("Subscription")
		require.Equal(t, map[string]any{"type": at(s, "FilterPolicy", "type")}, at(s, "FilterPolicy"))
		require.ElementsMatch(t, types, at(s, "FilterPolicy", "type"))
		require.Equal(t, "MessageAttributes", at(s, "FilterPolicyScope"))
		require.Equal(t, true, at(s, "RawMessageDelivery"))
		require.Equal(t, "sqs", at(s, "Protocol"))
		require.Equal(t, ref("Topic"), at(s, "TopicArn"))
		require.Equal(t, attribute(f.id+"Queue", "Arn"), at(s, "Endpoint"))
		require.Equal(t, attribute(f.id+"DeadLetterQueue", "Arn"), at(s, "RedrivePolicy", "deadLetterTargetArn"))
	})
}

func TestWhatNoFilterTakesIsKept(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../events/testdata/recompose.*.json")
	require.NoError(t, err)
	var known []any // there is a sample of each type, and of some several
	sample := regexp.MustCompile(`(recompose\.[a-z.]+\.v[0-9]+)\.json$`)
	for _, f := range files {
		if m := sample.FindStringSubmatch(f); m != nil {
			known = append(known, m[1])
		}
	}
	filter := readTemplate(t).at("Resources", "UnroutedSubscription", "Properties", "FilterPolicy", "type").([]any)
	require.Len(t, filter, 2)
	require.Equal(t, map[string]any{"exists": false}, filter[0])
	require.ElementsMatch(t, known, at(filter[1], "anything-but"))
}

func TestEachFunctionInTheTemplate(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	each(t, func(t *testing.T, tp template, f deployed) {
		p, globals := f.resource("Function"), tp.at("Globals", "Function")
		require.Equal(t, "makefile", tp.at("Resources", f.id+"Function", "Metadata", "BuildMethod"))
		require.Regexp(t, `(?m)^(.*\s)?build-`+f.id+`Function(\s.*)?:`, string(makefile))
		require.Equal(t, []any{".", "bootstrap", "provided.al2023", "Active"},
			[]any{at(globals, "CodeUri"), at(globals, "Handler"), at(globals, "Runtime"), at(globals, "Tracing")})
		require.Equal(t, []any{"arm64"}, at(globals, "Architectures"))
		require.Equal(t, "Allow", at(p, "RecursiveLoop"), "else Lambda ends a job's polls after 16 of them")
		require.Equal(t, attribute(f.id+"Role", "Arn"), at(p, "Role"))
		require.Equal(t, "JSON", at(p, "LoggingConfig", "LogFormat"))
		require.Equal(t, ref(f.id+"Logs"), at(p, "LoggingConfig", "LogGroup"))
		require.Equal(t, map[string]any{"Fn::Sub": "/recompose/${AWS::StackName}/" + f.Name}, at(f.resource("Logs"), "LogGroupName"))

		env := at(p, "Environment", "Variables")
		require.Equal(t, ref(f.id+"Queue"), at(env, "RECOMPOSE_QUEUE_URL"))
		require.Equal(t, ref(f.id+"DeadLetterQueue"), at(env, "RECOMPOSE_DEAD_LETTER_QUEUE_URL"))
		require.Equal(t, ref("Topic"), at(globals, "Environment", "Variables", "RECOMPOSE_TOPIC_ARN"))
		require.Equal(t, ref("Table"), at(globals, "Environment", "Variables", "RECOMPOSE_TABLE"))
		require.Equal(t, ref("SecretArn"), at(globals, "Environment", "Variables", "RECOMPOSE_SECRET_ARN"))

		batch, sandboxes := 10, "ReaderConcurrency"
		if f.Writes {
			batch, sandboxes = 1, "WriterConcurrency"
		}
		source := at(p, "Events", "Queue", "Properties")
		require.Len(t, at(p, "Events"), 1, "its queue alone triggers it")
		require.Equal(t, "SQS", at(p, "Events", "Queue", "Type"))
		require.Equal(t, attribute(f.id+"Queue", "Arn"), at(source, "Queue"))
		require.Equal(t, batch, at(source, "BatchSize"))
		require.Equal(t, []any{"ReportBatchItemFailures"}, at(source, "FunctionResponseTypes"))
		require.Equal(t, ref(sandboxes), at(source, "ScalingConfig", "MaximumConcurrency"))
		require.Equal(t, ref(sandboxes), at(env, "RECOMPOSE_SANDBOXES"), "they share the rate")
	})
}

func TestEachQueueInTheTemplate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, _ template, f deployed) {
		q, dead := f.resource("Queue"), f.resource("DeadLetterQueue")
		require.GreaterOrEqual(t, at(q, "VisibilityTimeout"), 6*at(f.resource("Function"), "Timeout").(int))
		require.Equal(t, 20, at(q, "ReceiveMessageWaitTimeSeconds"))
		require.Equal(t, attribute(f.id+"DeadLetterQueue", "Arn"), at(q, "RedrivePolicy", "deadLetterTargetArn"))
		require.Equal(t, 2*queue.MaxDeliveries, at(q, "RedrivePolicy", "maxReceiveCount"))
		for _, one := range []any{q, dead} {
			require.Equal(t, true, at(one, "SqsManagedSseEnabled"))
			require.Equal(t, 14*24*60*60, at(one, "MessageRetentionPeriod"))
		}
		require.Nil(t, at(dead, "RedrivePolicy"))
		for _, word := range []string{"Queue", "DeadLetterQueue"} {
			policy := f.resource(word + "Policy")
			require.Equal(t, []any{ref(f.id + word)}, at(policy, "Queues"))
			want := map[string]any{"FromTheTopic": ref("Topic"), "TLSOnly": nil}
			if word == "Queue" {
				want["Senders"] = nil
			}
			statements := list(at(policy, "PolicyDocument", "Statement"))
			require.Len(t, statements, len(want))
			for _, s := range statements {
				sid := at(s, "Sid").(string)
				require.Contains(t, want, sid)
				require.Equal(t, attribute(f.id+word, "Arn"), at(s, "Resource"))
				switch sid {
				case "TLSOnly":
					require.Equal(t, []any{"Deny", "*", "sqs:*", "false"},
						[]any{at(s, "Effect"), at(s, "Principal"), at(s, "Action"), at(s, "Condition", "Bool", "aws:SecureTransport")})
				case "Senders":
					require.Equal(t, ref("SenderPrincipals"), at(s, "Principal", "AWS"))
					require.Equal(t, "sqs:SendMessage", at(s, "Action"))
				default:
					require.Equal(t, ref("Topic"), at(s, "Condition", "ArnEquals", "aws:SourceArn"))
					require.Equal(t, "sqs:SendMessage", at(s, "Action"))
				}
			}
		}
	})
}

func TestEachRoleInTheTemplate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, tp template, f deployed) {
		topic := list(tp.at("Resources", "TopicPolicy", "Properties", "PolicyDocument", "Statement"))
		require.Contains(t, at(topic[0], "Principal", "AWS"), attribute(f.id+"Role", "Arn"), "it may publish")
		require.Nil(t, at(f.resource("Role"), "ManagedPolicyArns"))
		policies := list(at(f.resource("Role"), "Policies"))
		require.Len(t, policies, 1)
		may := map[string]any{} // action → resource
		for _, s := range list(at(policies[0], "PolicyDocument", "Statement")) {
			actions, many := at(s, "Action").([]any)
			if !many {
				actions = []any{at(s, "Action")}
			}
			for _, a := range actions {
				require.NotContains(t, a, "*")
				if at(s, "Resource") == "*" {
					require.Contains(t, []any{"xray:PutTraceSegments", "xray:PutTelemetryRecords"}, a)
				}
				if at(s, "Effect") == "Allow" {
					if a == "sqs:SendMessage" {
						a = at(s, "Sid").(string) + " " + a.(string)
					}
					require.NotContains(t, may, a)
					may[a.(string)] = at(s, "Resource")
				}
			}
		}
		own := attribute(f.id+"Queue", "Arn")
		want := map[string]any{
			"sqs:ReceiveMessage": own, "sqs:DeleteMessage": own, "sqs:ChangeMessageVisibility": own, "sqs:GetQueueAttributes": own,
			"ItsQueue sqs:SendMessage": own, "ItsDeadLetters sqs:SendMessage": attribute(f.id+"DeadLetterQueue", "Arn"),
			"sns:Publish":      ref("Topic"),
			"dynamodb:GetItem": attribute("Table", "Arn"), "dynamodb:PutItem": attribute("Table", "Arn"),
			"secretsmanager:GetSecretValue": ref("SecretArn"), "kms:Decrypt": ref("SecretKmsKeyArn"),
			"logs:CreateLogStream": attribute(f.id+"Logs", "Arn"), "logs:PutLogEvents": attribute(f.id+"Logs", "Arn"),
			"xray:PutTraceSegments": "*", "xray:PutTelemetryRecords": "*",
		}
		if f.Writes || f.Name == events.FnWatchJob { // it asks whether the ledger has all its records
			want["dynamodb:DescribeTable"] = attribute("Table", "Arn")
		}
		require.Equal(t, want, may)
	})
}

// What no function may do to the table, whatever else it may: freeze, thaw, change a list of desktops, or remove a record.
func TestWhatARoleMayNotDoToTheTable(t *testing.T) {
	t.Parallel()
	keys := func(s any, operator string) any { return at(s, "Condition", operator, "dynamodb:LeadingKeys") }
	each(t, func(t *testing.T, _ template, f deployed) {
		by := map[string]any{}
		for _, s := range list(at(list(at(f.resource("Role"), "Policies"))[0], "PolicyDocument", "Statement")) {
			if at(s, "Resource", "Fn::GetAtt") != nil && at(s, "Resource", "Fn::GetAtt").([]any)[0] == "Table" {
				by[at(s, "Sid").(string)] = s
			}
		}
		if by["TheLedger"] == nil {
			const only = "TheKeyTheServiceAndTheEndsOfReads"
			require.Len(t, by, 1, "without writes it has these alone")
			require.Equal(t, []any{safety.KeyKey, service.Key, "read/*"}, keys(by[only], "ForAllValues:StringLike"))
			require.Equal(t, "false", keys(by[only], "Null"), "ForAllValues holds where there is no key, too")
			require.False(t, f.Writes)
			return
		}
		deny := by["NobodyHereFreezesThawsOrChangesLists"]
		require.Len(t, by, 2)
		require.Equal(t, "Deny", at(deny, "Effect"))
		require.Equal(t, "dynamodb:PutItem", at(deny, "Action"))
		denied := keys(deny, "ForAnyValue:StringLike")
		for _, name := range []string{string(safety.AllowList), string(safety.DenyList)} {
			require.Contains(t, denied, name)
			require.Contains(t, denied, name+"/*", "its pages")
		}
		require.Contains(t, denied, safety.OperatorsKey)
		require.Contains(t, denied, safety.PageKeys+"*")
		require.NotContains(t, denied, service.Key, "the first function records its service")
		require.Len(t, denied, 6)
	})
}

// People who send or read may read which service it is, and change nothing.
func TestWhoMayReadTheServiceInTheTemplate(t *testing.T) {
	t.Parallel()
	tp := readTemplate(t)
	statements := list(tp.at("Resources", "ServiceReaderPolicy", "Properties", "PolicyDocument", "Statement"))
	require.Len(t, statements, 2)
	for _, s := range statements {
		require.Equal(t, "Allow", at(s, "Effect"))
	}
	require.Equal(t, "cloudformation:DescribeStacks", at(statements[0], "Action"))
	require.Equal(t, map[string]any{"Fn::Sub": "arn:${AWS::Partition}:cloudformation:${AWS::Region}:${AWS::AccountId}:stack/${AWS::StackName}/*"},
		at(statements[0], "Resource"))
	require.Equal(t, "dynamodb:GetItem", at(statements[1], "Action"))
	require.Equal(t, attribute("Table", "Arn"), at(statements[1], "Resource"))
	condition := at(statements[1], "Condition")
	require.Equal(t, []any{service.Key}, at(condition, "ForAllValues:StringEquals", "dynamodb:LeadingKeys"))
	require.Equal(t, "false", at(condition, "Null", "dynamodb:LeadingKeys"))
	require.Equal(t, ref("ServiceReaderPolicy"), tp.at("Outputs", "ServiceReaderPolicyArn", "Value"))
}

func TestEachAlarmInTheTemplate(t *testing.T) {
	t.Parallel()
	tp := readTemplate(t)
	watches := map[string]string{}
	for name, r := range tp.at("Resources").(map[string]any) {
		if at(r, "Type") != "AWS::CloudWatch::Alarm" {
			continue
		}
		p := at(r, "Properties")
		require.NotEmpty(t, at(p, "AlarmDescription"), name)
		require.Equal(t, []any{ref("AlarmTopic")}, list(at(p, "AlarmActions")), name)
		require.Equal(t, "notBreaching", at(p, "TreatMissingData"), name)
		value := at(at(p, "Dimensions").([]any)[0], "Value")
		on, _ := at(value, "Ref").(string)
		if asked, ok := at(value, "Fn::GetAtt").([]any); ok {
			on = asked[0].(string)
		}
		watches[on+" "+at(p, "MetricName").(string)] = name
	}
	each(t, func(t *testing.T, _ template, f deployed) {
		for what, alarm := range map[string]string{
			"DeadLetterQueue ApproximateNumberOfMessagesVisible": "DeadLetterAlarm", "Queue ApproximateAgeOfOldestMessage": "AgeAlarm",
			"Function Errors": "ErrorsAlarm", "Function Throttles": "ThrottlesAlarm",
		} {
			require.Equal(t, f.id+alarm, watches[f.id+what])
			delete(watches, f.id+what)
		}
	})
	require.Equal(t, map[string]string{
		"UnroutedQueue ApproximateNumberOfMessagesVisible": "UnroutedAlarm", "Topic NumberOfNotificationsFailedToRedriveToDlq": "UndeliveredAlarm",
		"Topic NumberOfNotificationsFilteredOut-NoMessageAttributes": "UntypedAlarm",
	}, watches)
}

func TestTheTableOfTheTemplate(t *testing.T) {
	t.Parallel()
	table := readTemplate(t).at("Resources", "Table")
	require.Equal(t, "Retain", at(table, "DeletionPolicy"))
	p := at(table, "Properties")
	require.Equal(t, "PAY_PER_REQUEST", at(p, "BillingMode"))
	require.Equal(t, []any{map[string]any{"AttributeName": "pk", "KeyType": "HASH"}}, at(p, "KeySchema"))
	require.Equal(t, map[string]any{"AttributeName": "expires", "Enabled": true}, at(p, "TimeToLiveSpecification"))
	require.Equal(t, true, at(p, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"))
	require.Equal(t, true, at(p, "SSESpecification", "SSEEnabled"))
}

func TestEachVariableOfTheTemplateIsASetting(t *testing.T) {
	t.Parallel()
	settings := map[string]bool{}
	c, _ := config.Load(config.Options{}) // whatever the environment is
	for _, s := range c.Settings() {
		settings[s.Variable] = true
	}
	each(t, func(t *testing.T, tp template, f deployed) {
		for _, variables := range []any{tp.at("Globals", "Function", "Environment", "Variables"), at(f.resource("Function"), "Environment", "Variables")} {
			for name := range variables.(map[string]any) {
				require.True(t, settings[name], name)
			}
		}
	})
}
