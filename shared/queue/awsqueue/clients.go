package awsqueue

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// SQS has the calls that this package makes to the queue service; *sqs.Client implements it.
type SQS interface {
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

// SNS has the call that this package makes to the topic service; *sns.Client implements it.
type SNS interface {
	PublishBatch(context.Context, *sns.PublishBatchInput, ...func(*sns.Options)) (*sns.PublishBatchOutput, error)
}

// Clients makes the clients of a function, once for all its invocations. It does not connect yet.
func Clients(c aws.Config) (*sqs.Client, *sns.Client) {
	return sqs.NewFromConfig(c), sns.NewFromConfig(c)
}
