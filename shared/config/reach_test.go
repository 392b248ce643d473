package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A credential in the quotes of an env file would be refused by the service, and a few refusals lock the key.
func TestCredentialsInQuotesAreRefused(t *testing.T) {
	const sk, token = "HUAWEICLOUD_SDK_SK", "RECOMPOSE_AUTH_TOKEN"
	noKeys := []string{"HUAWEICLOUD_SDK_AK", "", sk, ""}
	for _, variable := range []struct {
		name, stands string   // the setting, and the variable that gives its value
		without      []string // variables that are not set in this case
	}{
		{"HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_AK", nil},
		{"HUAWEICLOUD_SDK_AK", "HW_ACCESS_KEY", []string{"HUAWEICLOUD_SDK_AK", ""}},
		{sk, sk, nil},
		{sk, "HW_SECRET_KEY", []string{sk, ""}},
		{"HUAWEICLOUD_SDK_SECURITY_TOKEN", "HUAWEICLOUD_SDK_SECURITY_TOKEN", nil},
		{"HUAWEICLOUD_SDK_SECURITY_TOKEN", "HW_SECURITY_TOKEN", nil},
		{token, token, noKeys},
	} {
		for _, form := range []string{`"hunter2"`, `'hunter2'`, "`hunter2`", `"hunter2`, `hunter2'`, `\"hunter2\"`, `""`, "\u201chunter2\u201d"} {
			check := func(env map[string]string, from string) {
				setup(t, env)
				c, err := Load(everything)
				faults := faultsOf(t, err)
				require.Len(t, faults, 1, "%v", err)
				require.Contains(t, faults[variable.name], "without quotes", "%s=%s", variable.stands, form)
				require.Contains(t, faults[variable.name], from)
				require.NotContains(t, fmt.Sprint(err, c.Settings()), "hunter2")
			}
			from := ""
			if variable.stands != variable.name {
				from = "taken from " + variable.stands
			}
			check(with(append(variable.without, variable.stands, form)...), from)
			if variable.stands == variable.name {
				file := filepath.Join(t.TempDir(), "secret")
				require.NoError(t, os.WriteFile(file, []byte(form+"\r\n"), 0o600))
				check(with(append(variable.without, variable.name, "", variable.name+"_FILE", file)...), "taken from "+file)
			}
		}
	}
}

// An empty token in quotes beside a key: the quotes are the fault, not a second kind of credentials.
func TestQuotesAreReportedBeforeTheirConsequences(t *testing.T) {
	setup(t, with("RECOMPOSE_AUTH_TOKEN", `""`))
	_, err := Load(everything)
	require.Contains(t, faultsOf(t, err)["RECOMPOSE_AUTH_TOKEN"], "without quotes")
}

func TestProxy(t *testing.T) {
	for _, test := range []struct{ name, variable, value, fault, shown string }{
		{"an address", "HTTPS_PROXY", "http://proxy.example.org:3128", "", "http://proxy.example.org:3128"},
		{"lower case", "https_proxy", "proxy.example.org:3128", "", "proxy.example.org:3128"},
		{"a password", "HTTPS_PROXY", "http://me:hunter2,hunter2@proxy.example.org:3128", "", "http://***@proxy.example.org:3128"},
		{"SOCKS", "HTTPS_PROXY", "socks5://127.0.0.1:1080", "", "socks5://127.0.0.1:1080"},
		{"quotes", "HTTPS_PROXY", `"http://me:hunter2@proxy.example.org:3128"`, "without quotes", ""},
		{"no host", "HTTPS_PROXY", "http://", "http://proxy.example.org:3128", ""},
		{"another scheme", "HTTPS_PROXY", "ftp://me:hunter2@proxy.example.org", "http://proxy.example.org:3128", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			setup(t, with(test.variable, test.value))
			c, err := Load(everything)
			faults := faultsOf(t, err)
			require.NotContains(t, fmt.Sprint(err, c, c.Settings()), "hunter2")
			if test.fault != "" {
				require.Len(t, faults, 1)
				require.Contains(t, faults["HTTPS_PROXY"], test.fault)
				setup(t, with(test.variable, test.value, "RECOMPOSE_PROXY", "off"))
				_, err = Load(everything)
				require.NoError(t, err, "an unused proxy is not checked")
				return
			}
			require.NoError(t, err)
			settings, err := json.Marshal(c.Settings())
			require.NoError(t, err)
			require.Contains(t, string(settings), `"variable":"HTTPS_PROXY","value":"`+test.shown+`"`)
		})
	}
	setup(t, with("RECOMPOSE_PROXY", "no"))
	_, err := Load(everything)
	require.Equal(t, `must be environment or off; got "no"`, faultsOf(t, err)["RECOMPOSE_PROXY"])
}
