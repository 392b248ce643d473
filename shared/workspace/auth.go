package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

const masked = "***"

const headerAuthToken = "X-Auth-Token" //nolint:gosec // the name of a header

// Auth puts credentials on a request. [AKSK] and [Token] are fixed; [Renewing] fetches a token or keys, and renews them.
// An implementation must be safe for concurrent use, and must not show its secrets when printed.
type Auth interface {
	// Apply sets the headers that authenticate the caller. body is exactly what will be sent; at is the service's time
	// to sign with. All other headers are already set. Apply is called once for each HTTP request. An error stops the
	// request before anything is sent; an [*Error] of class [Unauthorized] stops all calls as a 401 does.
	Apply(ctx context.Context, r *http.Request, body []byte, at time.Time) error
	// Dated reports whether the proof expires with its age: true for a signature, false for a token. Only a dated proof
	// can be repaired by a clock correction, and only a dated write expires by its age.
	Dated() bool
}

// AKSK signs each request with an access key (SDK-HMAC-SHA256). SecurityToken belongs to temporary keys and is signed
// as well; it is empty for permanent keys. The secret key is never sent. Printing an AKSK in any form shows neither
// the secret key nor the security token. Source: Go SDK.
type AKSK struct {
	AccessKey     string
	SecretKey     string
	SecurityToken string
}

// Apply signs the request with the date given.
func (a AKSK) Apply(_ context.Context, r *http.Request, body []byte, at time.Time) error {
	if a.SecurityToken != "" {
		r.Header.Set(headerSecurityToken, a.SecurityToken)
	}
	sign(r, body, a.AccessKey, a.SecretKey, at)
	return nil
}

// Dated is true: the service refuses a signature older than 15 minutes.
func (AKSK) Dated() bool { return true }

func (a AKSK) check() error {
	return errors.Join(
		checkSecret("access key", a.AccessKey, true),
		checkSecret("secret key", a.SecretKey, true),
		checkSecret("security token", a.SecurityToken, false))
}

// String names the access key and masks the rest.
func (a AKSK) String() string {
	s := "AKSK{AccessKey: " + printable(a.AccessKey) + ", SecretKey: " + masked
	if a.SecurityToken != "" {
		s += ", SecurityToken: " + masked
	}
	return s + "}"
}

// GoString is String.
func (a AKSK) GoString() string { return a.String() }

// Format prints String for every verb, so that no verb shows a secret.
func (a AKSK) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, a.String()) }

// LogValue is String.
func (a AKSK) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalText is String, so that no encoder shows a secret.
func (a AKSK) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Token is an IAM token, sent as X-Auth-Token. It does not expire with the request: the service accepts a delayed
// request while the token is valid, up to 24 hours. Printing it in any form shows nothing of it. Source: vendor page.
type Token string

// Apply sets the token.
func (t Token) Apply(_ context.Context, r *http.Request, _ []byte, _ time.Time) error {
	r.Header.Set(headerAuthToken, string(t))
	return nil
}

// Dated is false.
func (Token) Dated() bool { return false }

func (t Token) check() error { return checkSecret("token", string(t), true) }

// String masks the token.
func (Token) String() string { return "Token{" + masked + "}" }

// GoString is String.
func (t Token) GoString() string { return t.String() }

// Format prints String for every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue is String.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is String.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// checkSecret refuses a value that a header cannot carry. Its error does not show the value.
func checkSecret(field, value string, required bool) error {
	switch {
	case value == "" && !required:
		return nil
	case value == "":
		return fmt.Errorf("%s is empty: give one", field)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return fmt.Errorf("%s has characters that no header can carry (spaces, line ends or non-ASCII): give it as issued",
			field)
	}
	return nil
}

// Redactor may be implemented by an [Auth]. Redact masks its secrets in a text that the service sent: on a signature
// mismatch the gateway may echo the signed headers, a security token among them. A secret that Redact does not mask
// can end up in an [Error].
type Redactor interface{ Redact(text string) string }

// Redact masks the secret key and the security token, and all but the beginning of the access key.
func (a AKSK) Redact(text string) string {
	text = mask(text, a.SecretKey, a.SecurityToken)
	const shown = 4 // enough for a person to recognize the key
	if len(a.AccessKey) > 2*shown {
		text = strings.ReplaceAll(text, a.AccessKey, a.AccessKey[:shown]+masked)
	}
	return text
}

// Redact masks the token.
func (t Token) Redact(text string) string { return mask(text, string(t)) }

func mask(text string, secrets ...string) string {
	for _, secret := range secrets {
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, secret, masked)
		}
	}
	return text
}

// redact masks the secrets of the client's credentials in a text.
func (c *Client) redact(text string) string {
	if r, ok := c.auth.(Redactor); ok {
		return r.Redact(text)
	}
	return text
}
