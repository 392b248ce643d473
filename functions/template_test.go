package functions_test

import (
	"maps"
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
)

// forAll are the resources that no function has for itself.
var forAll = []string{
	"Topic", "TopicPolicy", "Table", "UnroutedQueue", "UnroutedQueuePolicy", "UnroutedSubscription", "UnroutedAlarm", "UntypedAlarm", "UndeliveredAlarm", "AlarmTopic",
	"FunctionPolicy", "SecretPolicy", "LedgerPolicy", "RolloutTablePolicy", "ReaderTablePolicy", "ServiceReaderPolicy", "KeyRefusedAlarm", "NotReadyAlarm", "FrozenAlarm", "UnknownOutcomeAlarm", "CommandsFailedAlarm", "JobsLostAlarm", "JobsTimedOutAlarm",
	"RolloutsHaltedAlarm", "RolloutTimer", "ApprovalTopic", "ApprovalTopicPolicy", "ApprovalSubscription",
	"ApprovalUnroutedSubscription", "ApprovalUntypedAlarm", "ApprovalUndeliveredAlarm",
	"Dashboard", "ChainQuery",
}

// forEach are the resources of one function, as the words behind its name, with their types.
var forEach = map[string]string{
	"Function": "AWS::Serverless::Function", "Role": "AWS::IAM::Role", "Logs": "AWS::Logs::LogGroup",
	"Queue": "AWS::SQS::Queue", "QueuePolicy": "AWS::SQS::QueuePolicy",
	"DeadLetterQueue": "AWS::SQS::Queue", "DeadLetterQueuePolicy": "AWS::SQS::QueuePolicy", "Subscription": "AWS::SNS::Subscription",
	"DeadLetterAlarm": "AWS::CloudWatch::Alarm", "AgeAlarm": "AWS::CloudWatch::Alarm",
	"ErrorsAlarm": "AWS::CloudWatch::Alarm", "ThrottlesAlarm": "AWS::CloudWatch::Alarm",
}

// deployed is one function of the template. Its resources have the suffixes of forEach.
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
			d := deployed{Function: f, id: tp.id(t, f.Name)}
			d.resource = func(word string) any { return tp.at("Resources", d.id+word, "Properties") }
			test(t, tp, d)
		})
	}
}

// id returns what the logical ids of a function begin with.
func (tp template) id(t testing.TB, function string) string {
	t.Helper()
	for name := range tp.at("Resources").(map[string]any) {
		if strings.EqualFold(name, function+"Function") {
			return strings.TrimSuffix(name, "Function")
		}
	}
	require.Fail(t, "the template does not have the function", function)
	return ""
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
		for _, typ := range slices.Concat(f.Types, f.Reacts) {
			types = append(types, typ)
		}
		s := chosen(f.resource("Subscription"), nil, nil)
		filter := at(s, "FilterPolicy")
		if f.RolloutOnly { // commands, or events with the attribute rollout
			of := at(filter, "$or").([]any)
			require.Len(t, of, 2)
			require.Equal(t, map[string]any{"$or": of}, filter)
			require.Equal(t, map[string]any{"type": at(of[0], "type")}, of[0])
			require.ElementsMatch(t, f.Types, at(of[0], "type"))
			separate := chosen(f.resource("Subscription"), map[string]bool{"SeparatesApproval": true}, nil)
			require.NotContains(t, at(at(separate, "FilterPolicy", "$or").([]any)[0], "type"), events.TypeRolloutApprove)
			require.Equal(t, map[string]any{"type": at(of[1], "type"), "rollout": []any{map[string]any{"exists": true}}}, of[1])
			require.ElementsMatch(t, f.Reacts, at(of[1], "type"))
		} else {
			require.Equal(t, map[string]any{"type": at(filter, "type")}, filter)
			require.ElementsMatch(t, types, at(filter, "type"))
		}
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
	sample := regexp.MustCompile(`(recompose\.[a-z._]+\.v[0-9]+)\.json$`)
	for _, f := range files {
		if m := sample.FindStringSubmatch(f); m != nil {
			known = append(known, m[1])
		}
	}
	for separate, taken := range map[bool][]any{
		false: known,
		true:  slices.DeleteFunc(slices.Clone(known), func(typ any) bool { return typ == events.TypeRolloutApprove }), // it has a topic of its own
	} {
		conditions := map[string]bool{"SeparatesApproval": separate}
		filter := chosen(readTemplate(t).at("Resources", "UnroutedSubscription", "Properties", "FilterPolicy", "type"), conditions, nil).([]any)
		require.Len(t, filter, 2)
		require.Equal(t, map[string]any{"exists": false}, filter[0])
		require.ElementsMatch(t, taken, at(filter[1], "anything-but"))
	}
}

// With SeparateApproval the right to approve is the right to publish on a topic that delivers nothing else.
func TestTheTopicForApproval(t *testing.T) {
	t.Parallel()
	tp := readTemplate(t)
	for _, name := range []string{
		"ApprovalTopic", "ApprovalTopicPolicy", "ApprovalSubscription", "ApprovalUnroutedSubscription", "ApprovalUntypedAlarm",
		"ApprovalUndeliveredAlarm",
	} {
		require.Equal(t, "SeparatesApproval", tp.at("Resources", name, "Condition"))
	}
	require.Equal(t, "SeparatesApproval", tp.at("Outputs", "ApprovalTopicArn", "Condition"))
	s := tp.at("Resources", "ApprovalSubscription", "Properties")
	require.Equal(t, map[string]any{"type": []any{events.TypeRolloutApprove}}, at(s, "FilterPolicy"))
	require.Equal(t, ref("ApprovalTopic"), at(s, "TopicArn"))
	require.Equal(t, attribute("RolloutQueue", "Arn"), at(s, "Endpoint"))
	require.Equal(t, true, at(s, "RawMessageDelivery"))
	kept := tp.at("Resources", "ApprovalUnroutedSubscription", "Properties")
	require.Equal(t, map[string]any{
		"type": []any{map[string]any{"exists": false}, map[string]any{"anything-but": []any{events.TypeRolloutApprove}}},
	}, at(kept, "FilterPolicy"), "what the other filter does not take")
	require.Equal(t, ref("ApprovalTopic"), at(kept, "TopicArn"))
	require.Equal(t, attribute("UnroutedQueue", "Arn"), at(kept, "Endpoint"))
	require.Equal(t, true, at(kept, "RawMessageDelivery"))
	senders := tp.at("Resources", "UnroutedQueuePolicy", "Properties", "PolicyDocument", "Statement")
	for separate, topics := range map[bool][]any{true: {ref("Topic"), ref("ApprovalTopic")}, false: {ref("Topic")}} {
		statements := chosen(senders, map[string]bool{"SeparatesApproval": separate}, nil).([]any)
		require.Equal(t, topics, at(statements[0], "Condition", "ArnEquals", "aws:SourceArn"))
	}
	const ada, other = "arn:aws:iam::123456789012:user/ada", "arn:aws:iam::123456789012:role/other"
	policy := tp.at("Resources", "ApprovalTopicPolicy", "Properties", "PolicyDocument", "Statement")
	for _, named := range []bool{true, false} {
		statements := chosen(policy, map[string]bool{"IsRestricted": true, "HasApprovers": named}, map[string]any{"ApproverPrincipals": []any{ada}})
		denied := func(arn string) (denied bool) {
			for _, s := range statements.([]any) {
				denied = denied || at(s, "Effect") == "Deny" && applies(t, at(s, "Condition"), principal{arn: arn})
			}
			return denied
		}
		require.Equal(t, !named, denied(ada))
		require.True(t, denied(other))
	}
}

// The rule wakes rollout by a message that no sender can publish on the topic.
func TestTheTimerOfRollouts(t *testing.T) {
	t.Parallel()
	rule := readTemplate(t).at("Resources", "RolloutTimer", "Properties")
	require.Equal(t, "rate(1 minute)", at(rule, "ScheduleExpression"))
	targets := at(rule, "Targets").([]any)
	require.Len(t, targets, 1)
	require.Equal(t, attribute("RolloutQueue", "Arn"), at(targets[0], "Arn"))
	require.Equal(t, map[string]any{"id": "$.id", "time": "$.time"}, at(targets[0], "InputTransformer", "InputPathsMap"))
	text := strings.NewReplacer("<id>", `"e-1"`, "<time>", `"2026-02-10T08:00:00Z"`).
		Replace(at(targets[0], "InputTransformer", "InputTemplate").(string))
	e, err := events.Decode(nil, []byte(text), events.Bare{})
	require.NoError(t, err)
	require.Equal(t, queue.WakeType(events.FnRollout), e.Type)
	for _, f := range functions.Routes() {
		require.Equal(t, f.Name == events.FnRollout, f.IsWake(e.Type), f.Name)
		require.Equal(t, f.Name == events.FnRollout, f.Wake != nil, "%s needs a rule that wakes it", f.Name)
	}
}

func TestEachFunctionInTheTemplate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, tp template, f deployed) {
		p, globals := f.resource("Function"), tp.at("Globals", "Function")
		require.Equal(t, "makefile", tp.at("Resources", f.id+"Function", "Metadata", "BuildMethod"))
		require.Equal(t, []any{".", "bootstrap", "provided.al2023", "Active"},
			[]any{at(globals, "CodeUri"), at(globals, "Handler"), at(globals, "Runtime"), at(globals, "Tracing")})
		require.Equal(t, []any{"arm64"}, at(globals, "Architectures"))
		require.Equal(t, "Allow", at(globals, "RecursiveLoop"), "else Lambda ends a job's polls after 16 of them")
		require.Equal(t, attribute(f.id+"Role", "Arn"), at(p, "Role"))
		require.Equal(t, "JSON", at(globals, "LoggingConfig", "LogFormat"))
		require.Equal(t, "TRACE", at(globals, "LoggingConfig", "ApplicationLogLevel"), "Lambda would drop metrics with what is below")
		require.Equal(t, ref(f.id+"Logs"), at(p, "LoggingConfig", "LogGroup"))
		require.Equal(t, map[string]any{"Fn::Sub": "/recompose/${AWS::StackName}/" + f.Name}, at(f.resource("Logs"), "LogGroupName"))

		env := at(p, "Environment", "Variables")
		require.Equal(t, ref(f.id+"Queue"), at(env, "RECOMPOSE_QUEUE_URL"))
		require.Equal(t, ref(f.id+"DeadLetterQueue"), at(env, "RECOMPOSE_DEAD_LETTER_QUEUE_URL"))
		require.Equal(t, ref("Topic"), at(globals, "Environment", "Variables", "RECOMPOSE_TOPIC_ARN"))
		require.Equal(t, eitherTable(ref("Table"), ref("ExistingTableName")), at(globals, "Environment", "Variables", "RECOMPOSE_TABLE"))
		require.Equal(t, ref("SecretArn"), at(globals, "Environment", "Variables", "RECOMPOSE_SECRET_ARN"))

		batch, sandboxes := 10, ref("ReaderConcurrency")
		switch {
		case f.Writes:
			batch, sandboxes = 1, ref("WriterConcurrency")
		case f.NoCalls:
			sandboxes = 2
			require.Empty(t, at(env, "RECOMPOSE_SECRET_ARN"))
			require.NotNil(t, at(env, "RECOMPOSE_SECRET_ARN"), "else it has that of all functions")
		}
		source := at(p, "Events", "Queue", "Properties")
		require.Len(t, at(p, "Events"), 1, "its queue alone triggers it")
		require.Equal(t, "SQS", at(p, "Events", "Queue", "Type"))
		require.Equal(t, attribute(f.id+"Queue", "Arn"), at(source, "Queue"))
		require.Equal(t, batch, at(source, "BatchSize"))
		require.Equal(t, []any{"ReportBatchItemFailures"}, at(source, "FunctionResponseTypes"))
		require.Equal(t, sandboxes, at(source, "ScalingConfig", "MaximumConcurrency"))
		require.Equal(t, sandboxes, at(env, "RECOMPOSE_SANDBOXES"), "they share the rate")
		for _, calls := range []string{"Reads", "Writes"} {
			if f.NoCalls {
				continue
			}
			require.NotNil(t, tp.at("Mappings", "Shares", f.id, calls), "Shares needs %s of %s", calls, f.id)
			require.Equal(t, map[string]any{"Fn::FindInMap": []any{"Shares", f.id, calls}}, at(env, "RECOMPOSE_"+strings.ToUpper(calls)+"_SHARE"))
			require.Equal(t, ref(calls+"PerMinute"), at(globals, "Environment", "Variables", "RECOMPOSE_"+strings.ToUpper(calls)+"_PER_MINUTE"))
		}
		require.Equal(t, []any{"HasVpc", map[string]any{"SubnetIds": ref("SubnetIds"), "SecurityGroupIds": ref("SecurityGroupIds")}, ref("AWS::NoValue")},
			at(globals, "VpcConfig", "Fn::If"))
	})
}

// A reading of all desktops begins anew in each invocation, so one of a large fleet must fit into the timeout and the
// memory of the function, at the rate that a sandbox has with the defaults.
func TestALargeFleetCanBeListed(t *testing.T) {
	t.Parallel()
	const desktops, page, kilobytes = 40_000, 500, 9 // memory of a desktop, as measured
	tp := readTemplate(t)
	each(t, func(t *testing.T, _ template, f deployed) {
		if f.Name != events.FnListDesktops {
			return
		}
		perMinute := tp.at("Parameters", "ReadsPerMinute", "Default").(int) * tp.at("Mappings", "Shares", f.id, "Reads").(int) / 100 /
			tp.at("Parameters", "ReaderConcurrency", "Default").(int)
		spread := perMinute - perMinute/10 // a tenth may go at once, see workspace.newBucket
		seconds := desktops / page * 60 / spread
		require.Less(t, seconds, at(f.resource("Function"), "Timeout").(int)-10)
		require.Less(t, desktops*kilobytes, at(f.resource("Function"), "MemorySize").(int)*1000)
	})
}

func TestTheSharesAreThoseOfTheWholeStack(t *testing.T) {
	t.Parallel()
	sum := map[string]int{}
	for _, share := range readTemplate(t).at("Mappings", "Shares").(map[string]any) {
		for calls, percent := range share.(map[string]any) {
			sum[calls] += percent.(int)
		}
	}
	require.Equal(t, map[string]int{"Reads": 100, "Writes": 100}, sum, "percent")
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
			want := map[string]any{"FromTheTopic": ref("Topic"), "TLSOnly": nil, "AllOthers": nil}
			if f.Name == events.FnRollout {
				want["FromTheApprovalTopic"] = ref("ApprovalTopic")
				if word == "Queue" {
					want["FromItsTimer"] = attribute("RolloutTimer", "Arn")
				}
			}
			if word == "Queue" {
				want["Senders"] = nil
			}
			if word == "Queue" && len(f.Types) > 0 { // operators, rules and schedules send only commands
				want["EventRules"] = ref("EventRuleArns")
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
				case "AllOthers": // see TestRestrictPublishers
					require.Equal(t, []any{"Deny", "sqs:SendMessage"}, []any{at(s, "Effect"), at(s, "Action")})
				case "Senders":
					require.Equal(t, ref("SenderPrincipals"), at(s, "Principal", "AWS"))
					require.Equal(t, "sqs:SendMessage", at(s, "Action"))
				default:
					service := map[string]string{
						"FromTheTopic": "sns.amazonaws.com", "FromTheApprovalTopic": "sns.amazonaws.com",
						"EventRules": "events.amazonaws.com", "FromItsTimer": "events.amazonaws.com",
					}[sid]
					require.Equal(t, map[string]any{"Service": service}, at(s, "Principal"))
					require.Equal(t, want[sid], at(s, "Condition", "ArnEquals", "aws:SourceArn"), "any rule or topic of any account could send else")
					require.Equal(t, "sqs:SendMessage", at(s, "Action"))
				}
			}
		}
	})
}

func choice(condition string, yes, no any) any {
	return map[string]any{"Fn::If": []any{condition, yes, no}}
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
		require.Equal(t, []any{choice("HasAlarmEmail", ref("AlarmTopic"), choice("HasAlarmTopic", ref("AlarmTopicArn"), ref("AWS::NoValue")))},
			at(p, "AlarmActions"), name)
		require.Equal(t, []any{choice("MailsOK", ref("AlarmTopic"), choice("SendsOK", ref("AlarmTopicArn"), ref("AWS::NoValue")))},
			at(p, "OKActions"), name)
		if name == "KeyRefusedAlarm" { // messages are rare while a key is refused
			require.Equal(t, "ignore", at(p, "TreatMissingData"))
		} else {
			require.Equal(t, "notBreaching", at(p, "TreatMissingData"), name)
		}
		if at(p, "Namespace") == "recompose" { // see TestEachAlarmRings
			continue
		}
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
		"Topic NumberOfNotificationsFilteredOut-NoMessageAttributes":         "UntypedAlarm",
		"ApprovalTopic NumberOfNotificationsFilteredOut-NoMessageAttributes": "ApprovalUntypedAlarm",
		"ApprovalTopic NumberOfNotificationsFailedToRedriveToDlq":            "ApprovalUndeliveredAlarm",
	}, watches)
}

func TestTheTableOfTheTemplate(t *testing.T) {
	t.Parallel()
	table := readTemplate(t).at("Resources", "Table")
	require.Equal(t, "RetainExceptOnCreate", at(table, "DeletionPolicy"), "a stack that could not be made leaves none behind")
	require.Equal(t, "Retain", at(table, "UpdateReplacePolicy"))
	require.Equal(t, "MakesTable", at(table, "Condition"))
	require.Equal(t, map[string]any{"Fn::Equals": []any{ref("ExistingTableName"), ""}}, readTemplate(t).at("Conditions", "MakesTable"))
	require.Equal(t, eitherTable(ref("Table"), ref("ExistingTableName")), readTemplate(t).at("Outputs", "TableName", "Value"))
	p := at(table, "Properties")
	require.Equal(t, true, at(p, "DeletionProtectionEnabled"))
	require.Equal(t, "PAY_PER_REQUEST", at(p, "BillingMode"))
	require.Equal(t, []any{map[string]any{"AttributeName": "pk", "KeyType": "HASH"}}, at(p, "KeySchema"))
	require.Equal(t, map[string]any{"AttributeName": "expires", "Enabled": true}, at(p, "TimeToLiveSpecification"))
	require.Equal(t, true, at(p, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"))
	require.Equal(t, true, at(p, "SSESpecification", "SSEEnabled"))
}

func TestEachVariableOfTheTemplateIsASetting(t *testing.T) {
	t.Parallel()
	settings := map[string]bool{}
	c, _ := config.Load(config.Options{}) // its faults do not matter here
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

func TestTheOutputsNameEachQueue(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, tp template, f deployed) {
		for _, word := range []string{"Queue", "DeadLetterQueue"} {
			require.Equal(t, ref(f.id+word), tp.at("Outputs", f.id+word+"Url", "Value"))
			require.Equal(t, attribute(f.id+word, "Arn"), tp.at("Outputs", f.id+word+"Arn", "Value"))
		}
	})
	for name, o := range readTemplate(t).at("Outputs").(map[string]any) {
		require.NotEmpty(t, at(o, "Description"), name)
	}
}
