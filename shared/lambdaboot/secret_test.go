package lambdaboot

import (
	"context"
	"testing"

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
