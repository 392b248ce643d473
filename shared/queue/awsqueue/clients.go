package awsqueue

import (
	"context"
	"errors"
	"fmt"
	"os"

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

// Environment returns the configuration of AWS clients: the region and the keys that Lambda puts in the environment
// of a function. It makes no calls. Keys in the environment do not change while a sandbox lives.
func Environment() (aws.Config, error) {
	region := os.Getenv("AWS_REGION")
	if region == "" {
		region = os.Getenv("AWS_DEFAULT_REGION")
	}
	keys := aws.Credentials{
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: os.Getenv("AWS_SESSION_TOKEN"), Source: "environment",
	}
	var faults []error
	if region == "" {
		faults = append(faults, errors.New("AWS_REGION is missing"))
	}
	if !keys.HasKeys() {
		faults = append(faults, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are missing"))
	}
	if len(faults) > 0 {
		return aws.Config{}, fmt.Errorf("the environment of AWS: %w", errors.Join(faults...))
	}
	return aws.Config{
		Region:      region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil }),
	}, nil
}

// Endpoint is the address of a service that the environment sets: AWS_ENDPOINT_URL_<SERVICE>, else AWS_ENDPOINT_URL;
// nil for the default of the region.
func Endpoint(service string) *string {
	for _, name := range []string{"AWS_ENDPOINT_URL_" + service, "AWS_ENDPOINT_URL"} {
		if url := os.Getenv(name); url != "" {
			return &url
		}
	}
	return nil
}

// Clients makes the clients of a function, once for all its invocations. It does not connect yet.
func Clients(c aws.Config) (*sqs.Client, *sns.Client) {
	at := func(base **string, service string) {
		if url := Endpoint(service); url != nil { // otherwise the endpoint of c holds
			*base = url
		}
	}
	return sqs.NewFromConfig(c, func(o *sqs.Options) { at(&o.BaseEndpoint, "SQS") }),
		sns.NewFromConfig(c, func(o *sns.Options) { at(&o.BaseEndpoint, "SNS") })
}
