package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhereHealthIsServed(t *testing.T) {
	for value, problem := range map[string]string{
		"": "", "off": "", "127.0.0.1:0": "", "0.0.0.0:9090": "", "[::1]:8088": "", ":8088": "",
		"8088": "host:port", "localhost": "host:port", "localhost:http": "host:port", "127.0.0.1:70000": "host:port", "none": "off",
	} {
		setup(t, with("RECOMPOSE_HTTP_LISTEN", value))
		c, err := Load(everything)
		if problem == "" {
			require.NoError(t, err, value)
			require.Equal(t, or(value, "127.0.0.1:8088"), c.HTTPListen)
			continue
		}
		require.Contains(t, faultsOf(t, err)["RECOMPOSE_HTTP_LISTEN"], problem, value)
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestPersonalDataAndInbox(t *testing.T) {
	setup(t, with("RECOMPOSE_BLANK_PERSONAL", "true", "NATS_INBOX_PREFIX", "_INBOX_worker.a-1"))
	c, err := Load(everything)
	require.NoError(t, err)
	require.True(t, c.BlankPersonal)
	require.Equal(t, "_INBOX_worker.a-1", c.NATSInboxPrefix)

	setup(t, with("RECOMPOSE_BLANK_PERSONAL", "perhaps", "NATS_INBOX_PREFIX", "_INBOX.>"))
	_, err = Load(everything)
	faults := faultsOf(t, err)
	require.Equal(t, `must be true or false; got "perhaps"`, faults["RECOMPOSE_BLANK_PERSONAL"])
	require.Contains(t, faults["NATS_INBOX_PREFIX"], "_INBOX_worker")

	setup(t, whole)
	c, err = Load(everything)
	require.NoError(t, err)
	require.False(t, c.BlankPersonal)
}
