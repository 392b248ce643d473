package lambdaboot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// environment returns the configuration of the AWS clients: the region and the keys that Lambda puts into the
// environment of a function. They do not change while a sandbox lives. The SDK's config package reads more sources,
// which no function needs, and would add 2 MB and a millisecond to each cold start.
func environment() (aws.Config, error) {
	c := aws.Config{Region: cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")), ConfigSources: []any{endpoints{}}}
	keys := aws.Credentials{
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: os.Getenv("AWS_SESSION_TOKEN"), Source: "environment",
	}
	c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil })
	if url := os.Getenv("AWS_ENDPOINT_URL"); url != "" {
		c.BaseEndpoint = &url
	}
	var faults []error
	if c.Region == "" {
		faults = append(faults, errors.New("AWS_REGION is missing"))
	}
	if !keys.HasKeys() {
		faults = append(faults, errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are missing"))
	}
	if len(faults) > 0 {
		return c, fmt.Errorf("the environment of AWS: %w", errors.Join(faults...))
	}
	return c, nil
}

// endpoints is the source of AWS_ENDPOINT_URL_<SERVICE> for the clients of the SDK.
type endpoints struct{}

// GetServiceBaseEndpoint returns the address of a service, if the environment has one.
func (endpoints) GetServiceBaseEndpoint(_ context.Context, service string) (url string, found bool, err error) {
	url = os.Getenv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(service, " ", "_")))
	return url, url != "", nil
}
