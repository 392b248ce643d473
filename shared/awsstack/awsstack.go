// Package awsstack finds the resources that template.yaml has deployed on AWS, by the name of a stack, topic or queue.
package awsstack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"recompose/shared/queue/awsqueue"
)

// Target is what was found: all fields for a stack, else only the topic or the queue.
type Target struct {
	Config aws.Config // region and credentials of the caller

	Stack    string // its name; "" for a topic or a queue
	TopicARN string
	Approval string // ARN of the topic for the approval of rollouts; "" if it has none of its own
	QueueURL string // only for a queue
	Table    string
	Queues   map[string]awsqueue.Queues // by function

	// The Workspace service that the functions of a stack work on.
	Region, Endpoint, ProjectID string
}

// Find finds a target by its name: an ARN of SNS is a topic, a URL is a queue, and everything else the name or ARN of a
// stack, which is read from CloudFormation. Region and credentials are those that the AWS CLI would use; a region in an
// ARN or URL takes precedence. Find blocks until AWS has answered; it changes nothing.
func Find(ctx context.Context, name string) (*Target, error) {
	t := &Target{}
	region := ""
	switch parts := strings.Split(name, ":"); {
	case name == "":
		return nil, errors.New("must be the name of a stack, the ARN of a topic or the URL of a queue; got nothing")
	case strings.HasPrefix(name, "arn:") && len(parts) == 6 && parts[2] == "sns":
		t.TopicARN, region = name, parts[3]
	case strings.HasPrefix(name, "arn:") && len(parts) == 6 && parts[2] == "cloudformation":
		t.Stack, region = name, parts[3]
	case strings.HasPrefix(name, "arn:"):
		return nil, fmt.Errorf("must be the name of a stack, the ARN of a topic or the URL of a queue; got %q", name)
	case strings.HasPrefix(name, "https://"), strings.HasPrefix(name, "http://"):
		u, err := url.Parse(name)
		if err != nil || strings.Count(u.Path, "/") != 2 {
			return nil, fmt.Errorf("must be the URL of a queue, like https://sqs.eu-central-1.amazonaws.com/123456789012/queue; got %q", name)
		}
		t.QueueURL = name
		if host := strings.Split(u.Hostname(), "."); len(host) > 3 && host[0] == "sqs" {
			region = host[1]
		}
	default:
		t.Stack = name
	}
	var err error
	if t.Config, err = account(ctx, region); err != nil {
		return nil, err
	}
	if t.Stack != "" {
		err = t.describe(ctx)
	}
	return t, err
}

// account returns the region and the credentials of the caller.
func account(ctx context.Context, region string) (aws.Config, error) {
	c, err := awsconfig.LoadDefaultConfig(ctx, func(o *awsconfig.LoadOptions) error {
		if region != "" {
			o.Region = region
		}
		o.Logger = logging.Nop{} // errors are returned; its own lines would mix with those of the program
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if c.Region == "" {
		return c, errors.New("the AWS region is not known: set AWS_REGION, or AWS_PROFILE to a profile that has one")
	}
	if _, err := c.Credentials.Retrieve(ctx); err != nil {
		return c, fmt.Errorf("there are no credentials for AWS: set AWS_PROFILE, or log in as for the AWS CLI: %w", err)
	}
	return c, nil
}

// describe reads the outputs and parameters of the stack from CloudFormation.
func (t *Target) describe(ctx context.Context) error {
	out, err := cloudformation.NewFromConfig(t.Config).DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &t.Stack})
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "ValidationError" {
		return fmt.Errorf("there is no stack %q in %s: %s", t.Stack, t.Config.Region, api.ErrorMessage())
	}
	if err != nil {
		return fmt.Errorf("describe stack %s: %w", t.Stack, err)
	}
	if len(out.Stacks) != 1 {
		return fmt.Errorf("there is no stack %q in %s", t.Stack, t.Config.Region)
	}
	stack := out.Stacks[0]
	t.Stack, t.Queues = aws.ToString(stack.StackName), map[string]awsqueue.Queues{}
	for _, o := range stack.Outputs {
		key, value := aws.ToString(o.OutputKey), aws.ToString(o.OutputValue)
		letters, isLetters := strings.CutSuffix(key, "DeadLetterQueueUrl")
		queue, isQueue := strings.CutSuffix(key, "QueueUrl")
		switch {
		case key == "TopicArn":
			t.TopicARN = value
		case key == "ApprovalTopicArn":
			t.Approval = value
		case key == "TableName":
			t.Table = value
		case isLetters:
			function := strings.ToLower(letters)
			t.Queues[function] = awsqueue.Queues{URL: t.Queues[function].URL, DeadLetterURL: value}
		case isQueue:
			function := strings.ToLower(queue)
			t.Queues[function] = awsqueue.Queues{URL: value, DeadLetterURL: t.Queues[function].DeadLetterURL}
		}
	}
	for _, p := range stack.Parameters {
		switch value := aws.ToString(p.ParameterValue); aws.ToString(p.ParameterKey) {
		case "WorkspaceRegion":
			t.Region = value
		case "WorkspaceEndpoint":
			t.Endpoint = value
		case "ProjectId":
			t.ProjectID = value
		}
	}
	if t.TopicARN == "" || t.Table == "" || len(t.Queues) == 0 {
		return fmt.Errorf("stack %s has no outputs TopicArn, TableName and queues: not a recompose stack, or not deployed yet (%s)", t.Stack, stack.StackStatus)
	}
	return nil
}
