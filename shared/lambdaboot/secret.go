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

// secretNames are the names that a secret may have, and the variables that they stand for. The variables themselves
// may stand there, too.
var secretNames = map[string]string{ //nolint:gosec // names, no values
	"AK": "HUAWEICLOUD_SDK_AK", "SK": "HUAWEICLOUD_SDK_SK", "SECURITY_TOKEN": "HUAWEICLOUD_SDK_SECURITY_TOKEN",
	"PROJECT_ID": "HUAWEICLOUD_SDK_PROJECT_ID", "AUTH_TOKEN": "RECOMPOSE_AUTH_TOKEN",
	"IAM_USER": "RECOMPOSE_IAM_USER", "IAM_PASSWORD": "RECOMPOSE_IAM_PASSWORD", "IAM_DOMAIN": "RECOMPOSE_IAM_DOMAIN",
	"IAM_ENDPOINT": "RECOMPOSE_IAM_ENDPOINT",
}

// formProblem is what is wrong with the form of a value of a variable, without showing it.
func formProblem(variable, value string) string {
	switch variable {
	case "HUAWEICLOUD_SDK_PROJECT_ID", "RECOMPOSE_IAM_ENDPOINT":
		return "" // no secret; the settings are checked as a whole
	case "RECOMPOSE_IAM_USER", "RECOMPOSE_IAM_PASSWORD", "RECOMPOSE_IAM_DOMAIN":
		return config.LoginProblem(value)
	default:
		return config.CredentialProblem(value)
	}
}

// readSecretWithin is how long Secrets Manager may take.
const readSecretWithin = 10 * time.Second

// secret is where the credentials are; without an ARN they are in the environment.
type secret struct {
	arn      string
	version  string // of what was read last
	manager  secretsManager
	settings func(flags map[string]string) (*config.Config, error)
}

// newSecret is the secret that the settings name. It connects to nothing yet. What is wrong with the settings is
// reported by load, all at once.
func newSecret(c aws.Config) (*secret, error) {
	found, _ := config.Load(config.Options{})
	s := &secret{arn: found.SecretARN, settings: settings}
	if s.arn == "" {
		return s, nil
	}
	at, err := arn.Parse(s.arn)
	if err != nil || at.Service != "secretsmanager" || at.Region == "" {
		return nil, fmt.Errorf("RECOMPOSE_SECRET_ARN: must be the ARN of a secret, like "+
			"arn:aws:secretsmanager:eu-central-1:123456789012:secret:recompose-AbCdEf; got %q", s.arn)
	}
	s.manager = secretsmanager.NewFromConfig(c, func(o *secretsmanager.Options) {
		o.Region = at.Region // may be another one than that of the function
	})
	return s, nil
}

// secretsManager is the call made of AWS Secrets Manager; *secretsmanager.Client has it.
type secretsManager interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
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
			return nil, fmt.Errorf("RECOMPOSE_SECRET_ARN: read the secret %s: %w", s.arn, err)
		}
	}
	return s.settings(flags)
}

// read gives the variables that the secret has values for. No error shows a value.
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
			return nil, fmt.Errorf("it has a field %q, which means nothing here; known are AK, SK, SECURITY_TOKEN, PROJECT_ID, AUTH_TOKEN, "+
				"IAM_USER, IAM_PASSWORD, IAM_DOMAIN and IAM_ENDPOINT", name)
		case !ok:
			return nil, fmt.Errorf("its field %q must be a string", name)
		case flags[variable] != "":
			return nil, fmt.Errorf("its field %q is there twice, under two names", name)
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

// rotating is a proof of who calls that can be replaced while calls are made.
type rotating struct {
	mu      sync.Mutex
	current workspace.Auth
	version string // of the secret that it is from
}

func (r *rotating) get() workspace.Auth {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// name is the same in all sandboxes that have the same credentials, and shows nothing of them.
func (r *rotating) name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return credentials.Name(r.current, r.version)
}

// replace takes other credentials of the same kind. What holds for writes follows from the kind: a signature expires,
// a token does not.
func (r *rotating) replace(by workspace.Auth, version string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.current.Dated() != by.Dated():
		return errors.New("the secret has credentials of another kind now; that takes new sandboxes: deploy anew")
	case credentials.Name(r.current, r.version) == credentials.Name(by, version):
		return errUnchanged
	}
	r.current, r.version = by, version
	return nil
}

// Apply proves who calls.
func (r *rotating) Apply(ctx context.Context, req *http.Request, body []byte, at time.Time) error {
	return r.get().Apply(ctx, req, body, at)
}

// Dated tells whether the proof ages.
func (r *rotating) Dated() bool { return r.get().Dated() }

// Accepted passes on that the service has let a request in.
func (r *rotating) Accepted(sent http.Header) {
	if renewer, ok := r.get().(workspace.Renewer); ok {
		renewer.Accepted(sent)
	}
}

// Refused passes a 401 on. What cannot be renewed is not worth another attempt.
func (r *rotating) Refused(sent http.Header) bool {
	renewer, ok := r.get().(workspace.Renewer)
	return ok && renewer.Refused(sent)
}

// Lasts is how long the current proof is good. What cannot be renewed has no end that is known.
func (r *rotating) Lasts(ctx context.Context) (time.Duration, error) {
	if renewer, ok := r.get().(workspace.Renewer); ok {
		return renewer.Lasts(ctx)
	}
	return math.MaxInt64, nil
}

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

// sandboxCredentials are those of a sandbox, as safety.Key sees them.
type sandboxCredentials struct {
	keys *secret
	auth *rotating
}

// Name is the same in all sandboxes that have the same credentials.
func (c *sandboxCredentials) Name() string { return c.auth.name() }

// Reload reads the secret once more; true where it has other credentials than before.
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
