package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// envconfig reads a field without a tag from a variable of the field's name.
func TestAFieldHasTheNameOfItsVariable(t *testing.T) {
	t.Parallel()
	for f := range reflect.TypeFor[Config]().Fields() {
		own := strings.TrimPrefix(strings.TrimPrefix(f.Tag.Get("envconfig"), "RECOMPOSE_"), "HUAWEICLOUD_SDK_")
		if own != "" {
			require.Equal(t, strings.ReplaceAll(own, "_", ""), strings.ToUpper(f.Name))
		} else {
			require.True(t, !f.IsExported() || f.Tag.Get("ignored") == "true", f.Name)
		}
		if f.Type == reflect.TypeFor[Secret]() {
			require.NotEmpty(t, f.Tag.Get("mask"), "%s is a secret", f.Name)
		}
	}
}

// Each variable, set by itself, is shown in its own row and changes no other.
func TestEachVariableShowsInItsOwnRow(t *testing.T) {
	setup(t, nil)
	settings := func() map[string]Setting {
		c, err := Load(Options{})
		require.NoError(t, err)
		by := map[string]Setting{}
		for _, s := range c.Settings() {
			by[s.Variable] = s
		}
		return by
	}
	before := settings()
	words := map[string]string{
		"RECOMPOSE_PROXY": "off", "RECOMPOSE_SETUP": "verify", "RECOMPOSE_RESEND": "never", "RECOMPOSE_HTTP_LISTEN": "off",
		"RECOMPOSE_LOG_LEVEL": "warn", "NATS_INBOX_PREFIX": "_INBOX_w", "RECOMPOSE_BLANK_PERSONAL": "true",
		"RECOMPOSE_ALLOW_DESKTOPS_FILE": os.Args[0], "RECOMPOSE_DENY_DESKTOPS_FILE": os.Args[0],
	}
	for r := range Default().rows() {
		value := words[r.variable]
		switch {
		case value != "":
		case strings.HasSuffix(before[r.variable].Value, "s"): // a duration
			value = "1m7s"
		case !r.isText():
			value = "7"
		default:
			value = "seven"
		}
		shown := value
		if mayBeFile := slices.Contains([]string{"begin", "all"}, r.mask); mayBeFile {
			shown = masked
		}
		t.Run(r.variable, func(t *testing.T) {
			t.Setenv(r.variable, value)
			for variable, s := range settings() {
				want := before[variable]
				if variable == r.variable {
					want.Value, want.Source = shown, SourceEnv
				}
				require.Equal(t, want, s)
			}
		})
	}
}

func TestEveryWrongValueIsReportedWithItsKind(t *testing.T) {
	setup(t, with(
		"RECOMPOSE_MAX_DELAY_TIME", "abc", "RECOMPOSE_NATS_REPLICAS", "1.5", "RECOMPOSE_READS_PER_MINUTE", "fast", "RECOMPOSE_BLANK_PERSONAL", "maybe",
		"RECOMPOSE_IMAGE_DEADLINE", "abc", "RECOMPOSE_CONFLICT_DEADLINE", "30", "RECOMPOSE_LOG_LEVEL", "loud", "RECOMPOSE_SANDBOXES", ""))
	c, err := Load(everything)
	require.Equal(t, map[string]string{
		"RECOMPOSE_MAX_DELAY_TIME":    `must be a whole number; got "abc"`,
		"RECOMPOSE_NATS_REPLICAS":     `must be a whole number; got "1.5"`,
		"RECOMPOSE_READS_PER_MINUTE":  `must be a number; got "fast"`,
		"RECOMPOSE_BLANK_PERSONAL":    `must be true or false; got "maybe"`,
		"RECOMPOSE_IMAGE_DEADLINE":    `must be a duration like 90s, 45m or 2h; got "abc"`,
		"RECOMPOSE_CONFLICT_DEADLINE": `must be a duration like 90s, 45m or 2h; got "30"`,
		"RECOMPOSE_LOG_LEVEL":         `must be one of debug, info, warn, error; got "loud"`,
	}, faultsOf(t, err))
	require.Equal(t, 1, c.Sandboxes)
	for _, s := range c.Settings() {
		if s.Variable == "RECOMPOSE_MAX_DELAY_TIME" {
			require.Equal(t, Setting{Variable: s.Variable, Value: "abc", Source: SourceEnv}, s)
		}
	}
	require.Equal(t, "abc", os.Getenv("RECOMPOSE_IMAGE_DEADLINE"), "a variable that was hidden from envconfig is restored")
	_, set := os.LookupEnv("RECOMPOSE_SANDBOXES")
	require.True(t, set)
}

func TestOnlySecretsAreReadFromFiles(t *testing.T) {
	for _, variable := range []string{"HUAWEICLOUD_SDK_PROJECT_ID", "NATS_URL", "NATS_CREDS", "NATS_USER", "RECOMPOSE_REGION", "RECOMPOSE_IMAGE_DEADLINE"} {
		setup(t, with(variable+"_FILE", os.Args[0]))
		_, err := Load(everything)
		require.Equal(t, map[string]string{variable + "_FILE": "is set, but only secrets are read from files; set " + variable + " itself"}, faultsOf(t, err))
		setup(t, with(variable+"_FILE", ""))
		_, err = Load(everything)
		require.NoError(t, err)
	}
}

// A variable of an earlier release warns for one release. It is no fault, and has no effect.
func TestARetiredVariableWarns(t *testing.T) {
	setup(t, whole)
	require.Empty(t, Retired())
	setup(t, with("RECOMPOSE_PACE", "60"))
	c, err := Load(everything)
	require.NoError(t, err)
	require.Empty(t, c.Unknown())
	require.InDelta(t, 1, c.Pace, 0)
	require.Equal(t, []Fault{{"RECOMPOSE_PACE", "has no effect any more: an emulator reports how fast it runs; remove it, the next release refuses it"}}, Retired())
}

func TestDefaultDoesNotReadTheEnvironment(t *testing.T) {
	setup(t, nil)
	loaded, err := Load(Options{})
	require.NoError(t, err)
	loaded.settings = nil
	setup(t, with("RECOMPOSE_IMAGE_DEADLINE", "1m", "RECOMPOSE_RESEND", "never"))
	require.Equal(t, loaded, Default())
}

func TestWithATokenACallIsNotResent(t *testing.T) {
	t.Parallel()
	c := Default()
	require.True(t, c.MayResend())
	c.AuthToken = "token"
	require.False(t, c.MayResend())
	c.AuthToken, c.Resend = "", ResendNever
	require.False(t, c.MayResend())
}

// A share is a percentage of the limits of the stack: 0 or less, and more than 100, are faults.
func TestTheSharesOfAFunction(t *testing.T) {
	set := func(share string) error {
		setup(t, with("RECOMPOSE_TOPIC_ARN", "t", "RECOMPOSE_QUEUE_URL", "q", "RECOMPOSE_DEAD_LETTER_QUEUE_URL", "d", "RECOMPOSE_TABLE", "t",
			"RECOMPOSE_READS_SHARE", share))
		c, err := Load(Options{Service: Required, AWS: Required})
		require.InDelta(t, 100, c.WritesShare, 0, "the default")
		return err
	}
	require.NoError(t, set("0.5"))
	require.NoError(t, set("100"))
	for _, wrong := range []string{"0", "-1", "101", "NaN"} {
		require.Contains(t, faultsOf(t, set(wrong))["RECOMPOSE_READS_SHARE"], "more than 0 and at most 100")
	}
}
