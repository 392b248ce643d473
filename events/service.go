package events

import (
	"net"
	"net/netip"
	"strings"
)

// Kinds of a Service.
const (
	ServiceEmulator = "emulator"
	ServiceReal     = "real"
)

// Service is the Workspace service that a deployment uses. Two values name the same service if they are equal.
type Service struct {
	Kind    string `json:"kind"`           // emulator or real
	Host    string `json:"host,omitempty"` // of a real service, in lower case, with the port unless it is the default of the scheme
	Project string `json:"project"`
}

// ServiceAccepted reports that a person changed which service the deployment uses. It does not end a command.
type ServiceAccepted struct {
	Service Service  `json:"service"`
	Before  *Service `json:"before,omitempty"` // absent: no service was recorded, or its record was damaged
	By      string   `json:"by"`               // user@host
}

// Emulator reports whether the service is the emulator, so that nothing real can change.
func (s Service) Emulator() bool { return s.Kind == ServiceEmulator }

// String is the line that is shown to an operator before a command is sent: EMULATOR, or REAL with endpoint and
// project.
func (s Service) String() string {
	if s.Emulator() {
		return "EMULATOR"
	}
	return "REAL " + s.endpoint() + " " + s.Project
}

// Name is the service and its project for use within a sentence.
func (s Service) Name() string {
	if s.Emulator() {
		return "EMULATOR, project " + s.Project
	}
	return "REAL " + s.endpoint() + ", project " + s.Project
}

// endpoint is the address of a real service. A service on a loopback address may be used without TLS.
func (s Service) endpoint() string {
	host, _, err := net.SplitHostPort(s.Host)
	if err != nil {
		host = strings.Trim(s.Host, "[]")
	}
	if a, err := netip.ParseAddr(host); host == "localhost" || err == nil && a.IsLoopback() {
		return s.Host
	}
	return "https://" + s.Host
}
