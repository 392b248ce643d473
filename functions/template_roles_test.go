package functions_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/safety"
	"recompose/shared/service"
)

// eitherTable is a value that depends on whether the stack makes its table.
func eitherTable(made, existing any) any {
	return choice("MakesTable", made, existing)
}

var theTable = eitherTable(attribute("Table", "Arn"),
	map[string]any{"Fn::Sub": "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${ExistingTableName}"})

// statements returns all statements of a function's role: of its own policy and of the managed ones, which must be of
// this template.
func (f deployed) statements(t *testing.T, tp template) []any {
	t.Helper()
	own := list(at(f.resource("Role"), "Policies"))
	require.Len(t, own, 1)
	all := list(at(own[0], "PolicyDocument", "Statement"))
	for _, managed := range at(f.resource("Role"), "ManagedPolicyArns").([]any) {
		name := at(managed, "Ref").(string)
		require.Equal(t, "AWS::IAM::ManagedPolicy", tp.at("Resources", name, "Type"), "one of AWS's could grow")
		all = append(all, list(tp.at("Resources", name, "Properties", "PolicyDocument", "Statement"))...)
	}
	return all
}

func TestEachRoleInTheTemplate(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, tp template, f deployed) {
		topic := list(tp.at("Resources", "TopicPolicy", "Properties", "PolicyDocument", "Statement"))
		require.Contains(t, at(topic[0], "Principal", "AWS"), attribute(f.id+"Role", "Arn"), "it may publish")
		require.Equal(t, []any{"HasBoundary", ref("PermissionsBoundary"), ref("AWS::NoValue")}, at(f.resource("Role"), "PermissionsBoundary", "Fn::If"))
		may := map[string]any{} // action → resource
		for _, s := range f.statements(t, tp) {
			actions, many := at(s, "Action").([]any)
			if !many {
				actions = []any{at(s, "Action")}
			}
			for _, a := range actions {
				require.NotContains(t, a, "*")
				if at(s, "Resource") == "*" {
					require.Regexp(t, "^(xray:PutTraceSegments|xray:PutTelemetryRecords|ec2:.*)$", a)
				}
				if strings.HasPrefix(a.(string), "ec2:") { // in a VPC alone: see TestTheFunctionsInAVPC
					continue
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
			"dynamodb:GetItem": theTable, "dynamodb:PutItem": theTable,
			"secretsmanager:GetSecretValue": ref("SecretArn"), "kms:Decrypt": ref("SecretKmsKeyArn"),
			"logs:CreateLogStream": attribute(f.id+"Logs", "Arn"), "logs:PutLogEvents": attribute(f.id+"Logs", "Arn"),
			"xray:PutTraceSegments": "*", "xray:PutTelemetryRecords": "*",
		}
		if f.NoCalls {
			delete(want, "secretsmanager:GetSecretValue")
			delete(want, "kms:Decrypt")
		}
		if f.Writes || f.NoCalls || f.Name == events.FnWatchJob { // these read the epoch of the ledger
			want["dynamodb:DescribeTable"] = theTable
		}
		if f.Writes || f.NoCalls { // these read what holds writes back
			want["dynamodb:BatchGetItem"] = theTable
		}
		require.Equal(t, want, may)
	})
}

// No function may freeze, thaw, change a list of desktops, or remove a record.
func TestWhatARoleMayNotDoToTheTable(t *testing.T) {
	t.Parallel()
	keys := func(s any, operator string) any { return at(s, "Condition", operator, "dynamodb:LeadingKeys") }
	each(t, func(t *testing.T, tp template, f deployed) {
		by := map[string]any{}
		for _, s := range f.statements(t, tp) {
			if reflect.DeepEqual(at(s, "Resource"), theTable) {
				by[at(s, "Sid").(string)] = s
			}
		}
		if f.Name == events.FnRollout { // see TestWhatRolloutMayDoToTheTable
			require.Contains(t, at(f.resource("Role"), "ManagedPolicyArns"), ref("RolloutTablePolicy"))
			require.Len(t, by, 2)
			return
		}
		if by["TheLedger"] == nil {
			const only = "TheKeyTheServiceAndTheEndsOfReads"
			require.Len(t, by, 1, "without writes it has these alone")
			require.Equal(t, []any{safety.KeyKey, service.Key, "read/*"}, keys(by[only], "ForAllValues:StringLike"))
			require.Equal(t, "false", keys(by[only], "Null"), "ForAllValues holds where there is no key, too")
			require.False(t, f.Writes)
			return
		}
		if several := by["WhatHoldsWritesBack"]; f.Writes {
			require.Equal(t, []any{"Allow", "dynamodb:BatchGetItem"}, []any{at(several, "Effect"), at(several, "Action")})
			delete(by, "WhatHoldsWritesBack")
		}
		deny := by["NoChangeByPeopleOrRollouts"]
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
		require.Contains(t, denied, "rollouts/*", "only rollout writes them")
		require.Len(t, denied, 7)
	})
}

// Only rollout writes the records of rollouts, and it writes no record of the ledger, no freeze and no list.
func TestWhatRolloutMayDoToTheTable(t *testing.T) {
	t.Parallel()
	statements := list(readTemplate(t).at("Resources", "RolloutTablePolicy", "Properties", "PolicyDocument", "Statement"))
	require.Len(t, statements, 2)
	for _, s := range statements {
		require.Equal(t, "Allow", at(s, "Effect"))
		require.Equal(t, theTable, at(s, "Resource"))
	}
	require.Equal(t, []any{"dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:BatchGetItem"}, at(statements[0], "Action"))
	require.Equal(t, "dynamodb:PutItem", at(statements[1], "Action"))
	condition := at(statements[1], "Condition")
	require.Equal(t, []any{"rollouts/*"}, at(condition, "ForAllValues:StringLike", "dynamodb:LeadingKeys"))
	require.Equal(t, "false", at(condition, "Null", "dynamodb:LeadingKeys"))
}

// Senders and readers may read the deployment's service, and change nothing.
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
	require.Equal(t, theTable, at(statements[1], "Resource"))
	condition := at(statements[1], "Condition")
	require.Equal(t, []any{service.Key}, at(condition, "ForAllValues:StringEquals", "dynamodb:LeadingKeys"))
	require.Equal(t, "false", at(condition, "Null", "dynamodb:LeadingKeys"))
	require.Equal(t, ref("ServiceReaderPolicy"), tp.at("Outputs", "ServiceReaderPolicyArn", "Value"))
}

// Lambda may make network interfaces for the functions only in a VPC, and their code may not.
func TestTheFunctionsInAVPC(t *testing.T) {
	t.Parallel()
	tp := readTemplate(t)
	found := map[string]any{}
	for _, s := range tp.at("Resources", "FunctionPolicy", "Properties", "PolicyDocument", "Statement").([]any) {
		c, ok := at(s, "Fn::If").([]any)
		if !ok {
			require.NotContains(t, at(s, "Sid"), "Network")
			continue
		}
		if sid := at(c[1], "Sid").(string); strings.HasPrefix(sid, "Network") {
			require.Equal(t, "HasVpc", c[0])
			require.Equal(t, ref("AWS::NoValue"), c[2])
			found[sid] = c[1]
		}
	}
	require.Len(t, found, 2)
	require.Equal(t, "Deny", at(found["NetworkNotByTheirCode"], "Effect"))
	require.Equal(t, at(found["Network"], "Action"), at(found["NetworkNotByTheirCode"], "Action"))
	require.Equal(t, map[string]any{"lambda:SourceFunctionArn": map[string]any{"Fn::Sub": "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:*"}},
		at(found["NetworkNotByTheirCode"], "Condition", "ArnLike"))
}
