package emulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The metadata of a server with an agency: a metadata token, and with that token the temporary keys.
const (
	metadataTokenPath = "/meta-data/latest/api/token" //nolint:gosec // a path
	securityKeyPath   = "/openstack/latest/securitykey"
	longestMetadata   = 6 * time.Hour // life of a metadata token
)

// temporaryKey is a set of keys that the metadata issued. It is valid until its end, even if there is a later one.
type temporaryKey struct {
	Access  string    `json:"access"`
	Secret  string    `json:"secret"`
	Token   string    `json:"token"` // X-Security-Token
	Expires time.Time `json:"expires"`
	State   keyState  `json:"state,omitzero"`
}

// metadataRoute finds the call of a method and a path of the metadata.
func metadataRoute(method, escaped string) string {
	switch method + " " + escaped {
	case "PUT " + metadataTokenPath:
		return CallMetadataToken
	case "GET " + securityKeyPath:
		return CallSecurityKey
	}
	return ""
}

func isMetadata(call string) bool { return call == CallMetadataToken || call == CallSecurityKey }

// text is an answer that is not JSON.
func text(status int, body string) *answer {
	return &answer{status: status, kind: "text/plain", raw: []byte(body)}
}

// metadataToken issues a token that contains its own expiry time.
func (s *Server) metadataToken(req *request, now time.Time) *answer {
	seconds, err := strconv.Atoi(req.header.Get("X-Metadata-Token-Ttl-Seconds"))
	if err != nil || seconds < 1 || seconds > int(longestMetadata/time.Second) {
		return text(http.StatusBadRequest, "X-Metadata-Token-Ttl-Seconds must be from 1 to 21600")
	}
	end := strconv.FormatInt(now.Add(time.Duration(seconds)*time.Second).Unix(), 10)
	return text(http.StatusOK, end+"."+s.seal(end))
}

func (s *Server) seal(end string) string {
	mac := hmac.New(sha256.New, []byte(s.cfg.SecretKey))
	mac.Write([]byte("metadata token\n" + end))
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *Server) goodMetadataToken(token string, now time.Time) bool {
	end, seal, _ := strings.Cut(token, ".")
	seconds, err := strconv.ParseInt(end, 10, 64)
	return err == nil && hmac.Equal([]byte(seal), []byte(s.seal(end))) && now.Before(time.Unix(seconds, 0))
}

// securityKey returns the latest set of keys, or a new one if at most a third of its life remains.
func (s *Server) securityKey(req *request, now time.Time) *answer {
	if token := req.header.Get("X-Metadata-Token"); token != "" && !s.goodMetadataToken(token, now) {
		return text(http.StatusUnauthorized, "The metadata token is wrong or has expired.")
	}
	var latest temporaryKey
	for _, k := range s.keys {
		if k.Expires.After(latest.Expires) {
			latest = k
		}
	}
	ans := &answer{status: http.StatusOK}
	if latest.Expires.Sub(now) < s.cfg.KeyLifetime/3 {
		latest = temporaryKey{
			Access: "EMULATED" + strings.ToUpper(randomHex()[:12]), Secret: "emulated-secret-" + randomHex(),
			Token: "emulated-security-token-" + strings.Repeat(randomHex(), 16), Expires: now.Add(s.cfg.KeyLifetime),
		}
		ans.key = &latest
	}
	ans.body = map[string]any{"credential": map[string]any{
		"access": latest.Access, "secret": latest.Secret, "securitytoken": latest.Token,
		"expires_at": latest.Expires.UTC().Format("2006-01-02T15:04:05.000000Z"),
	}}
	return ans
}

// bendKey changes the answer of the metadata according to the quirks.
func (q quirkSet) bendKey(body map[string]any) {
	credential, _ := body["credential"].(map[string]any)
	if credential == nil {
		return
	}
	if q.has(quirkKeyIncomplete) {
		delete(credential, "securitytoken")
	}
	if q.has(quirkKeyPast) {
		credential["expires_at"] = "2020-01-01T00:00:00.000000Z"
	}
}
