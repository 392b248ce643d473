package emulator

import (
	"context"
	"encoding/json"
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

// ReadState reads the state of an emulator at an address, without a proxy.
func ReadState(ctx context.Context, endpoint string) (state State, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_emulator/state", nil)
	if err != nil {
		return state, err
	}
	direct := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := direct.Do(request)
	if err != nil {
		return state, err
	}
	defer func() { _ = response.Body.Close() }() // only read
	if err := json.NewDecoder(response.Body).Decode(&state); err != nil {
		return State{}, fmt.Errorf("read the state of the emulator: %w", err)
	}
	return state, nil
}
