package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// loggedIn is the complete environment with an IAM login instead of keys, and with changes.
func loggedIn(changes ...string) map[string]string {
	return with(append([]string{"HUAWEICLOUD_SDK_AK", "", "HUAWEICLOUD_SDK_SK", "", "RECOMPOSE_IAM_USER", "u1",
		"RECOMPOSE_IAM_PASSWORD", "hunter2 hunter2", "RECOMPOSE_IAM_DOMAIN", "d1"}, changes...)...)
}

// onAServer is the complete environment with an agency instead of keys, and with changes.
func onAServer(changes ...string) map[string]string {
	return with(append([]string{"HUAWEICLOUD_SDK_AK", "", "HUAWEICLOUD_SDK_SK", "", "RECOMPOSE_AGENCY", "metadata"}, changes...)...)
}

func TestWrongCredentials(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want map[string]string // variable → part of the problem
	}{
		{"a login and a key", loggedIn("HUAWEICLOUD_SDK_AK", "AK"), map[string]string{"RECOMPOSE_IAM_USER": "so is HUAWEICLOUD_SDK_AK (an access key); give one kind"}},
		{"a login and half a key of Terraform", loggedIn("HW_SECRET_KEY", "SK"), map[string]string{
			"RECOMPOSE_IAM_USER": "so is HUAWEICLOUD_SDK_SK (it was taken from HW_SECRET_KEY) (an access key); give one kind"}},
		{"a login and a token", loggedIn("RECOMPOSE_AUTH_TOKEN", "t"), map[string]string{"RECOMPOSE_IAM_USER": "so is RECOMPOSE_AUTH_TOKEN"}},
		{"a login and an agency", loggedIn("RECOMPOSE_AGENCY", "metadata"), map[string]string{"RECOMPOSE_AGENCY": "so is RECOMPOSE_IAM_USER"}},
		{"an agency and a key", onAServer("HUAWEICLOUD_SDK_SECURITY_TOKEN", "st"), map[string]string{"RECOMPOSE_AGENCY": "so is HUAWEICLOUD_SDK_SECURITY_TOKEN"}},
		{"an agency and a token", onAServer("RECOMPOSE_AUTH_TOKEN", "t"), map[string]string{"RECOMPOSE_AGENCY": "so is RECOMPOSE_AUTH_TOKEN"}},
		{"a key and an address of IAM", with("RECOMPOSE_IAM_ENDPOINT", "https://iam.example.org"), map[string]string{"RECOMPOSE_IAM_ENDPOINT": "give one kind"}},
		{"an address of IAM alone", loggedIn("RECOMPOSE_IAM_USER", "", "RECOMPOSE_IAM_PASSWORD", "", "RECOMPOSE_IAM_DOMAIN", "", "RECOMPOSE_IAM_ENDPOINT", "https://iam.example.org"), map[string]string{
			"RECOMPOSE_IAM_USER": "is missing", "RECOMPOSE_IAM_PASSWORD": "is missing", "RECOMPOSE_IAM_DOMAIN": "is missing"}},
		{"no password", loggedIn("RECOMPOSE_IAM_PASSWORD", ""), map[string]string{"RECOMPOSE_IAM_PASSWORD": "RECOMPOSE_IAM_PASSWORD_FILE"}},
		{"no domain", loggedIn("RECOMPOSE_IAM_DOMAIN", ""), map[string]string{"RECOMPOSE_IAM_DOMAIN": "is missing"}},
		{"no user", loggedIn("RECOMPOSE_IAM_USER", ""), map[string]string{"RECOMPOSE_IAM_USER": "is missing"}},
		{"quotes", loggedIn("RECOMPOSE_IAM_PASSWORD", `"hunter2"`, "RECOMPOSE_IAM_USER", "'u1'", "RECOMPOSE_IAM_DOMAIN", "\u201cd1\u201d"), map[string]string{
			"RECOMPOSE_IAM_PASSWORD": "without quotes", "RECOMPOSE_IAM_USER": "without quotes", "RECOMPOSE_IAM_DOMAIN": "without quotes"}},
		{"a password with its line end", loggedIn("RECOMPOSE_IAM_PASSWORD", "hunter2\n"), map[string]string{"RECOMPOSE_IAM_PASSWORD": "as it was issued"}},
		{"plain http", loggedIn("RECOMPOSE_IAM_ENDPOINT", "http://iam.example.org"), map[string]string{"RECOMPOSE_IAM_ENDPOINT": "plain http only to this machine"}},
		{"a path", loggedIn("RECOMPOSE_IAM_ENDPOINT", "https://iam.example.org/v3"), map[string]string{"RECOMPOSE_IAM_ENDPOINT": "https://iam.ap-southeast-1.myhuaweicloud.com, and nothing else"}},
		{"a password in the address", loggedIn("RECOMPOSE_IAM_ENDPOINT", "https://u:hunter2@iam.example.org"), map[string]string{"RECOMPOSE_IAM_ENDPOINT": "nothing else"}},
		{"another scheme", loggedIn("RECOMPOSE_IAM_ENDPOINT", "ftp://iam.example.org"), map[string]string{"RECOMPOSE_IAM_ENDPOINT": "https://"}},
		{"the password goes nowhere by guess", loggedIn("RECOMPOSE_REGION", "", "HW_REGION_NAME", "cn-north-4", "RECOMPOSE_WORKSPACE_ENDPOINT", "http://127.0.0.1:8087"), map[string]string{
			"RECOMPOSE_IAM_ENDPOINT": "is missing"}},
		{"no region", loggedIn("RECOMPOSE_REGION", ""), map[string]string{"RECOMPOSE_REGION": "is missing"}},
		{"another agency", onAServer("RECOMPOSE_AGENCY", "mine"), map[string]string{"RECOMPOSE_AGENCY": `must be metadata, or unset; got "mine"`}},
		{"metadata far away", onAServer("RECOMPOSE_METADATA_ENDPOINT", "http://10.0.0.1"), map[string]string{"RECOMPOSE_METADATA_ENDPOINT": "link-local"}},
		{"metadata by name", onAServer("RECOMPOSE_METADATA_ENDPOINT", "http://metadata.example.org"), map[string]string{"RECOMPOSE_METADATA_ENDPOINT": "link-local"}},
		{"metadata with a path", onAServer("RECOMPOSE_METADATA_ENDPOINT", "http://127.0.0.1/x"), map[string]string{"RECOMPOSE_METADATA_ENDPOINT": "nothing else"}},
		{"metadata with a password", onAServer("RECOMPOSE_METADATA_ENDPOINT", "http://u:hunter2@127.0.0.1"), map[string]string{"RECOMPOSE_METADATA_ENDPOINT": "nothing else"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			setup(t, test.env)
			c, err := Load(everything)
			faults := faultsOf(t, err)
			require.Len(t, faults, len(test.want), "%v", err)
			for name, part := range test.want {
				require.Contains(t, faults[name], part, name)
			}
			require.NotContains(t, fmt.Sprint(err, c, c.Settings(), c.Credentials()), "hunter2")
		})
	}
}

func TestRightCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("hunter2 hunter2\r\n"), 0o600))
	for name, test := range map[string]struct {
		env        map[string]string
		iam, words string
	}{
		"IAM of the region": {loggedIn(), "https://iam.ap-southeast-1.myhuaweicloud.com",
			"the token of IAM user u1 of d1, by login at https://iam.ap-southeast-1.myhuaweicloud.com"},
		"another IAM": {loggedIn("RECOMPOSE_IAM_ENDPOINT", "https://iam.example.org/"), "https://iam.example.org",
			"the token of IAM user u1 of d1, by login at https://iam.example.org"},
		"a password in a file": {loggedIn("RECOMPOSE_IAM_PASSWORD", "", "RECOMPOSE_IAM_PASSWORD_FILE", file), "https://iam.ap-southeast-1.myhuaweicloud.com",
			"the token of IAM user u1 of d1, by login at https://iam.ap-southeast-1.myhuaweicloud.com"},
		"on this machine": {loggedIn("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "http://127.0.0.1:1", "RECOMPOSE_IAM_ENDPOINT", "http://127.0.0.1:1"), "http://127.0.0.1:1",
			"the token of IAM user u1 of d1, by login at http://127.0.0.1:1"},
		"names in other letters": {loggedIn("RECOMPOSE_IAM_USER", "u 1 \u00e9", "RECOMPOSE_IAM_DOMAIN", "\u534e"), "https://iam.ap-southeast-1.myhuaweicloud.com",
			"the token of IAM user u 1 \u00e9 of \u534e, by login at https://iam.ap-southeast-1.myhuaweicloud.com"},
		"an agency": {onAServer(), "https://iam.ap-southeast-1.myhuaweicloud.com",
			"temporary keys of the server's agency, from http://169.254.169.254"},
		"metadata on this machine": {onAServer("RECOMPOSE_METADATA_ENDPOINT", "http://[::1]:8087"), "https://iam.ap-southeast-1.myhuaweicloud.com",
			"temporary keys of the server's agency, from http://[::1]:8087"},
		"a key": {whole, "https://iam.ap-southeast-1.myhuaweicloud.com", "access key AKAK***"},
		"a token": {with("HUAWEICLOUD_SDK_AK", "", "HUAWEICLOUD_SDK_SK", "", "RECOMPOSE_AUTH_TOKEN", "hunter2"),
			"https://iam.ap-southeast-1.myhuaweicloud.com", "a token"},
	} {
		t.Run(name, func(t *testing.T) {
			setup(t, test.env)
			c, err := Load(everything)
			require.NoError(t, err)
			require.Equal(t, test.iam, c.IAM())
			require.Equal(t, test.words, c.Credentials())
			require.Equal(t, c.AuthToken == "" && c.IAMUser == "", c.MayResend(), "only where signatures expire")
			c.Resend = ResendNever
			require.False(t, c.MayResend())
			asJSON, err := json.Marshal(c)
			require.NoError(t, err)
			settings, err := json.Marshal(c.Settings())
			require.NoError(t, err)
			require.NotContains(t, fmt.Sprintf("%+v %#v", *c, c.IAMPassword)+string(asJSON)+string(settings), "hunter2")
			if c.ByLogin() {
				require.Equal(t, Secret("hunter2 hunter2"), c.IAMPassword)
			}
		})
	}
}

// A Lambda function does not run on a server with an agency. Only tests configure another metadata endpoint.
func TestAnAgencyIsNotForLambda(t *testing.T) {
	onLambda := Options{Service: Required, AWS: Required}
	aws := []string{"RECOMPOSE_TOPIC_ARN", "t", "RECOMPOSE_QUEUE_URL", "q", "RECOMPOSE_DEAD_LETTER_QUEUE_URL", "d", "RECOMPOSE_TABLE", "t"}
	setup(t, onAServer(aws...))
	_, err := Load(onLambda)
	require.Contains(t, faultsOf(t, err)["RECOMPOSE_AGENCY"], "in the secret")
	setup(t, onAServer(append(aws, "RECOMPOSE_METADATA_ENDPOINT", "http://127.0.0.1:1")...))
	_, err = Load(onLambda)
	require.NoError(t, err)
	setup(t, loggedIn(aws...))
	_, err = Load(onLambda)
	require.NoError(t, err)
}

func TestMisspeltVariablesOfTheLogin(t *testing.T) {
	for name, nearest := range map[string]string{
		"RECOMPOSE_IAM_USERNAME": "RECOMPOSE_IAM_USER", "RECOMPOSE_IAM_PASSWORDFILE": "RECOMPOSE_IAM_PASSWORD_FILE",
		"RECOMPOSE_METADATA": "RECOMPOSE_METADATA_ENDPOINT",
	} {
		setup(t, with(name, "hunter2"))
		_, err := Load(everything)
		require.Contains(t, faultsOf(t, err)[name], "did you mean "+nearest)
	}
}
