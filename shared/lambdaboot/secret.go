package lambdaboot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"recompose/shared/config"
	"recompose/shared/workspace"
)

// secretNames are the names that a secret may have, and the variables that they stand for. The variables themselves
// may stand there, too.
var secretNames = map[string]string{ //nolint:gosec // names, no values
	"AK": "HUAWEICLOUD_SDK_AK", "SK": "HUAWEICLOUD_SDK_SK", "SECURITY_TOKEN": "HUAWEICLOUD_SDK_SECURITY_TOKEN",
	"PROJECT_ID": "HUAWEICLOUD_SDK_PROJECT_ID", "AUTH_TOKEN": "RECOMPOSE_AUTH_TOKEN",
}

// readSecretWithin is how long Secrets Manager may take.
const readSecretWithin = 10 * time.Second

// secret is where the credentials are; without an ARN they are in the environment.
type secret struct {
	arn      string
	value    func(ctx context.Context, arn string) (string, error)
	settings func(flags map[string]string) (*config.Config, error)
}

// settings reads the environment, under what the secret has.
func settings(flags map[string]string) (*config.Config, error) {
	return config.Load(config.Options{Service: config.Required, AWS: config.Required, Flags: flags})
}

// load reads the settings: the environment, and over it the secret as it is now.
func (s *secret) load(ctx context.Context) (*config.Config, error) {
	var flags map[string]string
	if s.arn != "" {
		var err error
		if flags, err = s.read(ctx); err != nil {
			return nil, fmt.Errorf("RECOMPOSE_SECRET_ARN: read the secret: %w", err)
		}
	}
	return s.settings(flags)
}

// read gives the variables that the secret has values for. No error shows a value.
func (s *secret) read(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, readSecretWithin)
	defer cancel()
	value, err := s.value(ctx, s.arn)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if json.Unmarshal([]byte(strings.TrimPrefix(value, "\ufeff")), &fields) != nil { // a file's byte order mark
		return nil, errors.New(`it must be a JSON object like {"AK": "...", "SK": "..."}`)
	}
	flags := map[string]string{}
	for name, value := range fields {
		text, ok := value.(string)
		variable := secretNames[strings.ToUpper(name)]
		for _, known := range secretNames {
			if name == known {
				variable = known
			}
		}
		switch {
		case variable == "":
			return nil, fmt.Errorf("it has a field %q, which means nothing here; known are AK, SK, SECURITY_TOKEN, PROJECT_ID and AUTH_TOKEN", name)
		case !ok:
			return nil, fmt.Errorf("its field %q must be a string", name)
		case flags[variable] != "":
			return nil, fmt.Errorf("its field %q is there twice, under two names", name)
		}
		text = strings.TrimRight(text, "\r\n")
		if problem := config.CredentialProblem(text); problem != "" && variable != secretNames["PROJECT_ID"] {
			return nil, fmt.Errorf("its field %q %s", name, problem)
		}
		flags[variable] = text
	}
	return flags, nil
}

// rotating is a proof of who calls that can be replaced while calls are made.
type rotating struct {
	mu      sync.Mutex
	current workspace.Auth
}

func (r *rotating) get() workspace.Auth {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// name is the same in all sandboxes that have the same credentials, and tells nobody what they are.
func (r *rotating) name() string {
	var sum [sha256.Size]byte
	switch a := r.get().(type) {
	case workspace.AKSK:
		sum = sha256.Sum256([]byte("recompose key\n" + a.AccessKey + "\n" + a.SecretKey + "\n" + a.SecurityToken))
	case workspace.Token:
		sum = sha256.Sum256([]byte("recompose token\n" + string(a)))
	}
	return hex.EncodeToString(sum[:12])
}

// replace takes other credentials of the same kind. What holds for writes follows from the kind: a signature expires,
// a token does not.
func (r *rotating) replace(by workspace.Auth) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.current.Dated() != by.Dated():
		return errors.New("the secret has credentials of another kind now; that takes new sandboxes: deploy anew")
	case r.current == by:
		return errUnchanged
	}
	r.current = by
	return nil
}

// Apply proves who calls.
func (r *rotating) Apply(ctx context.Context, req *http.Request, body []byte, at time.Time) error {
	return r.get().Apply(ctx, req, body, at)
}

// Dated tells whether the proof ages.
func (r *rotating) Dated() bool { return r.get().Dated() }

// Redact takes the secrets out of a text.
func (r *rotating) Redact(text string) string {
	if redactor, ok := r.get().(workspace.Redactor); ok {
		return redactor.Redact(text)
	}
	return text
}

// Format shows no secret.
func (r *rotating) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, fmt.Sprint(r.get())) }

// LogValue shows no secret.
func (r *rotating) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r.get())) }

// credentials are those of a sandbox, as safety.Key sees them.
type credentials struct {
	keys *secret
	auth *rotating
}

// Name is the same in all sandboxes that have the same credentials.
func (c *credentials) Name() string { return c.auth.name() }

// Reload reads the secret once more; true where it has other credentials than before.
func (c *credentials) Reload(ctx context.Context) (bool, error) {
	if c.keys.arn == "" {
		return false, nil
	}
	now, err := c.keys.load(ctx)
	if err != nil {
		return false, err
	}
	err = c.auth.replace(authOf(now))
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	return err == nil, err
}
