package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// setup clears every variable of Config and sets these. Tests that need it cannot run in parallel: there is one
// environment.
func setup(t *testing.T, env map[string]string) {
	t.Helper()
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		for _, prefix := range []string{"RECOMPOSE_", "HUAWEICLOUD_SDK_", "HW_", "NATS_", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "")
			}
		}
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
}

var whole = map[string]string{
	"HUAWEICLOUD_SDK_AK": "AKAKAKAKAKAKAKAKAKAK", "HUAWEICLOUD_SDK_SK": "secret-key", "HUAWEICLOUD_SDK_PROJECT_ID": "0a1b",
	"RECOMPOSE_REGION": "ap-southeast-1", "NATS_URL": "nats://127.0.0.1:4222",
}

// with is the complete environment with changes; an empty value removes a variable.
func with(changes ...string) map[string]string {
	env := map[string]string{}
	maps.Copy(env, whole)
	for i := 0; i < len(changes); i += 2 {
		env[changes[i]] = changes[i+1]
	}
	return env
}

var everything = Options{Service: Required, NATS: Required}

func faultsOf(t *testing.T, err error) map[string]string {
	t.Helper()
	faults := map[string]string{}
	if err == nil {
		return faults
	}
	wrong := new(Error)
	require.True(t, errors.As(err, &wrong), "%v", err)
	for _, f := range wrong.Faults {
		require.NotContains(t, faults, f.Variable, "reported twice")
		faults[f.Variable] = f.Problem
	}
	return faults
}

func TestDefaults(t *testing.T) {
	setup(t, whole)
	c, err := Load(everything)
	require.NoError(t, err)
	require.Equal(t, "https://workspace.ap-southeast-1.myhuaweicloud.com", c.Endpoint())
	require.Equal(t, 2*time.Hour, c.ImageDeadline)
	require.Equal(t, 45*time.Minute, c.RebuildDeadline)
	require.Equal(t, 6*time.Hour, c.CommandMaxAge)
	require.Equal(t, 15*time.Minute, c.SignatureWindow)
	require.InDelta(t, 200, c.ReadsPerMinute, 0)
	require.InDelta(t, 100, c.WritesPerMinute, 0)
	require.Equal(t, SetupCreate, c.Setup)
	require.Equal(t, "info", c.LogLevel)
	require.Zero(t, c.NATSReplicas)
	require.True(t, c.ServiceChosen())
}

func TestAnEmptyConfigurationNamesEverythingMissing(t *testing.T) {
	setup(t, nil)
	_, err := Load(everything)
	faults := faultsOf(t, err)
	require.Len(t, faults, 5)
	for _, name := range []string{"HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_PROJECT_ID", "RECOMPOSE_REGION", "NATS_URL"} {
		require.Contains(t, faults[name], "is missing", name)
		require.Contains(t, err.Error(), name)
	}
}

func TestUnneededSettingsAreNotRequired(t *testing.T) {
	setup(t, nil)
	c, err := Load(Options{NATS: IfSet, Service: IfSet})
	require.NoError(t, err)
	require.Equal(t, URLs(DefaultNATS), c.NATSURL)
	require.Empty(t, c.Endpoint())

	setup(t, map[string]string{"HUAWEICLOUD_SDK_SK": "half of the credentials", "RECOMPOSE_IAM_USER": "u"})
	_, err = Load(Options{NATS: IfSet, Service: IfSet})
	require.NoError(t, err)
}

func TestFallbacks(t *testing.T) {
	setup(t, map[string]string{
		"HW_ACCESS_KEY": "AK", "HW_SECRET_KEY": "SK", "HW_SECURITY_TOKEN": "ST", "HW_PROJECT_ID": "p1", "HW_REGION_NAME": "cn-north-4",
		"HUAWEICLOUD_SDK_PROJECT_ID": "p2", "HUAWEICLOUD_SDK_AK": "", "NATS_URL": "nats://n:4222",
	})
	c, err := Load(everything)
	require.NoError(t, err)
	require.Equal(t, "AK", c.AK)
	require.Equal(t, Secret("SK"), c.SK)
	require.Equal(t, Secret("ST"), c.SecurityToken)
	require.Equal(t, "p2", c.ProjectID)
	require.Equal(t, "https://workspace.cn-north-4.myhuaweicloud.com", c.Endpoint())
	require.False(t, c.ServiceChosen(), "HW_REGION_NAME alone chooses no service")
}

func TestInvalidValues(t *testing.T) {
	folder := t.TempDir()
	for _, test := range []struct {
		name string
		env  map[string]string
		want map[string]string // variable → part of the problem
	}{
		{"every conversion at once", with("RECOMPOSE_CONCURRENCY", "many", "RECOMPOSE_IMAGE_DEADLINE", "2 hours", "RECOMPOSE_READS_PER_MINUTE", "x"), map[string]string{
			"RECOMPOSE_CONCURRENCY": `a whole number; got "many"`, "RECOMPOSE_IMAGE_DEADLINE": `a duration like 90s, 45m or 2h; got "2 hours"`, "RECOMPOSE_READS_PER_MINUTE": `a number; got "x"`,
		}},
		{"conversions and missing values", with("RECOMPOSE_CONCURRENCY", "many", "NATS_URL", ""), map[string]string{"RECOMPOSE_CONCURRENCY": "many", "NATS_URL": "missing"}},
		{"ranges", with("RECOMPOSE_CONCURRENCY", "0", "RECOMPOSE_WRITES_PER_MINUTE", "-1", "RECOMPOSE_COMMAND_MAX_AGE", "-5m", "RECOMPOSE_NATS_REPLICAS", "7"), map[string]string{
			"RECOMPOSE_CONCURRENCY": "got 0", "RECOMPOSE_WRITES_PER_MINUTE": "got -1", "RECOMPOSE_COMMAND_MAX_AGE": "got -5m", "RECOMPOSE_NATS_REPLICAS": "got 7",
		}},
		{"not a number", with("RECOMPOSE_READS_PER_MINUTE", "NaN"), map[string]string{"RECOMPOSE_READS_PER_MINUTE": "got NaN"}},
		{"words", with("RECOMPOSE_SETUP", "maybe", "RECOMPOSE_LOG_LEVEL", "loud", "RECOMPOSE_DEPLOYMENT", "a.b"), map[string]string{
			"RECOMPOSE_SETUP": `create or verify; got "maybe"`, "RECOMPOSE_LOG_LEVEL": `debug, info, warn, error; got "loud"`, "RECOMPOSE_DEPLOYMENT": `got "a.b"`,
		}},
		{"half a key", with("HUAWEICLOUD_SDK_SK", ""), map[string]string{"HUAWEICLOUD_SDK_SK": "no secret key"}},
		{"the other half", with("HUAWEICLOUD_SDK_AK", ""), map[string]string{"HUAWEICLOUD_SDK_AK": "no access key"}},
		{"two kinds of credentials", with("RECOMPOSE_AUTH_TOKEN", "t"), map[string]string{"RECOMPOSE_AUTH_TOKEN": "give one kind"}},
		{"a key with its line end", with("HUAWEICLOUD_SDK_SK", "secret-key\n"), map[string]string{"HUAWEICLOUD_SDK_SK": "as it was issued"}},
		{"an invalid project id", with("HUAWEICLOUD_SDK_PROJECT_ID", "../x"), map[string]string{"HUAWEICLOUD_SDK_PROJECT_ID": `got "../x"`}},
		{"an invalid region", with("RECOMPOSE_REGION", "evil.example.org/"), map[string]string{"RECOMPOSE_REGION": "got"}},
		{"region and endpoint", with("RECOMPOSE_WORKSPACE_ENDPOINT", "https://w.example.org"), map[string]string{"RECOMPOSE_WORKSPACE_ENDPOINT": "give one"}},
		{"plain http", with("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "http://w.example.org"), map[string]string{"RECOMPOSE_WORKSPACE_ENDPOINT": "https"}},
		{"a path", with("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "https://w.example.org/v2"), map[string]string{"RECOMPOSE_WORKSPACE_ENDPOINT": "nothing else"}},
		{"a password in the endpoint", with("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "https://u:hunter2@w.example.org"), map[string]string{"RECOMPOSE_WORKSPACE_ENDPOINT": "nothing else"}},
		{"a short signature window on a real service", with("RECOMPOSE_SIGNATURE_WINDOW", "1m"), map[string]string{"RECOMPOSE_SIGNATURE_WINDOW": "only with an emulator"}},
		{"NATS scheme", with("NATS_URL", "http://n:4222"), map[string]string{"NATS_URL": "tls://"}},
		{"NATS user without password", with("NATS_USER", "u"), map[string]string{"NATS_USER": "together"}},
		{"NATS key without certificate", with("NATS_KEY", os.Args[0]), map[string]string{"NATS_CERT": "together"}},
		{"two kinds of NATS credentials", with("NATS_USER", "u", "NATS_PASSWORD", "hunter2", "NATS_CREDS", os.Args[0]), map[string]string{"NATS_CREDS": "more than one kind"}},
		{"a user in the URL and one beside", with("NATS_USER", "u", "NATS_PASSWORD", "hunter2", "NATS_URL", "nats://a:hunter2@n:4222"), map[string]string{"NATS_CREDS": "more than one kind"}},
		{"a missing file", with("NATS_CA", folder+"/none"), map[string]string{"NATS_CA": "none"}},
		{"a folder for a file", with("RECOMPOSE_DENY_DESKTOPS_FILE", folder), map[string]string{"RECOMPOSE_DENY_DESKTOPS_FILE": "folder"}},
		{"secret and file", with("HUAWEICLOUD_SDK_SK_FILE", os.Args[0]), map[string]string{"HUAWEICLOUD_SDK_SK": "and so is HUAWEICLOUD_SDK_SK_FILE"}},
		{"a missing secret file", with("HUAWEICLOUD_SDK_SK", "", "HUAWEICLOUD_SDK_SK_FILE", folder+"/none"), map[string]string{"HUAWEICLOUD_SDK_SK": "cannot be read"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			setup(t, test.env)
			c, err := Load(everything)
			faults := faultsOf(t, err)
			require.Len(t, faults, len(test.want), "%v", err)
			for name, part := range test.want {
				require.Contains(t, faults[name], part, name)
			}
			require.NotContains(t, err.Error()+fmt.Sprintf("%+v %v", c, c.Settings()), "hunter2")
		})
	}
}

func TestValidValues(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"plain http to this machine":       with("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "http://127.0.0.1:8087", "RECOMPOSE_SIGNATURE_WINDOW", "5s"),
		"localhost":                        with("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "http://localhost:8087/"),
		"IPv6":                             with("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "http://[::1]:8087"),
		"an endpoint, Terraform's region":  with("RECOMPOSE_REGION", "", "HW_REGION_NAME", "cn-north-4", "RECOMPOSE_WORKSPACE_ENDPOINT", "https://w.example.org"),
		"a token":                          with("HUAWEICLOUD_SDK_AK", "", "HUAWEICLOUD_SDK_SK", "", "RECOMPOSE_AUTH_TOKEN", "t"),
		"several servers":                  with("NATS_URL", "tls://a:4222, tls://b:4222"),
		"an address without a scheme":      with("NATS_URL", "nats.example.org:4222"),
		"empty variables count as not set": with("RECOMPOSE_CONCURRENCY", "", "RECOMPOSE_SETUP", "", "RECOMPOSE_IMAGE_DEADLINE", "", "NATS_USER", ""),
		"a user of NATS":                   with("NATS_USER", "u", "NATS_PASSWORD", "p"),
		"temporary keys with their token":  with("HUAWEICLOUD_SDK_SECURITY_TOKEN", "st"),
	} {
		t.Run(name, func(t *testing.T) {
			setup(t, env)
			_, err := Load(everything)
			require.NoError(t, err)
		})
	}
}

func TestFlagsTakePrecedence(t *testing.T) {
	setup(t, with("NATS_URL", "nats://a:4222"))
	c, err := Load(Options{NATS: IfSet, Flags: map[string]string{"NATS_URL": "nats://b:4222"}})
	require.NoError(t, err)
	require.Equal(t, URLs("nats://b:4222"), c.NATSURL)

	setup(t, with("RECOMPOSE_REGION", "", "RECOMPOSE_WORKSPACE_ENDPOINT", "http://127.0.0.1:1"))
	c, err = Load(Options{Service: IfSet, Flags: map[string]string{"RECOMPOSE_REGION": "cn-east-3"}})
	require.NoError(t, err)
	require.Equal(t, "https://workspace.cn-east-3.myhuaweicloud.com", c.Endpoint())

	setup(t, whole)
	c, err = Load(Options{Service: IfSet, Flags: map[string]string{"RECOMPOSE_WORKSPACE_ENDPOINT": "http://127.0.0.1:1"}})
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:1", c.Endpoint())
}

func TestSecretsFromFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sk")
	require.NoError(t, os.WriteFile(file, []byte("from the file\r\n"), 0o600))
	setup(t, with("HUAWEICLOUD_SDK_SK", "", "HUAWEICLOUD_SDK_SK_FILE", file, "NATS_USER", "u", "NATS_PASSWORD_FILE", file))
	c, err := Load(Options{NATS: Required})
	require.NoError(t, err)
	require.Equal(t, Secret("from the file"), c.SK)
	require.Equal(t, Secret("from the file"), c.NATSPassword)
	for _, s := range c.Settings() {
		require.NotContains(t, s.Value, "from the file")
		if s.Variable == "HUAWEICLOUD_SDK_SK" {
			require.Equal(t, Setting{Variable: s.Variable, Value: "***", Source: SourceFile, From: file, Or: "HW_SECRET_KEY", mask: "all"}, s)
		}
	}

	require.NoError(t, os.WriteFile(file, []byte("\n"), 0o600))
	_, err = Load(Options{NATS: Required})
	require.Contains(t, faultsOf(t, err)["HUAWEICLOUD_SDK_SK"], "empty")
}

func TestSecretsAreNeverShown(t *testing.T) {
	secrets := []string{"secret-key", "AKAKAKAKAKAKAKAKAKAK", "security-token", "auth-token", "nats-password", "url-password", "url-token"}
	setup(t, with("HUAWEICLOUD_SDK_SECURITY_TOKEN", "security-token", "RECOMPOSE_AUTH_TOKEN", "auth-token", "NATS_USER", "u", "NATS_PASSWORD", "nats-password",
		"NATS_URL", "nats://me:url-password@n1:4222,tls://url-token@n2:4222,other:url-password@n3"))
	c, err := Load(everything)
	require.Error(t, err)
	asJSON, errJSON := json.Marshal(c)
	require.NoError(t, errJSON)
	settings, errJSON := json.Marshal(c.Settings())
	require.NoError(t, errJSON)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "key", c.SK, "url", c.NATSURL)
	for _, shown := range []string{
		err.Error(), string(settings), log.String(), fmt.Sprintf("%v %+v %#v %s %q", c.SK, c.NATSURL, c.AuthToken, c.SecurityToken, c.NATSPassword),
		strings.ReplaceAll(string(asJSON), "AKAKAKAKAKAKAKAKAKAK", "the access key alone is not a secret"),
		strings.ReplaceAll(fmt.Sprintf("%+v", *c), "AKAKAKAKAKAKAKAKAKAK", "the access key alone is not a secret"),
	} {
		for _, secret := range secrets {
			require.NotContains(t, shown, secret)
		}
	}
	require.Contains(t, string(settings), "nats://***@n1:4222,tls://***@n2:4222,***@n3")
	require.Contains(t, string(settings), `"AKAK***"`)
}

func TestUnknownVariablesAreErrors(t *testing.T) {
	for name, nearest := range map[string]string{
		"RECOMPOSE_ALOW":                 "RECOMPOSE_ALLOW_DESKTOPS_FILE",
		"RECOMPOSE_LOGLEVEL":             "RECOMPOSE_LOG_LEVEL",
		"RECOMPOSE_ALLOW_DESKTOP_FILE":   "RECOMPOSE_ALLOW_DESKTOPS_FILE",
		"RECOMPOSE_ALOW_DESKTOPS_FILE":   "RECOMPOSE_ALLOW_DESKTOPS_FILE",
		"RECOMPOSE_DENY_DESKTOPS":        "RECOMPOSE_DENY_DESKTOPS_FILE",
		"RECOMPOSE_DENY_FILE":            "RECOMPOSE_DENY_DESKTOPS_FILE",
		"RECOMPOSE_ALLOW_LIST":           "RECOMPOSE_ALLOW_DESKTOPS_FILE",
		"RECOMPOSE_LISTEN":               "RECOMPOSE_HTTP_LISTEN",
		"RECOMPOSE_DESKTOPS_DENY_FILE":   "RECOMPOSE_DENY_DESKTOPS_FILE",
		"recompose_deny_desktops_file":   "RECOMPOSE_DENY_DESKTOPS_FILE",
		"RECOMPOSE_AUTH_TOKENFILE":       "RECOMPOSE_AUTH_TOKEN_FILE",
		"RECOMPOSE_NATS_URL":             "NATS_URL",
		"RECOMPOSE_PROJECT_ID":           "HUAWEICLOUD_SDK_PROJECT_ID",
		"RECOMPOSE_WORKSPACE_ENDPOINTS":  "RECOMPOSE_WORKSPACE_ENDPOINT",
		"RECOMPOSE_MY_SERVICE_HOST_NAME": "RECOMPOSE_",
	} {
		t.Run(name, func(t *testing.T) {
			setup(t, with(name, "x"))
			for _, o := range []Options{everything, {}, {NATS: IfSet}} {
				c, err := Load(o)
				require.Contains(t, faultsOf(t, err)[name], "did you mean "+nearest)
				require.Equal(t, []string{name}, c.Unknown())
			}
		})
	}
}

// Other programs have variables with these prefixes, too: only a near miss of a variable that is not set is an error.
func TestNearMissesOfSharedNamesAreErrors(t *testing.T) {
	for name, meant := range map[string]string{
		"NATS_ULR": "NATS_URL", "NATS_URI": "NATS_URL", "nats_url": "NATS_URL", "NATS_CRED": "NATS_CREDS", "NATS_PASWORD": "NATS_PASSWORD",
		"NATS_PASSWROD": "NATS_PASSWORD", "NATS_PASSWORDFILE": "NATS_PASSWORD_FILE", "NATS_INBOX_PREFX": "NATS_INBOX_PREFIX",
		"HUAWEICLOUD_SDK_KA": "HUAWEICLOUD_SDK_AK", "HUAWEI_CLOUD_SDK_SK": "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SKD_AK": "HUAWEICLOUD_SDK_AK",
		"HUAWEICLOUD_SDK_PROJECTID": "HUAWEICLOUD_SDK_PROJECT_ID", "HUAWEICLOUD_SDK_SECURITYTOKEN": "HUAWEICLOUD_SDK_SECURITY_TOKEN",
	} {
		t.Run(name, func(t *testing.T) {
			env := with(name, "x")
			delete(env, meant)
			setup(t, env)
			for _, o := range []Options{{}, {Service: IfSet, NATS: IfSet}} {
				c, err := Load(o)
				require.Equal(t, "is unknown; did you mean "+meant+"?", faultsOf(t, err)[name])
				require.Equal(t, []string{name}, c.Unknown())
			}
		})
	}
}

func TestQuotesAroundNATSCredentialsAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("'hunter2'\n"), 0o600))
	for variable, env := range map[string]map[string]string{
		"NATS_PASSWORD":      with("NATS_USER", "u", "NATS_PASSWORD", `"hunter2"`),
		"NATS_USER":          with("NATS_USER", "\u201cu\u201d", "NATS_PASSWORD", `hunter2`),
		"NATS_PASSWORD_FILE": with("NATS_USER", "u", "NATS_PASSWORD", "", "NATS_PASSWORD_FILE", file),
	} {
		setup(t, env)
		_, err := Load(everything)
		require.Contains(t, faultsOf(t, err)[strings.TrimSuffix(variable, "_FILE")], "without quotes", variable)
		require.NotContains(t, err.Error(), "hunter2")
	}
	for _, password := range []string{`it's`, `"`, `'a`, `a"b"c`, "\u00e9\u00e9"} {
		setup(t, with("NATS_USER", "u", "NATS_PASSWORD", password, "NATS_PASSWORD_FILE", ""))
		_, err := Load(everything)
		require.NoError(t, err, password)
	}
}

func TestVariablesOfOthersAreNotUnknown(t *testing.T) {
	setup(t, with("RECOMPOSE_AUTH_TOKEN_FILE", "", "OTHER", "x", "RECOMPOSE_LOGLEVEL", "",
		// of other programs, and near misses of variables that are set
		"NATS_NKEY", "x", "NATS_SERVER_NAME", "x", "NATS_TOKEN", "x", "NATS_CONTEXT", "x", "NATS_HOST", "x", "NATS_TLS", "x", "NATS_USERNAME", "x",
		"NATS_URLS", "x", "NATS_PORT", "4222", "NATS_SERVICE_HOST", "10.0.0.3", "HUAWEICLOUD_SDK_DOMAIN_ID", "x", "HUAWEICLOUD_SDK_REGIONS_FILE", "x",
		"HUAWEICLOUD_SDK_IAM_ENDPOINT", "x", "HUAWEICLOUD_SDK_CREDENTIALS_FILE", "x", "HUAWEICLOUD_SDK_IDP_ID", "x",
		// of a Service recompose, and of one whose name begins with recompose
		"RECOMPOSE_SERVICE_HOST", "10.0.0.1", "RECOMPOSE_SERVICE_PORT", "8088", "RECOMPOSE_SERVICE_PORT_HTTP", "8088", "RECOMPOSE_PORT", "tcp://10.0.0.1:8088",
		"RECOMPOSE_PORT_8088_TCP", "tcp://10.0.0.1:8088", "RECOMPOSE_PORT_8088_TCP_PROTO", "tcp", "RECOMPOSE_PORT_8088_TCP_PORT", "8088",
		"RECOMPOSE_PORT_8088_TCP_ADDR", "10.0.0.1", "RECOMPOSE_HEALTH_SERVICE_HOST", "10.0.0.2", "RECOMPOSE_HEALTH_PORT_80_TCP", "tcp://10.0.0.2:80"))
	c, err := Load(everything)
	require.NoError(t, err)
	require.Empty(t, c.Unknown())
}

func TestSettingsHaveTheirSource(t *testing.T) {
	setup(t, map[string]string{"HW_REGION_NAME": "cn-north-4", "NATS_URL": "", "RECOMPOSE_CONCURRENCY": "9"})
	c, err := Load(Options{NATS: IfSet})
	require.NoError(t, err)
	got := map[string]string{}
	for _, s := range c.Settings() {
		got[s.Variable] = s.Value + "|" + s.Source + "|" + s.From
	}
	require.Equal(t, "cn-north-4|environment|HW_REGION_NAME", got["RECOMPOSE_REGION"])
	require.Equal(t, DefaultNATS+"|default|", got["NATS_URL"])
	require.Equal(t, "9|environment|", got["RECOMPOSE_CONCURRENCY"])
	require.Equal(t, "2h0m0s|default|", got["RECOMPOSE_IMAGE_DEADLINE"])
	require.Equal(t, "|not set|", got["RECOMPOSE_AUTH_TOKEN"])
}
