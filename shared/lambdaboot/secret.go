package lambdaboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"recompose/shared/config"
	"recompose/shared/credentials"
	"recompose/shared/workspace"
)

// secretNames are the field names that a secret may have, and their variables. A secret may use the names of the
// variables as well.
var secretNames = map[string]string{ //nolint:gosec // names, no values
	"AK": "HUAWEICLOUD_SDK_AK", "SK": "HUAWEICLOUD_SDK_SK", "SECURITY_TOKEN": "HUAWEICLOUD_SDK_SECURITY_TOKEN",
	"PROJECT_ID": "HUAWEICLOUD_SDK_PROJECT_ID", "AUTH_TOKEN": "RECOMPOSE_AUTH_TOKEN",
	"IAM_USER": "RECOMPOSE_IAM_USER", "IAM_PASSWORD": "RECOMPOSE_IAM_PASSWORD", "IAM_DOMAIN": "RECOMPOSE_IAM_DOMAIN",
	"IAM_ENDPOINT": "RECOMPOSE_IAM_ENDPOINT",
}

// formProblem describes what is wrong with the form of a variable's value, without the value; "" if nothing is.
func formProblem(variable, value string) string {
	switch variable {
	case "HUAWEICLOUD_SDK_PROJECT_ID", "RECOMPOSE_IAM_ENDPOINT":
		return "" // not secret; config checks these
	case "RECOMPOSE_IAM_USER", "RECOMPOSE_IAM_PASSWORD", "RECOMPOSE_IAM_DOMAIN":
		return config.LoginProblem(value)
	default:
		return config.CredentialProblem(value)
	}
}

// readSecretWithin is how long Secrets Manager may take.
const readSecretWithin = 10 * time.Second

// secret is the source of the credentials. Without an ARN they are in the environment.
type secret struct {
	arn      string
	version  string // of the secret, when it was read last
	manager  secretsManager
	settings func(flags map[string]string) (*config.Config, error)
}

// newSecret returns the secret of the settings. It makes no call. load reports all faults of the settings at once.
func newSecret(c aws.Config) (*secret, error) {
	s := &secret{arn: os.Getenv("RECOMPOSE_SECRET_ARN"), settings: settings} // load reads all settings; once is enough for a cold start
	if s.arn == "" {
		return s, nil
	}
	at, err := arn.Parse(s.arn)
	if err != nil || at.Service != "secretsmanager" || at.Region == "" {
		return nil, fmt.Errorf("RECOMPOSE_SECRET_ARN: must be the ARN of a secret, like "+
			"arn:aws:secretsmanager:eu-central-1:123456789012:secret:recompose-AbCdEf; got %q", s.arn)
	}
	s.manager = secretsmanager.NewFromConfig(c, func(o *secretsmanager.Options) {
		o.Region = at.Region // may differ from the region of the function
	})
	return s, nil
}

// secretsManager is the one call to AWS Secrets Manager; *secretsmanager.Client implements it.
type secretsManager interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// settings reads the environment; flags have the values of the secret, which take precedence.
func settings(flags map[string]string) (*config.Config, error) {
	return config.Load(config.Options{Service: config.Required, AWS: config.Required, Flags: flags})
}

// load reads the settings: the environment, and the secret as it is now, which takes precedence.
func (s *secret) load(ctx context.Context) (*config.Config, error) {
	var flags map[string]string
	if s.arn != "" {
		var err error
		if flags, err = s.read(ctx); err != nil {
			return nil, fmt.Errorf("RECOMPOSE_SECRET_ARN: read the secret %s: %w", s.arn, err)
		}
	}
	return s.settings(flags)
}

// read returns the variables that the secret has, with their values. Errors contain no value.
func (s *secret) read(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, readSecretWithin)
	defer cancel()
	value, err := s.manager.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.arn})
	if err != nil {
		return nil, err
	}
	if value.SecretString == nil {
		return nil, errors.New("it has no text: store it as SecretString, not as SecretBinary")
	}
	var fields map[string]any
	if json.Unmarshal([]byte(strings.TrimPrefix(*value.SecretString, "\ufeff")), &fields) != nil { // a file's byte order mark
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
			return nil, fmt.Errorf("it has a field %q, which is not known; known are AK, SK, SECURITY_TOKEN, PROJECT_ID, AUTH_TOKEN, "+
				"IAM_USER, IAM_PASSWORD, IAM_DOMAIN and IAM_ENDPOINT", name)
		case !ok:
			return nil, fmt.Errorf("its field %q must be a string", name)
		case flags[variable] != "":
			return nil, fmt.Errorf("its field %q is given twice, under two names", name)
		}
		text = strings.TrimRight(text, "\r\n")
		if problem := formProblem(variable, text); problem != "" {
			return nil, fmt.Errorf("its field %q %s", name, problem)
		}
		flags[variable] = text
	}
	s.version = aws.ToString(value.VersionId)
	return flags, nil
}

// rotating is a workspace.Auth that can be replaced while calls are made.
type rotating struct {
	mu      sync.Mutex
	current workspace.Auth
	version string // of the secret that it was read from
}

func (r *rotating) get() workspace.Auth {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// name is the same in all sandboxes with the same credentials, and reveals nothing of them.
func (r *rotating) name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return credentials.Name(r.current, r.version)
}

// replace replaces the credentials by others of the same kind. Another kind is an error, because the rules for
// repeating a lost write depend on the kind: a signature expires, a token does not.
func (r *rotating) replace(by workspace.Auth, version string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.current.Dated() != by.Dated():
		return errors.New("the secret has credentials of another kind now, which need new sandboxes: deploy the stack once more")
	case credentials.Name(r.current, r.version) == credentials.Name(by, version):
		return errUnchanged
	}
	r.current, r.version = by, version
	return nil
}

// Apply signs a request, or adds a token to it.
func (r *rotating) Apply(ctx context.Context, req *http.Request, body []byte, at time.Time) error {
	return r.get().Apply(ctx, req, body, at)
}

// Dated reports whether signatures expire.
func (r *rotating) Dated() bool { return r.get().Dated() }

// Accepted passes on that the service has accepted the credentials of a request.
func (r *rotating) Accepted(sent http.Header) {
	if renewer, ok := r.get().(workspace.Renewer); ok {
		renewer.Accepted(sent)
	}
}

// Refused passes a 401 on. It returns false for credentials that cannot be renewed, for which a retry cannot help.
func (r *rotating) Refused(sent http.Header) bool {
	renewer, ok := r.get().(workspace.Renewer)
	return ok && renewer.Refused(sent)
}

// Lasts is how long the current token is valid. Credentials that cannot be renewed have no known end.
func (r *rotating) Lasts(ctx context.Context) (time.Duration, error) {
	if renewer, ok := r.get().(workspace.Renewer); ok {
		return renewer.Lasts(ctx)
	}
	return math.MaxInt64, nil
}

// Redact removes the secrets from a text.
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

// sandboxCredentials are the credentials of a sandbox in the form that safety.Key needs.
type sandboxCredentials struct {
	keys *secret
	auth *rotating
}

// Name is the same in all sandboxes with the same credentials.
func (c *sandboxCredentials) Name() string { return c.auth.name() }

// Reload reads the secret once more. It returns true if the secret has other credentials than before.
func (c *sandboxCredentials) Reload(ctx context.Context) (bool, error) {
	if c.keys.arn == "" {
		return false, nil
	}
	now, err := c.keys.load(ctx)
	if err != nil {
		return false, err
	}
	others, err := credentials.Of(now, nil)
	if err != nil {
		return false, err
	}
	err = c.auth.replace(others, c.keys.version)
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	return err == nil, err
}
