// Package health serves over HTTP whether a worker is alive, whether it can work, and its metrics.
//
//	/healthz  200 while its loops turn; else 503: restart it
//	/readyz   200 while it can work; else 503 with the reasons in the body: a restart does not help
//	/metrics  for Prometheus
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Variable is the setting with the address to listen on.
const Variable = "RECOMPOSE_HTTP_LISTEN"

// HostsVariable is the setting with more names of the host.
const HostsVariable = "RECOMPOSE_HTTP_HOSTS"

// Off as the address turns the server off.
const Off = "off"

// Check is the result of one check.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"` // what is wrong and what to do, or further information
}

// Options are what to serve. A nil check has no results; without Metrics there is no /metrics.
type Options struct {
	Alive   func(ctx context.Context) []Check
	Ready   func(ctx context.Context) []Check
	Metrics http.Handler
	// Hosts are the host names that requests may have, beside localhost and all IP addresses. Other names are refused:
	// a web page in a browser can make its own host name resolve to this server (DNS rebinding).
	Hosts []string
}

// checkWithin is how long the checks of one request may take.
const checkWithin = 5 * time.Second

// Handler serves the paths.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", checks(o.Alive, "alive", "stuck"))
	mux.Handle("GET /readyz", checks(o.Ready, "ready", "not_ready"))
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !o.serves(r.Host) {
			http.Error(w, fmt.Sprintf("host: must be an IP address, localhost or a name in %s; got %q", HostsVariable, r.Host), http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// serves reports whether requests to a host are answered. A request without a host is not from a browser.
func (o Options) serves(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		net.ParseIP(strings.Trim(host, "[]")) != nil ||
		slices.ContainsFunc(o.Hosts, func(name string) bool { return strings.EqualFold(name, host) })
}

func checks(look func(context.Context) []Check, good, bad string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkWithin)
		defer cancel()
		answer := struct {
			Status string  `json:"status"`
			Checks []Check `json:"checks"`
		}{good, []Check{}}
		if look != nil {
			answer.Checks = append(answer.Checks, look(ctx)...)
		}
		status := http.StatusOK
		for _, c := range answer.Checks {
			if !c.OK {
				answer.Status, status = bad, http.StatusServiceUnavailable
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(status)
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(answer) // the client has gone
	}
}

// Server is a running server.
type Server struct {
	srv  *http.Server
	addr string
	done chan error
}

// Serve listens and returns; it serves until Close. The address is host:port, port 0 for any free one. For "" and Off
// there is no server, and Serve returns nil, which can be closed. The error names the setting and the remedy.
func Serve(ctx context.Context, address string, o Options) (*Server, error) {
	if address == "" || strings.EqualFold(address, Off) {
		return nil, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve health and metrics: cannot listen on %s: %w; set %s to another host:port, or to %s", address, err, Variable, Off)
	}
	if name, _, err := net.SplitHostPort(address); err == nil {
		o.Hosts = append(slices.Clone(o.Hosts), name)
	}
	s := &Server{addr: l.Addr().String(), done: make(chan error, 1), srv: &http.Server{
		Handler: Handler(o), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}
	go func() { s.done <- s.srv.Serve(l) }()
	return s, nil
}

// URL is the address of the server; "" if there is none.
func (s *Server) URL() string {
	if s == nil {
		return ""
	}
	return "http://" + s.addr
}

// Close ends the server at once. It may be repeated.
func (s *Server) Close() error {
	if s == nil {
		return nil
	}
	err := s.srv.Close()
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	s.done <- http.ErrServerClosed
	return err
}
