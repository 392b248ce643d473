package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Site is a running HTTP server.
type Site struct {
	URL    string
	Failed <-chan error
	server *http.Server
}

// Serve listens on an address and answers with h until Close.
func Serve(ctx context.Context, listen string, h http.Handler) (*Site, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", listen, err)
	}
	failed := make(chan error, 1)
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	return &Site{URL: "http://" + listener.Addr().String(), Failed: failed, server: server}, nil
}

// Close waits up to two seconds for running requests.
func (s *Site) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close()
	}
}
