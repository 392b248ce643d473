package workspace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSecretsNeverPrinted(t *testing.T) {
	t.Parallel()
	const token, security = "MIIsecrettoken", "sts-security-secret"
	auths := map[string]Auth{
		"aksk": AKSK{AccessKey: "AK1", SecretKey: testSecret, SecurityToken: security}, "token": Token(token),
	}
	for name, auth := range auths {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Options{Endpoint: "https://h", ProjectID: testProject, Auth: auth}
			client := newClient(t, "http://127.0.0.1:1", func(c *Options) { c.Auth = auth })
			var printed bytes.Buffer
			for _, v := range []any{auth, &auth, cfg, &cfg, client, struct{ C Options }{cfg}, []Auth{auth}} {
				for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
					_, _ = fmt.Fprintf(&printed, verb+"\n", v)
				}
			}
			for _, v := range []any{auth, &auth} {
				text, err := json.Marshal(v)
				require.NoError(t, err)
				printed.Write(text)
			}
			log := slog.New(slog.NewJSONHandler(&printed, nil))
			log.Info("x", "auth", auth, "config", cfg, "client", client)
			for _, secret := range []string{
				testSecret, token, security, fmt.Sprintf("%x", token), fmt.Sprintf("%x", testSecret),
			} {
				require.NotContains(t, printed.String(), secret)
			}
		})
	}
}

func TestSecretsEchoedByTheGatewayAreMasked(t *testing.T) {
	t.Parallel()
	const security = "sts/security+secret="
	echo := func(body string) *Error {
		b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", "r1")
			responds(401, body)(w, nil)
		}, func(c *Options) { c.Auth = AKSK{AccessKey: "AK1", SecretKey: testSecret, SecurityToken: security} })
		_, err := b.GetDesktop(t.Context(), testDesktop)
		return asError(t, err)
	}
	for _, body := range []string{
		`{"error_code":"APIGW.0301","error_msg":"mismatch: x-security-token:` + security + `|","request_id":"r"}`,
		`{"error_code":"APIGW.0301","error_msg":"mismatch: x-security-token:sts\/security\u002bsecret=|"}`,
		`<html>` + security + `</html>`,
	} {
		e := echo(body)
		require.Equal(t, Unauthorized, e.Class)
		for _, text := range []string{e.Error(), e.Msg, e.LogValue().String()} {
			require.NotContains(t, text, security)
			require.NotContains(t, text, `sts\/security`)
		}
	}
}

func TestTokenIsSentAndNothingSigned(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"desktop":{"desktop_id":"d"}}`), func(c *Options) { c.Auth = Token("tok-1234") })
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.NoError(t, err)
	h := b.seen()[0].header
	require.Equal(t, "tok-1234", h.Get("X-Auth-Token"))
	require.Empty(t, h.Get("Authorization"))
	require.Empty(t, h.Get("X-Sdk-Date"))
}

func TestAWriteWithATokenIsNotRefusedByItsDate(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"job_id":"j"}`), func(c *Options) { c.Auth = Token("tok-1234") })
	_, err := b.Rebuild(t.Context(), testTime.Add(-time.Hour), rebuildRequest())
	require.NoError(t, err)
}

func TestRedactKeepsOnlyTheBeginningOfAnAccessKey(t *testing.T) {
	t.Parallel()
	a := AKSK{AccessKey: "HPUAXX7YQ2ZK4M8N3WTB", SecretKey: "secret-key"}
	require.Equal(t, "Get secretKey failed,ak:HPUA***,err:ak not exist", a.Redact("Get secretKey failed,ak:HPUAXX7YQ2ZK4M8N3WTB,err:ak not exist"))
	require.Equal(t, "key key", AKSK{AccessKey: "key"}.Redact("key key"), "too short for an access key")
}
