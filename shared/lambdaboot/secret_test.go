package lambdaboot

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/require"

	"recompose/shared/workspace"
)

// fakeSecrets has one secret.
type fakeSecrets struct{ text, version string }

func (f *fakeSecrets) GetSecretValue(
	context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options),
) (*secretsmanager.GetSecretValueOutput, error) {
	return &secretsmanager.GetSecretValueOutput{SecretString: &f.text, VersionId: &f.version}, nil
}

func TestCredentialsOfAnotherKindAreNotTaken(t *testing.T) {
	t.Parallel()
	auth := &rotating{current: workspace.AKSK{AccessKey: "key", SecretKey: "old"}}
	require.ErrorContains(t, auth.replace(workspace.Token("token"), ""), "another kind")
	require.ErrorIs(t, auth.replace(workspace.AKSK{AccessKey: "key", SecretKey: "old"}, "2"), errUnchanged)
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, wrong string
		flags       map[string]string
	}{
		"short names": {text: `{"AK":"a","sk":"s\n","PROJECT_ID":"p"}`, flags: map[string]string{
			"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "s", "HUAWEICLOUD_SDK_PROJECT_ID": "p"}},
		"variables": {text: `{"HUAWEICLOUD_SDK_AK":"a","RECOMPOSE_AUTH_TOKEN":"t"}`, flags: map[string]string{
			"HUAWEICLOUD_SDK_AK": "a", "RECOMPOSE_AUTH_TOKEN": "t"}},
		"a login": {text: `{"IAM_USER":"u 1","iam_password":"p w\n","IAM_DOMAIN":"d","RECOMPOSE_IAM_ENDPOINT":"https://iam.example.org"}`,
			flags: map[string]string{
				"RECOMPOSE_IAM_USER": "u 1", "RECOMPOSE_IAM_PASSWORD": "p w", "RECOMPOSE_IAM_DOMAIN": "d",
				"RECOMPOSE_IAM_ENDPOINT": "https://iam.example.org"}},
		"a file of Windows":    {text: "\ufeff" + `{"AK":"a"}`, flags: map[string]string{"HUAWEICLOUD_SDK_AK": "a"}},
		"a password in quotes": {text: `{"IAM_PASSWORD":"'hidden'"}`, wrong: `"IAM_PASSWORD" has quotes`},
		"no JSON":              {text: `hidden`, wrong: "JSON object"},
		"double quotes":        {text: `{"AK":"a","SK":"\"hidden\""}`, wrong: `"SK" has quotes`},
		"single quotes":        {text: `{"AUTH_TOKEN":"'hidden'\n"}`, wrong: `"AUTH_TOKEN" has quotes`},
		"a variable's":         {text: `{"HUAWEICLOUD_SDK_AK":"\"hidden\""}`, wrong: `"HUAWEICLOUD_SDK_AK" has quotes`},
		"its token":            {text: `{"security_token":"\"hidden\""}`, wrong: `"security_token" has quotes`},
		"unknown":              {text: `{"AKK":"hidden"}`, wrong: "AKK"},
		"not a string":         {text: `{"AK":{"x":"hidden"}}`, wrong: "AK"},
		"twice":                {text: `{"AK":"hidden","HUAWEICLOUD_SDK_AK":"hidden"}`, wrong: "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &secret{arn: "arn", manager: &fakeSecrets{text: c.text}}
			flags, err := s.read(t.Context())
			if c.wrong == "" {
				require.NoError(t, err)
				require.Equal(t, c.flags, flags)
				return
			}
			require.ErrorContains(t, err, c.wrong)
			require.NotContains(t, err.Error(), "hidden")
		})
	}
}

// answering is a secret in a Secrets Manager that gives these answers in turn, and then always the last one.
func answering(t *testing.T, answers ...func(http.ResponseWriter)) (s *secret, requests *[]*http.Request) {
	t.Helper()
	requests = &[]*http.Request{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := min(len(*requests), len(answers)-1)
		*requests = append(*requests, r)
		answers[n](w)
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.URL, "RECOMPOSE_SECRET_ARN": secretARN,
	} {
		t.Setenv(name, value)
	}
	c, err := environment()
	require.NoError(t, err)
	s, err = newSecret(c)
	require.NoError(t, err)
	return s, requests
}

func answer(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("X-Amzn-Requestid", "r-1")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestTheTextOfASecret(t *testing.T) {
	s, requests := answering(t, answer(200, `{"ARN":"x","VersionId":"v1","SecretString":"{\"AK\":\"a\"}"}`))
	flags, err := s.read(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]string{"HUAWEICLOUD_SDK_AK": "a"}, flags)
	require.Equal(t, "v1", s.version)
	require.Len(t, *requests, 1)
	r := (*requests)[0]
	require.Contains(t, r.Header.Get("Authorization"), "/us-east-1/secretsmanager/aws4_request", "the region of the secret")
	require.Equal(t, "token", r.Header.Get("X-Amz-Security-Token"))
}

func TestASecretIsReadAgainWhereThatMayHelp(t *testing.T) {
	busy := answer(400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`)
	broken := answer(503, `<html>`)
	whole := answer(200, `{"SecretString":"{}"}`)
	gone := answer(400, `{"__type":"com.amazonaws#ResourceNotFoundException","Message":"no such secret"}`)
	denied := answer(400, `{"__type":"AccessDeniedException","Message":"not authorized to perform: secretsmanager:GetSecretValue"}`)
	moved := func(w http.ResponseWriter) {
		w.Header().Set("Location", "https://elsewhere.example")
		answer(302, "")(w)
	}
	for name, c := range map[string]struct {
		answers []func(http.ResponseWriter)
		calls   int
		wrong   []string
	}{
		"busy, broken, whole": {answers: []func(http.ResponseWriter){busy, broken, whole}, calls: 3},
		"broken":              {answers: []func(http.ResponseWriter){broken}, calls: 3, wrong: []string{"503"}},
		"gone":                {answers: []func(http.ResponseWriter){gone}, calls: 1, wrong: []string{"400", "ResourceNotFoundException: no such secret", "r-1"}},
		"denied":              {answers: []func(http.ResponseWriter){denied}, calls: 1, wrong: []string{"AccessDeniedException: not authorized to perform", "r-1"}},
		"binary":              {answers: []func(http.ResponseWriter){answer(200, `{"SecretBinary":"aGlkZGVu"}`)}, calls: 1, wrong: []string{"SecretString"}},
		"cut off":             {answers: []func(http.ResponseWriter){answer(200, `{"SecretString":"hidden`)}, calls: 1, wrong: []string{"deserialization"}},
		"a redirect":          {answers: []func(http.ResponseWriter){moved}, calls: 1, wrong: []string{"302"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, requests := answering(t, c.answers...)
			_, err := s.load(t.Context())
			for _, text := range c.wrong {
				require.ErrorContains(t, err, text)
				require.ErrorContains(t, err, "RECOMPOSE_SECRET_ARN: read the secret "+secretARN)
				require.NotContains(t, err.Error(), "hidden")
			}
			if c.wrong == nil {
				require.NotContains(t, err.Error(), "read the secret")
			}
			require.Len(t, *requests, c.calls)
		})
	}
}

// silent never answers.
type silent struct{}

func (silent) GetSecretValue(
	ctx context.Context, _ *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options),
) (*secretsmanager.GetSecretValueOutput, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestASecretIsNotAwaitedForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		_, err := (&secret{arn: secretARN, manager: silent{}}).load(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, readSecretWithin, time.Since(begun))
	})
}

func TestWhatIsNoARNOfASecret(t *testing.T) {
	for _, value := range []string{"recompose", "arn:aws:sns:us-east-1:000000000000:recompose", "arn:aws:secretsmanager::000000000000:secret:recompose"} {
		t.Setenv("RECOMPOSE_SECRET_ARN", value)
		_, err := newSecret(aws.Config{})
		require.ErrorContains(t, err, "RECOMPOSE_SECRET_ARN: must be the ARN of a secret, like arn:aws:secretsmanager:")
		require.ErrorContains(t, err, `got "`+value+`"`)
	}
}
