package lambdaboot

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/require"

	"recompose/shared/queue/awsqueue"
)

func TestEnvironment(t *testing.T) {
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"} {
		t.Setenv(variable, "")
	}
	_, err := environment()
	require.ErrorContains(t, err, "AWS_REGION")
	require.ErrorContains(t, err, "AWS_ACCESS_KEY_ID")
	t.Setenv("AWS_DEFAULT_REGION", "eu-central-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_SESSION_TOKEN", "t")
	c, err := environment()
	require.NoError(t, err)
	require.Equal(t, "eu-central-1", c.Region)
	keys, err := c.Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, "t", keys.SessionToken)
	require.Nil(t, dynamodb.NewFromConfig(c).Options().BaseEndpoint, "the region's own")
}

func TestEachClientOfAWSHasItsEndpoint(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_ENDPOINT_URL", "http://all")
	for _, service := range []string{"SQS", "DYNAMODB", "SECRETS_MANAGER"} {
		t.Setenv("AWS_ENDPOINT_URL_"+service, "http://"+service)
	}
	c, err := environment()
	require.NoError(t, err)
	queues, topic := awsqueue.Clients(c)
	require.Equal(t, "http://SQS", *queues.Options().BaseEndpoint)
	require.Equal(t, "http://all", *topic.Options().BaseEndpoint)
	require.Equal(t, "http://DYNAMODB", *dynamodb.NewFromConfig(c).Options().BaseEndpoint)
	require.Equal(t, "http://SECRETS_MANAGER", *secretsmanager.NewFromConfig(c).Options().BaseEndpoint)
}
