package credentials_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
	"recompose/shared/credentials"
	"recompose/shared/workspace"
)

func TestEachKindOfCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		c     config.Config
		dated bool
		shown string
	}{
		"key":      {config.Config{AK: "AK", SK: "hidden"}, true, "AKSK{AccessKey: AK, SecretKey: ***}"},
		"temp key": {config.Config{AK: "AK", SK: "hidden", SecurityToken: "hidden"}, true, "AKSK{AccessKey: AK, SecretKey: ***, SecurityToken: ***}"},
		"token":    {config.Config{AuthToken: "hidden"}, false, "Token{***}"},
		"login": {config.Config{IAMUser: "u", IAMPassword: "hidden", IAMDomain: "d", Region: "cn-north-4"}, false,
			"IAM login of u at https://iam.cn-north-4.myhuaweicloud.com"},
		"agency": {config.Config{Agency: "metadata", MetadataEndpoint: "http://127.0.0.1:1"}, true, "agency keys from http://127.0.0.1:1"},
	} {
		test.c.ProjectID = "p1"
		auth, err := credentials.Of(&test.c, nil)
		require.NoError(t, err, name)
		require.Equal(t, test.dated, auth.Dated(), "a lost call is repeated only with credentials that expire")
		require.Equal(t, test.shown, fmt.Sprint(auth))
	}
	_, err := credentials.Of(&config.Config{IAMUser: "u", IAMDomain: "d", ProjectID: "p1", IAMPassword: "p", IAMEndpoint: "http://iam.example.org"}, nil)
	require.ErrorContains(t, err, "use https")
	_, err = credentials.Of(&config.Config{Agency: "metadata", MetadataEndpoint: "http://10.0.0.1"}, nil)
	require.ErrorContains(t, err, "link-local")
	var _ workspace.Renewer = (*workspace.Renewing)(nil)
}

func TestNamesOfCredentials(t *testing.T) {
	t.Parallel()
	names := map[string]string{}
	for what, c := range map[string]config.Config{
		"key":          {AK: "AK", SK: "hidden"},
		"other secret": {AK: "AK", SK: "other"},
		"temp key":     {AK: "AK", SK: "hidden", SecurityToken: "hidden"},
		"token":        {AuthToken: "hidden"},
		"login":        {IAMUser: "u", IAMPassword: "hidden", IAMDomain: "d", Region: "cn-north-4"},
		"other login":  {IAMUser: "u", IAMPassword: "other", IAMDomain: "d", Region: "cn-north-4"},
		"agency":       {Agency: "metadata", MetadataEndpoint: "http://127.0.0.1:1"},
	} {
		c.ProjectID = "p1"
		for _, version := range []string{"1", "2"} {
			auth, err := credentials.Of(&c, nil)
			require.NoError(t, err)
			same, err := credentials.Of(&c, nil)
			require.NoError(t, err)
			name := credentials.Name(auth, version)
			require.Equal(t, name, credentials.Name(same, version), what)
			require.Regexp(t, "^[0-9a-f]{24}$", name)
			if c.ByLogin() || c.ByAgency() {
				what += version
			}
			names[what] = name
		}
	}
	seen := map[string]bool{}
	for _, name := range names {
		seen[name] = true
	}
	require.Len(t, names, 4+3*2)
	require.Len(t, seen, len(names), "%v", names)
}
