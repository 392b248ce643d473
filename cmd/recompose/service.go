package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"recompose/shared/config"
	"recompose/shared/workspace"
)

// service is the Workspace service behind the workers, as far as it is known here.
type service struct {
	Emulator bool   // proved, not guessed
	Endpoint string // "" if it is not known
	Project  string
}

// String is the line that says whether anything real can happen.
func (s service) String() string {
	switch {
	case s.Emulator:
		return "EMULATOR"
	case s.Endpoint == "":
		return "REAL (which service the workers use is not told here, so it is taken for a real one)"
	default:
		return "REAL " + foreign(s.Endpoint) + " " + foreign(s.Project)
	}
}

// Names of the NATS server inside `recompose up`. Only the process that has the server also has the workers, so its name
// proves to a client which service stands behind it.
const (
	upEmulator = "recompose-up-emulator"
	upReal     = "recompose-up-real|"
)

// serverName names the NATS server of an `up` that works on this service.
func (s service) serverName() string {
	if s.Emulator {
		return upEmulator
	}
	return upReal + s.Endpoint + "|" + s.Project
}

// serviceBehind tells which service a command will reach that is sent to the NATS server of this name.
func serviceBehind(ctx context.Context, serverName string, c *config.Config) service {
	if serverName == upEmulator {
		return service{Emulator: true}
	}
	if rest, ok := strings.CutPrefix(serverName, upReal); ok {
		endpoint, project, _ := strings.Cut(rest, "|")
		return service{Endpoint: endpoint, Project: project}
	}
	if !c.ServiceChosen() {
		return service{}
	}
	return service{Emulator: isEmulator(ctx, c.Endpoint()), Endpoint: c.Endpoint(), Project: c.ProjectID}
}

// configured is the service of the settings, for workers. A short signature window is for emulators only: behind an
// address on this machine may be a way to the real service, which takes older signatures.
func configured(ctx context.Context, c *config.Config) (service, error) {
	s := service{Emulator: isEmulator(ctx, c.Endpoint()), Endpoint: c.Endpoint(), Project: c.ProjectID}
	if c.SignatureWindow < config.SignatureWindow && !s.Emulator {
		return s, wrongUse(fmt.Errorf("RECOMPOSE_SIGNATURE_WINDOW is %v, and %s did not prove to be an emulator: a shorter window than %v could have a command done twice", c.SignatureWindow, s.Endpoint, config.SignatureWindow))
	}
	return s, nil
}

// isEmulator asks an endpoint on this machine for something that only an emulator has. Everything else is real.
func isEmulator(ctx context.Context, endpoint string) bool {
	if !config.Loopback(endpoint) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_emulator/requests?limit=1", nil)
	if err != nil {
		return false
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // and no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	var journal []json.RawMessage
	return response.StatusCode == http.StatusOK && json.NewDecoder(response.Body).Decode(&journal) == nil
}

// newClient makes the client of the configured service.
func newClient(c *config.Config, onCall func(workspace.CallInfo)) (*workspace.Client, error) {
	var auth workspace.Auth = workspace.AKSK{
		AccessKey: c.AccessKey, SecretKey: string(c.SecretKey), SecurityToken: string(c.SecurityToken),
	}
	if c.AuthToken != "" {
		auth = workspace.Token(c.AuthToken)
	}
	client, err := workspace.New(workspace.Config{
		Endpoint: c.Endpoint(), ProjectID: c.ProjectID, Auth: auth, Concurrency: c.Concurrency,
		ReadsPerMinute: c.ReadsPerMinute, WritesPerMinute: c.WritesPerMinute, SignatureWindow: c.SignatureWindow, OnCall: onCall,
	})
	if err != nil {
		return nil, wrongUse(fmt.Errorf("the settings of the service: %w", err))
	}
	return client, nil
}
