package functions_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"recompose/functions"

	"github.com/stretchr/testify/require"
)

// principal is who calls, as IAM shows it to the conditions of a policy.
type principal struct {
	arn     any    // of a user or role; nil for a service of AWS
	service string // of AWS, that calls for itself
	source  any    // the resource for which that service calls
}

// applies reports whether the conditions of a statement hold, by the rules of IAM: all operators must hold, one value
// of a list must match, and a negated operator holds if the key is missing.
func applies(t *testing.T, conditions any, p principal) bool {
	t.Helper()
	keys := map[string]any{"aws:SecureTransport": "true", "aws:PrincipalIsAWSService": "false"}
	if p.arn != nil {
		keys["aws:PrincipalArn"] = p.arn
	}
	if p.service != "" {
		keys["aws:PrincipalIsAWSService"] = "true"
	}
	if p.source != nil {
		keys["aws:SourceArn"] = p.source
	}
	operators, _ := conditions.(map[string]any)
	for operator, condition := range operators {
		for key, wanted := range condition.(map[string]any) {
			values, many := wanted.([]any)
			if !many {
				values = []any{wanted}
			}
			value, there := keys[key]
			matches := false
			for _, v := range values {
				matches = matches || there && like(v, value)
			}
			switch operator {
			case "ArnEquals", "Bool":
			case "BoolIfExists":
				matches = matches || !there
			case "ArnNotEquals", "ArnNotLike":
				matches = !matches
			default:
				require.Fail(t, "unknown operator", operator)
			}
			if !matches {
				return false
			}
		}
	}
	return true
}

func like(pattern, value any) bool {
	text, isText := pattern.(string)
	other, otherIsText := value.(string)
	if !isText || !otherIsText {
		return reflect.DeepEqual(pattern, value)
	}
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, ".*") + "$").MatchString(other)
}

// chosen is a value with each choice of a condition taken as the set has it, lists of parameters given, and what is
// AWS::NoValue left out.
func chosen(v any, conditions map[string]bool, parameters map[string]any) any {
	switch v := v.(type) {
	case []any:
		list := []any{}
		for _, one := range v {
			if one = chosen(one, conditions, parameters); one != nil {
				list = append(list, one)
			}
		}
		return list
	case map[string]any:
		if c, ok := v["Fn::If"].([]any); ok {
			if conditions[c[0].(string)] {
				return chosen(c[1], conditions, parameters)
			}
			return chosen(c[2], conditions, parameters)
		}
		if name, ok := v["Ref"].(string); ok {
			if name == "AWS::NoValue" {
				return nil
			}
			if value, given := parameters[name]; given {
				return value
			}
			return v
		}
		if v["Fn::GetAtt"] != nil {
			return v
		}
		all := map[string]any{}
		for key, one := range v {
			if one = chosen(one, conditions, parameters); one != nil {
				all[key] = one
			}
		}
		return all
	}
	return v
}

// RestrictPublishers denies all principals that are not named, whatever the policies of the account allow, but neither
// the functions nor the deliveries of SNS and EventBridge.
func TestRestrictPublishers(t *testing.T) {
	t.Parallel()
	const ada, robot, other = "arn:aws:iam::123456789012:user/ada", "arn:aws:iam::123456789012:role/ci/robot", "arn:aws:iam::123456789012:role/other"
	rule := "arn:aws:events:eu-central-1:123456789012:rule/nightly"
	each(t, func(t *testing.T, tp template, f deployed) {
		own := attribute(f.id+"Role", "Arn")
		for _, c := range []struct {
			policy     any
			restricted bool
			named      bool
			who        principal
			denied     bool
		}{
			{"TopicPolicy", true, true, principal{arn: other}, true},
			{"TopicPolicy", true, true, principal{arn: ada}, false},
			{"TopicPolicy", true, true, principal{arn: robot}, true},
			{"TopicPolicy", true, false, principal{arn: ada}, true},
			{"TopicPolicy", true, false, principal{arn: own}, false},
			{"TopicPolicy", true, true, principal{}, true},
			{"TopicPolicy", false, false, principal{arn: other}, false},

			{f.id + "QueuePolicy", true, true, principal{arn: other}, true},
			{f.id + "QueuePolicy", true, true, principal{arn: robot}, false},
			{f.id + "QueuePolicy", true, true, principal{arn: ada}, true},
			{f.id + "QueuePolicy", true, false, principal{arn: robot}, true},
			{f.id + "QueuePolicy", true, false, principal{arn: own}, false},
			{f.id + "QueuePolicy", true, true, principal{service: "sns.amazonaws.com", source: ref("Topic")}, false},
			{f.id + "QueuePolicy", true, true, principal{service: "events.amazonaws.com", source: rule}, false},
			{f.id + "QueuePolicy", false, false, principal{arn: other}, false},

			{f.id + "DeadLetterQueuePolicy", true, true, principal{arn: robot}, true},
			{f.id + "DeadLetterQueuePolicy", true, true, principal{arn: own}, false},
			{f.id + "DeadLetterQueuePolicy", true, true, principal{service: "sns.amazonaws.com", source: ref("Topic")}, false},
			{f.id + "DeadLetterQueuePolicy", false, false, principal{arn: other}, false},
		} {
			conditions := map[string]bool{"IsRestricted": c.restricted, "HasPublishers": c.named, "HasSenders": c.named, "HasEventRules": c.named}
			statements := chosen(tp.at("Resources", c.policy.(string), "Properties", "PolicyDocument", "Statement"), conditions,
				map[string]any{"PublisherPrincipals": []any{ada}, "SenderPrincipals": []any{robot}, "EventRuleArns": []any{rule}})
			denied := false
			for _, s := range statements.([]any) {
				if at(s, "Effect") == "Deny" && at(s, "Principal") == "*" {
					denied = denied || applies(t, at(s, "Condition"), c.who)
				}
			}
			require.Equal(t, c.denied, denied, "%v", c)
		}
	})
	for _, f := range functions.Names() {
		for _, s := range list(readTemplate(t).at("Resources", "TopicPolicy", "Properties", "PolicyDocument", "Statement")) {
			if at(s, "Sid") == "AllOthers" {
				require.Contains(t, at(s, "Condition", "ArnNotEquals", "aws:PrincipalArn"), attribute(readTemplate(t).id(t, f)+"Role", "Arn"))
			}
		}
	}
}

// A service of AWS may send only for the topic and the rules that are named.
func TestServicesSendForWhatIsNamedAlone(t *testing.T) {
	t.Parallel()
	const rule, other = "arn:aws:events:eu-central-1:123456789012:rule/a", "arn:aws:events:eu-central-1:123456789012:rule/b"
	each(t, func(t *testing.T, tp template, f deployed) {
		allowed := func(p principal) bool {
			conditions := map[string]bool{"HasEventRules": true}
			for _, s := range chosen(at(f.resource("QueuePolicy"), "PolicyDocument", "Statement"), conditions, map[string]any{"EventRuleArns": []any{rule}}).([]any) {
				if at(s, "Effect") == "Allow" && at(s, "Principal", "Service") == p.service && applies(t, at(s, "Condition"), p) {
					return true
				}
			}
			return false
		}
		require.Equal(t, len(f.Types) > 0, allowed(principal{service: "events.amazonaws.com", source: rule}))
		require.False(t, allowed(principal{service: "events.amazonaws.com", source: other}))
		require.True(t, allowed(principal{service: "sns.amazonaws.com", source: ref("Topic")}))
		require.False(t, allowed(principal{service: "sns.amazonaws.com", source: "arn:aws:sns:eu-central-1:123456789012:other"}))
	})
}
