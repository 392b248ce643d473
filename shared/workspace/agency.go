package workspace

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultMetadataEndpoint is the address at which a server of Huawei Cloud reads its metadata.
const DefaultMetadataEndpoint = "http://169.254.169.254"

const (
	metadataWithin = 3 * time.Second  // one call, as in the Go SDK
	keysRenewed    = 40 * time.Minute // before their end, as in the Go SDK
	metadataTTL    = "21600"          // seconds of a metadata token
)

// AgencyOptions are the settings of [NewAgency]; every zero value is a default.
type AgencyOptions struct {
	// Endpoint is the address of the metadata; default [DefaultMetadataEndpoint]. Only loopback and link-local addresses
	// are accepted, because the host at this address issues the keys.
	Endpoint string
	// Now is the wall clock; default time.Now.
	Now func() time.Time
	// OnCall is like that of [Options].
	OnCall func(CallInfo)
}

// NewAgency returns an [Auth] that signs with the temporary keys of the agency of the server that it runs on. It
// fetches the keys from the server's metadata without a proxy, keeps them for all calls, and fetches the next ones in
// time. It checks the options and sends nothing.
func NewAgency(o AgencyOptions) (*Renewing, error) {
	o.Endpoint = cmp.Or(o.Endpoint, DefaultMetadataEndpoint)
	endpoint, err := parseMetadataEndpoint(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("agency: %w", err)
	}
	c := &clock{}
	c.follow(o.Now)
	transport := newTransport(0)
	transport.Proxy = nil
	return newRenewing(&agency{
		endpoint: endpoint, issuer: issuer{operation: "security-key", transport: transport, clock: c, onCall: o.OnCall},
	}, c), nil
}

// parseMetadataEndpoint accepts http and an address that no router forwards.
func parseMetadataEndpoint(endpoint string) (*url.URL, error) {
	const way = "give one such as " + DefaultMetadataEndpoint
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.User != nil || u.Host == "" || u.Scheme != "http" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the metadata endpoint is not http:// and a host alone: " + way)
	case !isLoopback(u.Hostname()) && !isLinkLocal(u.Hostname()):
		return nil, fmt.Errorf("the metadata endpoint %q is neither loopback nor link-local: %s", endpoint, way)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func isLinkLocal(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLinkLocalUnicast()
}

// agency is the source of temporary keys.
type agency struct {
	issuer
	endpoint *url.URL
}

// fetch requests a token from the metadata, and the keys with that token. Metadata without tokens gets a request
// without one. A token that is refused is replaced once.
func (g *agency) fetch(ctx context.Context) (*proof, error) {
	for first := true; ; first = false {
		token, err := g.token(ctx)
		if err != nil {
			return nil, err
		}
		header := http.Header{}
		if token != "" {
			header.Set("X-Metadata-Token", token)
		}
		a, err := g.get(ctx, http.MethodGet, "/openstack/latest/securitykey", header)
		switch {
		case err != nil:
			return nil, err
		case a.status == http.StatusOK:
			return g.read(&a)
		case a.status == http.StatusUnauthorized && strings.Contains(strings.ToLower(string(a.body)), "agency"):
			e := g.failed(&a, errors.New("the server has no agency: bind one to it that has the rights on Workspace"))
			e.Class = Unauthorized
			return nil, e
		case a.status == http.StatusUnauthorized && first:
		default:
			e := g.failed(&a, fmt.Errorf("the metadata at %s returned no keys", g.endpoint))
			if e.Class == Unauthorized { // the metadata refused its own token, not the agency
				e.Class = Unavailable
			}
			return nil, e
		}
	}
}

// token requests a token for the metadata. It returns "" if the metadata issues none.
func (g *agency) token(ctx context.Context) (string, error) {
	header := http.Header{"X-Metadata-Token-Ttl-Seconds": {metadataTTL}}
	a, err := g.get(ctx, http.MethodPut, "/meta-data/latest/api/token", header)
	switch {
	case err != nil:
		return "", err
	case a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed, a.status == http.StatusServiceUnavailable:
		return "", nil // this kind of metadata has no tokens
	case a.status != http.StatusOK:
		e := g.failed(&a, fmt.Errorf("the metadata at %s returned no token", g.endpoint))
		if e.Class == Unauthorized {
			e.Class = Unavailable
		}
		return "", e
	}
	token := strings.TrimSpace(string(a.body))
	if err := checkSecret("the metadata token", token, true); err != nil || strings.HasPrefix(token, "<") {
		return "", g.failed(&a, fmt.Errorf("the metadata at %s returned an unusable token", g.endpoint))
	}
	return token, nil
}

func (g *agency) get(ctx context.Context, method, path string, header http.Header) (issued, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataWithin)
	defer cancel()
	u := g.endpoint.String() + path
	request, err := http.NewRequestWithContext(ctx, method, u, nil) //nolint:gosec // loopback or link-local
	if err != nil {
		return issued{}, g.failed(nil, fmt.Errorf("build request: %w", err))
	}
	request.Header = header
	return g.send(ctx, request)
}

// read takes the keys from an answer. Its errors show no part of the body.
func (g *agency) read(a *issued) (*proof, error) {
	var body struct {
		Credential *struct {
			Access        string `json:"access"`
			Secret        string `json:"secret"`
			SecurityToken string `json:"securitytoken"`
			ExpiresAt     string `json:"expires_at"`
		} `json:"credential"`
	}
	if err := json.Unmarshal(a.body, &body); err != nil || body.Credential == nil {
		return nil, g.failed(a, errors.New(`the answer of the metadata is not {"credential": {...}}`))
	}
	c := body.Credential
	keys := AKSK{AccessKey: c.Access, SecretKey: c.Secret, SecurityToken: c.SecurityToken}
	err := errors.Join(keys.check(), checkSecret("security token", c.SecurityToken, true))
	if err != nil {
		return nil, g.failed(a, fmt.Errorf("the answer of the metadata: %w", err))
	}
	life, err := g.life(a, "key", c.ExpiresAt)
	if err != nil {
		return nil, err
	}
	return &proof{auth: keys, life: life, got: a.sent}, nil
}

func (*agency) dated() bool { return true }

func (*agency) renewAt(time.Duration) time.Duration { return keysRenewed }

func (*agency) redact(text string) string { return text }

func (g *agency) digest() string {
	return hexSHA256([]byte("recompose agency\n" + g.endpoint.String()))
}

func (g *agency) String() string { return "agency keys from " + g.endpoint.String() }
