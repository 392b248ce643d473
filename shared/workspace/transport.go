package workspace

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// newTransport builds the default transport; idle 0 gives every request a connection of its own.
func newTransport(idle int) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	// HTTP/1.1 only: a connection carries one request at a time, so a lost connection loses one request.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:               Proxy,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        idle,
		MaxIdleConnsPerHost: idle,
		IdleConnTimeout:     55 * time.Second,
		DisableKeepAlives:   idle == 0,
		Protocols:           &protocols,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			return fmt.Errorf("the proxy %s refuses the connection: status %s", proxy.Host, answer.Status) // Go's own error names no proxy
		},
	}
}

// Proxy is Go's reading of HTTPS_PROXY and NO_PROXY, which never uses a proxy for loopback. Its error does not show
// the address, which may hold a password.
func Proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil {
		return nil, errors.New("HTTPS_PROXY is not a proxy URL: give one such as http://proxy.example.org:3128")
	}
	return u, nil
}

var errSealed = errors.New("the request was abandoned before its body was sent")

// sealable is a request body that records whether a read has begun, and can be closed to readers for good. A request
// with a body is not complete, and cannot be executed, before its body was read and sent. So sealing an unread body
// proves that the service has not received the request and never will, even if a goroutine of the transport still
// holds it.
type sealable struct {
	state  atomic.Int32
	reader bytes.Reader
}

const (
	untouched int32 = iota
	begun
	sealed
)

// newSealable returns nil for an empty body.
func newSealable(body []byte) *sealable {
	if len(body) == 0 {
		return nil
	}
	s := new(sealable)
	s.reader.Reset(body)
	return s
}

// Read marks the body as begun, and fails once it is sealed.
func (s *sealable) Read(p []byte) (int, error) {
	if !s.state.CompareAndSwap(untouched, begun) && s.state.Load() == sealed {
		return 0, errSealed
	}
	return s.reader.Read(p)
}

// Close does nothing: a body is not reused.
func (*sealable) Close() error { return nil }

// seal reports whether no byte of the body was or will be read.
func (s *sealable) seal() bool { return s.state.CompareAndSwap(untouched, sealed) }

var _ io.ReadCloser = (*sealable)(nil)
