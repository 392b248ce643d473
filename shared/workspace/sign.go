package workspace

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// Algorithm is the name of the vendor's request signature, first word of the Authorization header (Go SDK).
	Algorithm = "SDK-HMAC-SHA256"
	// SignatureDateLayout is the form of the X-Sdk-Date header, always UTC and to the second (Go SDK).
	SignatureDateLayout = "20060102T150405Z"

	headerSDKDate       = "X-Sdk-Date"
	headerSecurityToken = "X-Security-Token"
	headerContentSHA256 = "X-Sdk-Content-Sha256"
)

// sign puts X-Sdk-Date and Authorization on r. body must be exactly the bytes that will be sent: the signature covers
// a trailing newline as well. The host is signed only if it is among the headers, as in the Go SDK.
func sign(r *http.Request, body []byte, accessKey, secretKey string, at time.Time) {
	date := at.UTC().Format(SignatureDateLayout)
	r.Header.Set(headerSDKDate, date)
	names := signedNames(r.Header)
	var query url.Values
	if r.URL.RawQuery != "" {
		query = r.URL.Query()
	}
	canonical := canonicalRequest(r.Method, r.URL.Path, query, r.Header, names, payloadHash(r.Header, body))
	signature := signatureOf(secretKey, stringToSign(date, canonical))
	r.Header.Set("Authorization", Algorithm+" Access="+accessKey+", SignedHeaders="+strings.Join(names, ";")+
		", Signature="+signature)
}

// signedNames lists the headers that are signed, lower case and sorted: all but Authorization, names that begin with
// content-type, and names with an underscore, which some proxies drop.
func signedNames(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		name = strings.ToLower(name)
		if name == "authorization" || strings.HasPrefix(name, "content-type") || strings.Contains(name, "_") {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// canonicalRequest joins the parts that are signed. names must be lower case and sorted.
func canonicalRequest(method, path string, query url.Values, h http.Header, names []string, hash string) string {
	b := make([]byte, 0, 1024)
	b = append(append(b, method...), '\n')
	b = append(appendPath(b, path), '\n')
	b = append(append(b, canonicalQuery(query)...), '\n')
	for _, name := range names {
		for _, value := range headerValues(h, name) {
			b = append(append(b, name...), ':')
			b = append(append(b, strings.TrimSpace(value)...), '\n')
		}
	}
	b = append(b, '\n')
	for i, name := range names {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	return string(append(b, hash...))
}

// headerValues returns the values of a header in sorted order, in any letter case of its name in the map.
func headerValues(h http.Header, name string) []string {
	var values []string
	for key, given := range h {
		switch {
		case len(key) != len(name) || !strings.EqualFold(key, name):
		case len(values) == 0:
			values = given[:len(given):len(given)]
		default:
			values = append(values, given...)
		}
	}
	if len(values) < 2 {
		return values
	}
	return slices.Sorted(slices.Values(values))
}

// appendPath escapes each segment of the decoded path and appends a slash, which the sent path does not have.
func appendPath(b []byte, decoded string) []byte {
	for i := range len(decoded) {
		if c := decoded[i]; c == '/' {
			b = append(b, c)
		} else {
			b = appendEscaped(b, c)
		}
	}
	if !strings.HasSuffix(decoded, "/") {
		b = append(b, '/')
	}
	return b
}

// canonicalQuery sorts by key, then by value; an empty value keeps its equals sign.
func canonicalQuery(query url.Values) string {
	if len(query) == 0 {
		return ""
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(query)) {
		for _, value := range slices.Sorted(slices.Values(query[key])) {
			parts = append(parts, escape(key)+"="+escape(value))
		}
	}
	return strings.Join(parts, "&")
}

// escape percent-encodes every byte except letters, digits, hyphen, underscore, full stop and tilde.
func escape(s string) string {
	b := make([]byte, 0, 3*len(s))
	for i := range len(s) {
		b = appendEscaped(b, s[i])
	}
	return string(b)
}

func appendEscaped(b []byte, c byte) []byte {
	const hexDigits = "0123456789ABCDEF"
	switch {
	case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '~':
		return append(b, c)
	default:
		return append(b, '%', hexDigits[c>>4], hexDigits[c&15])
	}
}

// payloadHash returns the hash of the body, or the value of X-Sdk-Content-Sha256 if it is set.
func payloadHash(h http.Header, body []byte) string {
	if literal := h.Get(headerContentSHA256); literal != "" {
		return literal
	}
	return hexSHA256(body)
}

// stringToSign returns the text that the HMAC covers.
func stringToSign(date, canonical string) string {
	return Algorithm + "\n" + date + "\n" + hexSHA256([]byte(canonical))
}

// signatureOf uses the secret key itself as the HMAC key, without derivation.
func signatureOf(secretKey, text string) string {
	mac := hmac.New(sha256.New, []byte(secretKey))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
