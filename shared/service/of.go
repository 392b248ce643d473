package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/config"
)

// ErrNoAnswer reports that an endpoint on this machine does not respond, so that it is not known whether it is an
// emulator.
var ErrNoAnswer = errors.New("no answer")

// probeWithin is how long an endpoint on this machine may take to prove that it is an emulator.
const probeWithin = 3 * time.Second

// Of returns the service at an endpoint. It calls an endpoint on this machine to find out whether it is an emulator;
// the error is ErrNoAnswer by errors.Is if that does not respond. Every other endpoint is real, and is not called.
func Of(ctx context.Context, endpoint, project string) (events.Service, error) {
	s, _, err := at(ctx, endpoint, project)
	return s, err
}

func at(ctx context.Context, endpoint, project string) (s events.Service, pace float64, err error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return events.Service{}, 0, fmt.Errorf("read the endpoint: %w", err)
	}
	if config.Loopback(endpoint) {
		pace, err := emulatorPace(ctx, endpoint)
		if err != nil {
			return events.Service{}, 0, fmt.Errorf("determine for %s whether it is an emulator: %w: %w", endpoint, ErrNoAnswer, err)
		}
		if pace > 0 {
			return events.Service{Kind: events.ServiceEmulator, Project: project}, pace, nil
		}
	}
	return events.Service{Kind: events.ServiceReal, Host: Host(u), Project: project}, 1, nil
}

// Configured returns the service of the configuration, and sets the pace that an emulator reports. A short signature
// window is allowed only with an emulator, and an address on this machine does not prove one: it may forward to the
// real service, which accepts older signatures. The error is ErrNoAnswer by errors.Is as with Of.
func Configured(ctx context.Context, c *config.Config) (events.Service, error) {
	s, pace, err := at(ctx, c.Endpoint(), c.ProjectID)
	if err != nil {
		return events.Service{}, err
	}
	if c.SignatureWindow < config.SignatureWindow && !s.Emulator() {
		return events.Service{}, fmt.Errorf("RECOMPOSE_SIGNATURE_WINDOW is %v, and %s did not prove to be an emulator: "+
			"a shorter window than %v could have a command carried out twice", c.SignatureWindow, c.Endpoint(), config.SignatureWindow)
	}
	c.Pace = pace
	return s, nil
}

// awaitRetry is the time between attempts while a worker starts.
const awaitRetry = time.Second

// Await is Configured for a worker that starts: it waits for an emulator on this machine, which may start later. The
// error is ErrNoAnswer by errors.Is only if ctx ended.
func Await(ctx context.Context, c *config.Config, log *slog.Logger) (events.Service, error) {
	s, err := Configured(ctx, c)
	if errors.Is(err, ErrNoAnswer) && ctx.Err() == nil {
		log.WarnContext(ctx, "waiting for the service: it is not known yet whether it is an emulator", "error", err)
	}
	for errors.Is(err, ErrNoAnswer) && ctx.Err() == nil {
		select {
		case <-time.After(awaitRetry):
		case <-ctx.Done():
		}
		s, err = Configured(ctx, c)
	}
	return s, err
}

// Host is the host of a URL in one spelling: lower case, no trailing dot, no port if it is the default of the scheme.
func Host(u *url.URL) string {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.Unmap().String()
	}
	if port := u.Port(); port != "" && port != map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// paceHeader is a header of an emulator's answers: how many times faster it runs than the real service.
const paceHeader = "Recompose-Pace"

// emulatorPace makes a request that only an emulator can answer. It returns the pace of the emulator, or 0 if there is
// none.
func emulatorPace(ctx context.Context, endpoint string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_emulator/requests?limit=1", nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusInternalServerError { // a gateway reports that the server behind it does not respond
		return 0, fmt.Errorf("status %d", response.StatusCode)
	}
	var journal []json.RawMessage
	if response.StatusCode != http.StatusOK || json.NewDecoder(response.Body).Decode(&journal) != nil {
		return 0, nil
	}
	if pace, err := strconv.ParseFloat(response.Header.Get(paceHeader), 64); err == nil && pace > 0 && !math.IsInf(pace, 0) {
		return pace, nil
	}
	return 1, nil // an emulator of an earlier version
}
