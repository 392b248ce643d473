package lambdaboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/cenkalti/backoff/v5"

	"recompose/shared/workspace"
)

// secretsManager is the one call of AWS Secrets Manager that a function makes, signed by the SDK's signer. The SDK's
// client of the service would add more than a tenth to each cold start; docs/dependencies.md has the figures.
type secretsManager struct {
	config   aws.Config
	endpoint string        // "": that of the secret's region
	wait     time.Duration // before the second try; zero: 100 ms
}

// secretTries is how often the call is made before a cold start fails.
const secretTries = 3

// maxSecretAnswer is more than any secret has: Secrets Manager keeps 64 KiB.
const maxSecretAnswer = 1 << 20

// domains are where the services of a partition are.
var domains = map[string]string{
	"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-eusc": "amazonaws.eu",
	"aws-iso": "c2s.ic.gov", "aws-iso-b": "sc2s.sgov.gov", "aws-iso-e": "cloud.adc-e.uk", "aws-iso-f": "csp.hci.ic.gov",
}

// secretValue is a secret as it is at one moment. Each time that it is put anew it has another version.
type secretValue struct{ text, version string }

// value is a secret as it is now. It blocks until there is an answer or ctx ends, and may be repeated; a call
// that finds the service busy or out of order is made again twice. No error shows a secret.
func (m secretsManager) value(ctx context.Context, arn string) (secretValue, error) {
	region, endpoint, err := m.place(arn)
	if err != nil {
		return secretValue{}, err
	}
	body, err := json.Marshal(map[string]string{"SecretId": arn})
	if err != nil {
		return secretValue{}, err
	}
	waits := backoff.NewExponentialBackOff()
	if waits.InitialInterval = m.wait; m.wait == 0 {
		waits.InitialInterval = 100 * time.Millisecond
	}
	return backoff.Retry(ctx, func() (secretValue, error) { return m.ask(ctx, region, endpoint, body) },
		backoff.WithBackOff(waits), backoff.WithMaxTries(secretTries))
}

// place is the region of a secret and where Secrets Manager is there.
func (m secretsManager) place(arn string) (region, endpoint string, err error) {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 || parts[0] != "arn" || parts[2] != "secretsmanager" || parts[3] == "" {
		return "", "", fmt.Errorf("must be the ARN of a secret, like arn:aws:secretsmanager:eu-central-1:123456789012:secret:recompose-AbCdEf; got %q", arn)
	}
	if m.endpoint != "" {
		return parts[3], strings.TrimRight(m.endpoint, "/"), nil
	}
	domain := domains[parts[1]]
	if domain == "" {
		return "", "", fmt.Errorf("the partition %q of the ARN is not known; say in AWS_ENDPOINT_URL_SECRETS_MANAGER where Secrets Manager is", parts[1])
	}
	return parts[3], "https://secretsmanager." + parts[3] + "." + domain, nil
}

// oneCall is for one call in a minute at most: a connection that is kept would be cut while the sandbox is frozen.
func oneCall() http.RoundTripper {
	var one http.Protocols
	one.SetHTTP1(true)
	return &http.Transport{Proxy: workspace.Proxy, Protocols: &one, DisableKeepAlives: true}
}

func (m secretsManager) ask(ctx context.Context, region, endpoint string, body []byte) (secretValue, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return secretValue{}, backoff.Permanent(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	keys, err := m.config.Credentials.Retrieve(ctx)
	if err != nil {
		return secretValue{}, backoff.Permanent(err)
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(hash[:]), "secretsmanager", region, time.Now()); err != nil {
		return secretValue{}, backoff.Permanent(err)
	}
	client := http.Client{Transport: oneCall(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return secretValue{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSecretAnswer))
	if err != nil {
		return secretValue{}, err
	}
	var answer struct {
		Type         string `json:"__type"`
		Message      string
		SecretString *string
		VersionID    string `json:"VersionId"`
	}
	switch err := json.Unmarshal(text, &answer); {
	case resp.StatusCode == http.StatusOK && err == nil && answer.SecretString != nil:
		return secretValue{text: *answer.SecretString, version: answer.VersionID}, nil
	case resp.StatusCode == http.StatusOK && err == nil:
		return secretValue{}, backoff.Permanent(errors.New("it has no text: store it as SecretString, not as SecretBinary"))
	case resp.StatusCode == http.StatusOK:
		return secretValue{}, errors.New("the answer of Secrets Manager cannot be read")
	}
	kind := answer.Type[strings.LastIndexByte(answer.Type, '#')+1:]
	err = fmt.Errorf("secrets manager answers %d %s: %s (request %s)", resp.StatusCode, kind, answer.Message, resp.Header.Get("X-Amzn-Requestid"))
	if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests && !strings.Contains(kind, "Throttling") {
		err = backoff.Permanent(err)
	}
	return secretValue{}, err
}
