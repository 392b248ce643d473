package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm = "SDK-HMAC-SHA256"
	sdkDate   = "20060102T150405Z"
	lockAfter = 5 // bad signatures in a row that do not lock the key
	lockFor   = 5 * time.Minute
)

// keyState counts the bad signatures of an access key, or the wrong passwords of the IAM user.
type keyState struct {
	Access      string    `json:"access,omitempty"` // of a temporary key; "" is the key of the configuration
	Failures    int       `json:"failures"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
}

// signed is the content of the Authorization header.
type signed struct {
	access, signature string
	headers           []string
}

// parseAuthorization reads the header; ok is false if it is not well formed.
func parseAuthorization(value string) (a signed, ok bool) {
	rest, found := strings.CutPrefix(value, algorithm+" ")
	if !found {
		return signed{}, false
	}
	for field := range strings.SplitSeq(rest, ",") {
		k, v, found := strings.Cut(strings.TrimSpace(field), "=")
		if !found {
			return signed{}, false
		}
		switch k {
		case "Access":
			a.access = v
		case "SignedHeaders":
			a.headers = strings.Split(strings.ToLower(v), ";")
		case "Signature":
			a.signature = v
		default:
			return signed{}, false
		}
	}
	return a, a.access != "" && len(a.headers) > 0 && a.signature != ""
}

// authenticate checks the credentials of a request in the order of the gateway. It returns the key's new state if that
// changed.
func (s *Server) authenticate(req *request, now time.Time) (*keyState, *refusal) {
	value := req.header.Get("Authorization")
	if value == "" {
		return nil, s.checkToken(req.header.Get("X-Auth-Token"), now)
	}
	auth, ok := parseAuthorization(value)
	if !ok {
		return nil, denied("the Authorization header is malformed")
	}
	if !slices.Contains(auth.headers, "x-sdk-date") {
		return nil, denied("x-sdk-date is not a signed header")
	}
	stamp := req.header.Get("X-Sdk-Date")
	date, err := time.Parse(sdkDate, stamp)
	if err != nil {
		return nil, denied("X-Sdk-Date is missing or not of the form %s", sdkDate)
	}
	if age := now.Sub(date); age > s.cfg.SignatureWindow || -age > s.cfg.SignatureWindow {
		return nil, denied("verify aksk signature fail, signature expired, x-sdk-date:%s, now:%s", stamp, now.UTC().Format(sdkDate))
	}
	keys, ok := s.keysOf(auth.access)
	if !ok {
		return nil, denied("Get secretKey failed,ak:%s,err:ak not exist", auth.access)
	}
	key := keys.State
	canonical, ok := canonicalRequest(req, auth.headers)
	if !ok || !validSignature(auth.signature, keys.Secret, stamp, canonical) {
		key.Failures++
		if key.Failures > lockAfter {
			key = keyState{Access: key.Access, LockedUntil: now.Add(lockFor)}
		}
		return &key, denied("verify aksk signature fail, canonical request:%s", strings.ReplaceAll(canonical, "\n", "|"))
	}
	if now.Before(key.LockedUntil) {
		return nil, denied("AK access failed to reach the limit,forbidden.")
	}
	wrong := keys.Token != "" && subtle.ConstantTimeCompare([]byte(req.header.Get("X-Security-Token")), []byte(keys.Token)) != 1
	if wrong || !keys.Expires.IsZero() && !now.Before(keys.Expires) {
		return nil, denied("X-Security-Token is missing, wrong or expired")
	}
	if good := (keyState{Access: key.Access}); key != good {
		return &good, nil
	}
	return nil, nil
}

// keysOf returns the keys with this access key: those of the configuration, which do not expire, or a set that the
// metadata issued.
func (s *Server) keysOf(access string) (temporaryKey, bool) {
	if subtle.ConstantTimeCompare([]byte(access), []byte(s.cfg.AccessKey)) == 1 {
		return temporaryKey{Secret: s.cfg.SecretKey, Token: s.cfg.SecurityToken, State: s.key}, true
	}
	k, ok := s.keys[access]
	k.State.Access = access
	return k, ok
}

// checkToken checks an X-Auth-Token.
func (s *Server) checkToken(token string, now time.Time) *refusal {
	if token == "" {
		return denied("x-auth-token not found")
	}
	if slices.Contains(s.cfg.Tokens, token) {
		return nil
	}
	expires, ok := s.tokens[token]
	if !ok {
		return denied("decrypt token fail")
	}
	if !now.Before(expires) {
		return denied("token expired, it must be updated")
	}
	return nil
}

// validSignature compares in constant time.
func validSignature(signature, secret, stamp, canonical string) bool {
	digest := sha256.Sum256([]byte(canonical))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(algorithm + "\n" + stamp + "\n" + hex.EncodeToString(digest[:])))
	return hmac.Equal([]byte(signature), []byte(hex.EncodeToString(mac.Sum(nil))))
}

// canonicalRequest returns the text whose digest is signed, according to the request's own list of signed headers. ok
// is false if the query cannot be read, or if the request's body digest does not match the body.
func canonicalRequest(req *request, names []string) (text string, ok bool) {
	query, ok := canonicalQuery(req.rawQuery)
	hash := req.bodyHash
	if given := req.header.Get("X-Sdk-Content-Sha256"); given != "" {
		if len(given) == len(hash) && given != hash {
			ok = false
		}
		hash = given
	}
	var b strings.Builder
	b.WriteString(req.method + "\n" + canonicalPath(req.path) + "\n" + query + "\n")
	for _, name := range names {
		for _, v := range signedValues(req, name) {
			b.WriteString(name + ":" + strings.TrimSpace(v) + "\n")
		}
	}
	b.WriteString("\n" + strings.Join(names, ";") + "\n" + hash)
	return b.String(), ok
}

// signedValues returns the values of a header, sorted; net/http keeps two headers outside of the map.
func signedValues(req *request, name string) []string {
	switch name {
	case "host":
		return []string{req.host}
	case "content-length":
		return []string{strconv.Itoa(len(req.body))}
	}
	values := req.header[http.CanonicalHeaderKey(name)]
	if len(values) == 0 {
		return []string{""}
	}
	values = slices.Clone(values)
	slices.Sort(values)
	return values
}

func canonicalPath(path string) string {
	segments := strings.Split(path, "/")
	for i, seg := range segments {
		segments[i] = percentEncoded(url.QueryEscape(seg))
	}
	path = strings.Join(segments, "/")
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path
}

// canonicalQuery parses the query and encodes it anew: the same query has several forms on the wire.
func canonicalQuery(raw string) (string, bool) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return "", false
	}
	for _, list := range values {
		slices.Sort(list)
	}
	return percentEncoded(values.Encode()), true
}

// percentEncoded turns what net/url has encoded for a query into the form that is signed: a space is %20.
func percentEncoded(s string) string { return strings.ReplaceAll(s, "+", "%20") }
