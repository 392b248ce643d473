// Package embednats runs a NATS server with JetStream inside this process. It alone imports the server.
//
// A message whose publish was acknowledged is in StoreDir and survives the end of the process. Without SyncAlways it
// survives a crash of the machine only if it is older than the server's sync interval of two minutes.
package embednats

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options of a server. Only StoreDir is required.
type Options struct {
	StoreDir   string // streams and their messages; created if it does not exist. One process at a time may use it
	Listen     string // host:port for clients; empty: no port, in-process connections only; port 0: any free port
	SyncAlways bool   // write to disk before a publish is acknowledged
	Name       string // of the server; default: recompose

	// Every client needs User and Password; CertFile and KeyFile enable TLS. A Listen address off loopback requires
	// both.
	User, Password    string
	CertFile, KeyFile string

	Log *slog.Logger // default: silent
}

// Server is a running NATS server.
type Server struct {
	srv  *server.Server
	lock *flock.Flock
	opts Options
}

// readyWithin is how long a server may take to read its stored data.
const readyWithin = 30 * time.Second

// Start runs a server and returns when clients can connect. The error names the remedy if there is one: for a port in
// use, a folder that another process uses, a listener that other machines can reach without TLS and credentials.
func Start(o Options) (*Server, error) {
	if o.StoreDir == "" {
		return nil, errors.New("start NATS: a folder for its data must be given")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Name = cmp.Or(o.Name, "recompose")
	so := &server.Options{
		ServerName: o.Name, JetStream: true, StoreDir: o.StoreDir, SyncAlways: o.SyncAlways,
		NoSigs: true, DontListen: true, Username: o.User, Password: o.Password,
		DisableJetStreamBanner: true,
	}
	if err := listen(so, o); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	// A second server on the folder would destroy the files of the first. The lock ends with the process, also after
	// a crash.
	lock := flock.New(filepath.Join(o.StoreDir, "nats.lock"))
	if locked, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	} else if !locked {
		return nil, fmt.Errorf("start NATS: %s: another process uses this folder", lock.Path())
	}
	srv, err := server.NewServer(so)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start NATS: %w", err), lock.Close())
	}
	logger := &logger{log: o.Log.With("server", o.Name)}
	srv.SetLoggerV2(logger, false, false, false)
	srv.Start()
	s := &Server{srv: srv, lock: lock, opts: o}
	if !srv.ReadyForConnections(readyWithin) || !srv.JetStreamEnabled() {
		why := logger.firstFatal()
		if why == "" {
			why = fmt.Sprintf("not ready within %v", readyWithin)
		}
		return nil, errors.Join(fmt.Errorf("start NATS in %s: %s", o.StoreDir, why), s.Close())
	}
	return s, nil
}

// Check returns an error for options with which Start refuses to run: half of the credentials, and an address that is
// none, or that other machines can reach without TLS and credentials.
func (o Options) Check() error {
	if (o.User == "") != (o.Password == "") {
		return errors.New("start NATS: NATS_USER and NATS_PASSWORD must be given together")
	}
	if o.Listen == "" {
		return nil
	}
	host, _, err := o.address()
	if err != nil {
		return err
	}
	if !loopback(host) && (!o.tls() || o.User == "") {
		return fmt.Errorf("start NATS: --nats-listen %s can be reached from other machines, which could then wipe desktops: "+
			"give it TLS (NATS_CERT and NATS_KEY) and credentials (NATS_USER and NATS_PASSWORD), or listen on 127.0.0.1", o.Listen)
	}
	return nil
}

func (o Options) tls() bool { return o.CertFile != "" || o.KeyFile != "" }

// address divides the address for clients.
func (o Options) address() (host string, port int, err error) {
	host, text, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return "", 0, fmt.Errorf("start NATS: --nats-listen must be host:port like 127.0.0.1:4222: %w", err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("start NATS: --nats-listen %s: the port must be a number from 0 to 65535", o.Listen)
	}
	return host, int(n), nil
}

// listen sets the address for clients.
func listen(so *server.Options, o Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	if o.tls() {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return fmt.Errorf("start NATS: read NATS_CERT and NATS_KEY: %w", err)
		}
		so.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		so.TLSTimeout = 5
	}
	if o.Listen == "" {
		return nil
	}
	host, port, err := o.address()
	if err != nil {
		return err
	}
	// Tested here, because the server itself does not return the error.
	l, err := net.Listen("tcp", o.Listen) //nolint:noctx // closed at once, so there is nothing to cancel
	if err != nil {
		return fmt.Errorf("start NATS: cannot listen on %s: %w; choose another port with --nats-listen, or stop the process that uses this one", o.Listen, err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	so.DontListen, so.Host, so.Port = false, host, port
	if port == 0 {
		so.Port = server.RANDOM_PORT
	}
	return nil
}

// loopback reports whether a host to listen on is this machine's own. An empty host means every interface.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// Connect makes a connection within the process. It needs no port and no credentials, and reconnects without limit
// until it is closed. Close it before the server.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := []nats.Option{nats.InProcessServer(s.srv), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond)}
	if s.opts.User != "" {
		all = append(all, nats.UserInfo(s.opts.User, s.opts.Password))
	}
	nc, err := nats.Connect("", append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the NATS server of this process: %w", err)
	}
	return nc, nil
}

// ClientURL is the URL for clients, or "" if the server has no port.
func (s *Server) ClientURL() string {
	if s.opts.Listen == "" {
		return ""
	}
	return s.srv.ClientURL()
}

// Close stops the server and waits until it has written everything. It may be repeated.
func (s *Server) Close() error {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("stop NATS: %w", err)
	}
	return nil
}
