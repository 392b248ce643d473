package lambdaboot

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"
)

// answering is a Secrets Manager that gives these answers in turn, the last one again and again.
func answering(t *testing.T, answers ...func(http.ResponseWriter)) (m secretsManager, requests *[]*http.Request) {
	t.Helper()
	requests = &[]*http.Request{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := min(len(*requests), len(answers)-1)
		*requests = append(*requests, r)
		answers[n](w)
	}))
	t.Cleanup(s.Close)
	c := aws.Config{Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret", SessionToken: "token"}, nil
	})}
	return secretsManager{config: c, endpoint: s.URL, wait: time.Nanosecond}, requests
}

func says(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("X-Amzn-Requestid", "r-1")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestTheTextOfASecret(t *testing.T) {
	t.Parallel()
	m, requests := answering(t, says(200, `{"ARN":"x","VersionId":"v1","SecretString":"{\"AK\":\"a\"}"}`))
	value, err := m.value(t.Context(), arn)
	require.NoError(t, err)
	require.Equal(t, secretValue{text: `{"AK":"a"}`, version: "v1"}, value)
	require.Len(t, *requests, 1)
	r := (*requests)[0]
	require.Equal(t, "secretsmanager.GetSecretValue", r.Header.Get("X-Amz-Target"))
	require.Contains(t, r.Header.Get("Authorization"), "/us-east-1/secretsmanager/aws4_request", "the region of the secret")
	require.Equal(t, "token", r.Header.Get("X-Amz-Security-Token"))
}

func TestASecretIsAskedForAgainWhereThatMayHelp(t *testing.T) {
	t.Parallel()
	busy := says(400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`)
	broken := says(503, `<html>`)
	whole := says(200, `{"SecretString":"s"}`)
	cut := says(200, `{"SecretStr`)
	gone := says(400, `{"__type":"com.amazonaws#ResourceNotFoundException","Message":"no such secret"}`)
	moved := func(w http.ResponseWriter) { w.Header().Set("Location", "https://elsewhere.example"); says(302, "")(w) }
	for name, c := range map[string]struct {
		answers []func(http.ResponseWriter)
		asked   int
		wrong   string
	}{
		"busy, broken, whole": {answers: []func(http.ResponseWriter){busy, broken, whole}, asked: 3},
		"cut off, whole":      {answers: []func(http.ResponseWriter){cut, whole}, asked: 2},
		"broken":              {answers: []func(http.ResponseWriter){broken}, asked: 3, wrong: "answers 503"},
		"gone":                {answers: []func(http.ResponseWriter){gone}, asked: 1, wrong: "answers 400 ResourceNotFoundException: no such secret (request r-1)"},
		"binary":              {answers: []func(http.ResponseWriter){says(200, `{"SecretBinary":"aGlkZGVu"}`)}, asked: 1, wrong: "SecretString"},
		"a redirect":          {answers: []func(http.ResponseWriter){moved}, asked: 1, wrong: "answers 302"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, requests := answering(t, c.answers...)
			_, err := m.value(t.Context(), arn)
			if c.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.wrong)
			}
			require.Len(t, *requests, c.asked)
		})
	}
}

func TestWhereSecretsManagerIs(t *testing.T) {
	t.Parallel()
	for partition, want := range map[string]string{
		"aws":     "https://secretsmanager.us-east-1.amazonaws.com",
		"aws-cn":  "https://secretsmanager.us-east-1.amazonaws.com.cn",
		"aws-new": "",
	} {
		region, endpoint, err := secretsManager{}.place(strings.Replace(arn, ":aws:", ":"+partition+":", 1))
		if want == "" {
			require.ErrorContains(t, err, "AWS_ENDPOINT_URL_SECRETS_MANAGER")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "us-east-1", region)
		require.Equal(t, want, endpoint)
	}
	_, _, err := secretsManager{}.place("recompose")
	require.ErrorContains(t, err, `must be the ARN of a secret`)
	require.ErrorContains(t, err, `"recompose"`)
}
