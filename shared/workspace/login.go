package workspace

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	loginWithin  = 10 * time.Second // one login
	tokenRenewed = 30 * time.Minute // before its end, or with a quarter of its life left
	hashRounds   = 100_000
)

// ErrLoginRefused is in the chain of the error of a call for which IAM has refused the login. The same login is not
// repeated, because IAM locks a user after a few wrong passwords.
var ErrLoginRefused = errors.New(
	"IAM refuses the login, and it is not repeated, because a few wrong passwords lock the user")

// LoginOptions are the settings of [NewLogin]; all but Now and OnCall are required. Printing them shows no password.
type LoginOptions struct {
	// Endpoint is the scheme and host of IAM, such as https://iam.cn-north-4.myhuaweicloud.com. Plain http is accepted
	// on loopback only.
	Endpoint string
	// User, Password and Domain are those of an IAM user with programmatic access; Domain is the name of its account.
	User, Password, Domain string
	// ProjectID is the project that the token is for.
	ProjectID string
	// Now is the wall clock; default time.Now.
	Now func() time.Time
	// OnCall is like that of [Options].
	OnCall func(CallInfo)
}

// String masks the password.
func (o LoginOptions) String() string {
	return fmt.Sprintf("LoginOptions{Endpoint: %q, User: %q, Password: %s, Domain: %q, ProjectID: %q}",
		withoutUser(o.Endpoint), o.User, masked, o.Domain, o.ProjectID)
}

// GoString is String.
func (o LoginOptions) GoString() string { return o.String() }

// Format prints String for every verb.
func (o LoginOptions) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, o.String()) }

// LogValue is String.
func (o LoginOptions) LogValue() slog.Value { return slog.StringValue(o.String()) }

// NewLogin returns an [Auth] that logs in to IAM by password at the first call that needs it. It keeps the token for
// all calls until some time before its end. It checks the options and sends nothing.
func NewLogin(o LoginOptions) (*Renewing, error) {
	endpoint, err := parseEndpoint(o.Endpoint)
	errs := []error{err, CheckID("project id", o.ProjectID)}
	for _, f := range []struct{ name, value string }{{"user", o.User}, {"password", o.Password}, {"domain", o.Domain}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("%s is empty: give one", f.name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("IAM login: %w", err)
	}
	c := &clock{}
	c.follow(o.Now)
	l := &login{o: o, endpoint: endpoint, issuer: issuer{
		operation: "token", transport: newTransport(0), clock: c, onCall: o.OnCall,
	}}
	if l.body, err = l.encode(); err != nil {
		return nil, fmt.Errorf("IAM login: %w", err)
	}
	l.name = sync.OnceValue(l.hash)
	return newRenewing(l, c), nil
}

// login is the source of tokens.
type login struct {
	issuer
	o        LoginOptions
	endpoint *url.URL
	body     []byte
	name     func() string

	mu      sync.Mutex
	refusal *Error // IAM's; nothing is sent after it
}

func (l *login) encode() ([]byte, error) {
	type object map[string]any
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{
			"name": l.o.User, "password": l.o.Password, "domain": object{"name": l.o.Domain},
		}}},
		"scope": object{"project": object{"id": l.o.ProjectID}},
	}})
	return b.Bytes(), err
}

// fetch logs in once.
func (l *login) fetch(ctx context.Context) (*proof, error) {
	if e := l.refused(); e != nil {
		return nil, e
	}
	ctx, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	u, body := l.endpoint.String()+"/v3/auth/tokens?nocatalog=true", bytes.NewReader(l.body)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u, body) //nolint:gosec // the operator names IAM
	if err != nil {
		return nil, l.failed(nil, fmt.Errorf("build request: %w", err))
	}
	request.Header.Set("Content-Type", "application/json")
	a, err := l.send(ctx, request)
	if err != nil {
		return nil, err
	}
	if a.status < 200 || a.status > 299 {
		return nil, l.refusedBy(&a)
	}
	return l.read(&a)
}

// read takes the token from an answer.
func (l *login) read(a *issued) (*proof, error) {
	token := Token(a.header.Get("X-Subject-Token"))
	if token == "" {
		return nil, l.failed(a, errors.New("the answer has no X-Subject-Token"))
	}
	if err := token.check(); err != nil {
		return nil, l.failed(a, fmt.Errorf("X-Subject-Token of the answer: %w", err))
	}
	var body struct {
		Token struct {
			ExpiresAt string `json:"expires_at"`
		} `json:"token"`
	}
	if json.Unmarshal(a.body, &body) != nil {
		return nil, l.failed(a, errors.New("the body of the answer is not JSON as IAM writes it"))
	}
	life, err := l.life(a, "token", body.Token.ExpiresAt)
	if err != nil {
		return nil, err
	}
	return &proof{auth: token, life: life, got: a.sent}, nil
}

// refusedBy builds the error of an answer that is not a success. IAM's own refusal is kept for good. An answer that is
// not JSON comes from a proxy or a gateway, except a 401, which may have counted as a wrong password.
func (l *login) refusedBy(a *issued) error {
	answered := readEnvelope(a.body)
	why := fmt.Errorf("at %s", l.endpoint)
	passing := a.status == http.StatusTooManyRequests || a.status == http.StatusRequestTimeout || !isObject(a.body)
	definite := a.status == http.StatusUnauthorized || a.status >= 400 && a.status < 500 && !passing
	if definite {
		why = fmt.Errorf("%w: correct user, password, domain and project, or unlock the user, and restart: %w",
			ErrLoginRefused, why)
	}
	e := l.failed(a, why)
	e.Code, e.Msg = l.harmless(answered.code), l.harmless(answered.msg)
	if definite {
		e.Class = Unauthorized
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refusal = e
	}
	return e
}

func (l *login) refused() *Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

// harmless returns a text of IAM, or nothing if it repeats a part of our request.
func (l *login) harmless(text string) string {
	if l.redact(text) != text || strings.Contains(text, l.o.Password) || strings.Contains(text, `"auth"`) {
		return masked
	}
	return text
}

// redact masks the password, also in its JSON and query forms.
func (l *login) redact(text string) string {
	escaped, _ := json.Marshal(l.o.Password) // a string can always be encoded
	return mask(text, l.o.Password, string(escaped[1:len(escaped)-1]), url.QueryEscape(l.o.Password))
}

func (*login) dated() bool { return false }

func (*login) renewAt(life time.Duration) time.Duration { return min(tokenRenewed, life/4) }

func (l *login) String() string {
	return "IAM login of " + printable(l.o.User) + " at " + l.endpoint.String()
}

func (l *login) digest() string { return l.name() }

// hash is slow, because a password may be short: a reader of the digest must not find it by trial.
func (l *login) hash() string {
	salt := strings.Join([]string{"recompose login", l.o.User, l.o.Domain, l.o.ProjectID, l.endpoint.String()}, "\n")
	sum, err := pbkdf2.Key(sha256.New, l.o.Password, []byte(salt), hashRounds, sha256.Size)
	if err != nil { // then the digest names the user only, with any password
		return hexSHA256([]byte(salt))
	}
	return hex.EncodeToString(sum)
}
