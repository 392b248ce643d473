// Package profiles serves the profiles of this process over HTTP: [Check] the address, then [Serve].
package profiles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// Serve serves the profiles of this process until stop is called; without an address it does nothing.
func Serve(ctx context.Context, addr string, log *slog.Logger) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.WarnContext(ctx, "profiles are served no longer", "error", err)
		}
	}()
	log.InfoContext(ctx, "serving profiles", "url", "http://"+l.Addr().String()+"/debug/pprof/")
	return func() { _ = server.Close() }, nil
}

// Check refuses an address that is not on loopback: profiles show the command line and parts of the memory. A name
// other than localhost is refused too: it may resolve to any address.
func Check(addr string) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("must be host:port like 127.0.0.1:6060; got %q", addr)
	}
	ip, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("must be a loopback address like 127.0.0.1:6060, because profiles show the memory of the worker; got %q", addr)
	}
	return nil
}
