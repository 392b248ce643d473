package config

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AgencyMetadata as RECOMPOSE_AGENCY: the keys are read from the metadata service of the server.
const AgencyMetadata = "metadata"

// Kinds of credentials, as errors name them.
const (
	byKey    = "an access key"
	byToken  = "a token"
	byLogin  = "an IAM login"
	byAgency = "an agency"
)

// kind is a kind of credentials, with those of its variables that are set.
type kind struct {
	name      string
	variables []string
}

// given returns the kinds of credentials with at least one variable set.
func (c *Config) given() []kind {
	var all []kind
	add := func(name string, fields ...setField) {
		k := kind{name: name}
		for _, f := range fields {
			if f.value != "" {
				k.variables = append(k.variables, f.variable)
			}
		}
		if len(k.variables) > 0 {
			all = append(all, k)
		}
	}
	add(byKey, setField{"HUAWEICLOUD_SDK_AK", c.AK}, setField{"HUAWEICLOUD_SDK_SK", string(c.SK)},
		setField{"HUAWEICLOUD_SDK_SECURITY_TOKEN", string(c.SecurityToken)})
	add(byToken, setField{"RECOMPOSE_AUTH_TOKEN", string(c.AuthToken)})
	add(byLogin, setField{"RECOMPOSE_IAM_USER", c.IAMUser}, setField{"RECOMPOSE_IAM_PASSWORD", string(c.IAMPassword)},
		setField{"RECOMPOSE_IAM_DOMAIN", c.IAMDomain}, setField{"RECOMPOSE_IAM_ENDPOINT", string(c.IAMEndpoint)})
	add(byAgency, setField{"RECOMPOSE_AGENCY", c.Agency})
	return all
}

type setField struct{ variable, value string }

// ByLogin reports whether the service is called with the token of an IAM login.
func (c *Config) ByLogin() bool { return c.IAMUser != "" }

// ByAgency reports whether the service is called with the keys of the server's agency.
func (c *Config) ByAgency() bool { return c.Agency != "" }

// MayResend reports whether a call of unknown outcome may be retried once it is proved that the service did not
// accept it. That needs a signature that expires, as with permanent keys and with those of an agency. A token,
// configured or from a login, does not expire soon enough.
func (c *Config) MayResend() bool {
	return c.Resend == ResendProved && c.AuthToken == "" && !c.ByLogin()
}

// IAM is the base URL of the login: the configured one, else that of the region from which the address of the
// Workspace service is derived; "" without either. A configured Workspace endpoint does not determine the IAM
// address: a password is never sent to a guessed address.
func (c *Config) IAM() string {
	switch {
	case c.IAMEndpoint != "":
		return strings.TrimRight(string(c.IAMEndpoint), "/")
	case c.WorkspaceEndpoint == "" && c.Region != "":
		return "https://iam." + c.Region + ".myhuaweicloud.com"
	default:
		return ""
	}
}

// Credentials describes the credentials for calls of the service, without a secret; "" if they are not known.
func (c *Config) Credentials() string {
	given := c.given()
	switch {
	case len(given) != 1:
		return ""
	case c.ByLogin():
		return fmt.Sprintf("the token of IAM user %s of %s, by login at %s", c.IAMUser, c.IAMDomain, maskURL(c.IAM()))
	case c.ByAgency():
		return "temporary keys of the server's agency, from " + maskURL(string(c.MetadataEndpoint))
	case c.AK != "":
		return "access key " + mask("begin", c.AK)
	default:
		return given[0].name
	}
}

func (c *Config) checkCredentials(o Options, bad reporter) {
	for _, one := range []struct {
		variable string
		value    Secret
		problem  func(string) string
	}{
		{"HUAWEICLOUD_SDK_AK", Secret(c.AK), CredentialProblem},
		{"HUAWEICLOUD_SDK_SK", c.SK, CredentialProblem},
		{"HUAWEICLOUD_SDK_SECURITY_TOKEN", c.SecurityToken, CredentialProblem},
		{"RECOMPOSE_AUTH_TOKEN", c.AuthToken, CredentialProblem},
		{"RECOMPOSE_IAM_USER", Secret(c.IAMUser), LoginProblem}, {"RECOMPOSE_IAM_PASSWORD", c.IAMPassword, LoginProblem},
		{"RECOMPOSE_IAM_DOMAIN", Secret(c.IAMDomain), LoginProblem},
	} {
		if problem := one.problem(string(one.value)); problem != "" {
			bad(one.variable, "%s%s", problem, c.standsIn(one.variable))
		}
	}
	given := c.given()
	if len(given) == 0 {
		bad("HUAWEICLOUD_SDK_AK", "is missing: the access key (or HW_ACCESS_KEY); or instead of both keys a token in "+
			"RECOMPOSE_AUTH_TOKEN, an IAM user in RECOMPOSE_IAM_USER, or on a server with an agency RECOMPOSE_AGENCY=%s", AgencyMetadata)
		bad("HUAWEICLOUD_SDK_SK", "is missing: its secret key (or HW_SECRET_KEY)")
		return
	}
	if last := given[len(given)-1]; len(given) > 1 {
		other := given[0]
		bad(last.variables[0], "is set (%s), and so is %s%s (%s); give one kind of credentials",
			last.name, other.variables[0], c.standsIn(other.variables[0]), other.name)
		return
	}
	switch given[0].name {
	case byKey:
		c.checkKey(bad)
	case byLogin:
		c.checkLogin(bad)
	case byAgency:
		c.checkAgency(o, bad)
	}
}

func (c *Config) checkKey(bad reporter) {
	if c.AK == "" {
		bad("HUAWEICLOUD_SDK_AK", "is missing: there is a secret key and no access key (or HW_ACCESS_KEY)")
	}
	if c.SK == "" {
		bad("HUAWEICLOUD_SDK_SK", "is missing: there is an access key and no secret key (or HW_SECRET_KEY)")
	}
}

func (c *Config) checkLogin(bad reporter) {
	iam := c.IAM()
	if c.Endpoint() == "" {
		iam = "of the region, which is missing"
	}
	for _, required := range []struct{ variable, value, what string }{
		{"RECOMPOSE_IAM_USER", c.IAMUser, "the name of the IAM user that logs in"},
		{"RECOMPOSE_IAM_PASSWORD", string(c.IAMPassword),
			"the password of the IAM user; or the file with it in RECOMPOSE_IAM_PASSWORD_FILE"},
		{"RECOMPOSE_IAM_DOMAIN", c.IAMDomain, "the name of the account that the IAM user belongs to"},
		{"RECOMPOSE_IAM_ENDPOINT", iam, "the address of IAM, like https://iam.ap-southeast-1.myhuaweicloud.com; " +
			"it follows from RECOMPOSE_REGION alone"},
	} {
		if required.value == "" {
			bad(required.variable, "is missing: %s", required.what)
		}
	}
	if c.IAMEndpoint != "" {
		u, err := url.Parse(string(c.IAMEndpoint))
		checkURL(bad, "RECOMPOSE_IAM_ENDPOINT", "iam", c.IAMEndpoint, u, err)
	}
}

func (c *Config) checkAgency(o Options, bad reporter) {
	switch {
	case c.Agency != AgencyMetadata:
		bad("RECOMPOSE_AGENCY", "must be %s, or unset; got %q", AgencyMetadata, c.Agency)
		return
	case o.AWS == Required && c.IsDefault("RECOMPOSE_METADATA_ENDPOINT"):
		bad("RECOMPOSE_AGENCY",
			"works only on a server of Huawei Cloud, not on AWS Lambda: put keys or an IAM user in the secret")
	}
	u, err := url.Parse(string(c.MetadataEndpoint))
	switch {
	case err != nil || u.User != nil || u.Host == "" || u.Scheme != "http" || (u.Path != "" && u.Path != "/") ||
		u.RawQuery != "" || u.Fragment != "":
		bad("RECOMPOSE_METADATA_ENDPOINT", "must be http:// and a host like http://169.254.169.254, and nothing else")
	case !Loopback(string(c.MetadataEndpoint)) && !linkLocal(u.Hostname()):
		bad("RECOMPOSE_METADATA_ENDPOINT", "must be an address of this machine or a link-local one like "+
			"http://169.254.169.254: the server at this address provides the keys; got %s", c.MetadataEndpoint)
	}
}

func linkLocal(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLinkLocalUnicast()
}

// LoginProblem returns what is wrong with the form of a user, password or domain of IAM, without showing it; "" if
// nothing is wrong. They are sent in a JSON body, so inner spaces and letters beyond ASCII are allowed. See
// [CredentialProblem].
func LoginProblem(value string) string {
	switch {
	case hasQuotes(value):
		return "has quotes in its value; give it without quotes: those of an env file are not removed, " +
			"and a password with a quote in it cannot be used"
	case strings.TrimSpace(value) != value || strings.ContainsFunc(value, unicode.IsControl) || !utf8.ValidString(value):
		return "begins or ends with spaces, or has line ends or other control characters; give it as it was issued"
	default:
		return ""
	}
}

// CredentialProblem returns what is wrong with the form of a key or token, without showing it; "" if nothing is
// wrong. Most often it was pasted with a line end, or with the quotes of an env file, which docker and systemd pass
// on. The service refuses each call with such a credential, and locks the key after a few refusals.
func CredentialProblem(value string) string {
	switch {
	case hasQuotes(value):
		return "has quotes in its value; give it without quotes: those of an env file are not removed"
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return "has spaces, line ends or characters beyond ASCII; give it as it was issued"
	default:
		return ""
	}
}

const quotes = "\"'`\u2018\u2019\u201c\u201d"

func hasQuotes(value string) bool { return strings.ContainsAny(value, quotes) }

// inQuotes reports whether a value begins and ends with quotes.
func inQuotes(value string) bool {
	first, size := utf8.DecodeRuneInString(value)
	last, _ := utf8.DecodeLastRuneInString(value)
	return len(value) > size && strings.ContainsRune(quotes, first) && strings.ContainsRune(quotes, last)
}
