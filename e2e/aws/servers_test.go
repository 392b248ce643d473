//go:build e2e

// Package aws_test runs the parts for AWS against independent servers of its protocols. `make e2e-aws` fetches the
// servers and runs these tests.
package aws_test

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"
)

const region = "eu-central-1"

// server is a program of servers.mjs.
type server struct {
	url   string
	cmd   *exec.Cmd
	stop  io.Closer // closing it ends the server
	ended <-chan struct{}
}

// startServer starts a server and waits for its address. The server ends with the test, or when its input ends.
func startServer(t *testing.T, args ...string) *server {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "node", append([]string{"servers.mjs"}, args...)...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	faults := &output{}
	cmd.Stderr = faults
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s := &server{url: strings.TrimSpace(line), cmd: cmd, stop: in, ended: ended}
	t.Cleanup(func() {
		select {
		case <-ended:
			if s.stop != nil {
				t.Errorf("the server %v ended by itself: %s", args, faults.tail())
			}
		default:
		}
		s.close(t)
	})
	if err != nil {
		_ = in.Close()
		<-ended
		require.NoError(t, err, faults.tail())
	}
	return s
}

// close ends the server; it may be repeated.
func (s *server) close(t *testing.T) {
	t.Helper()
	if s.stop == nil {
		return
	}
	_ = s.stop.Close()
	s.stop = nil
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		t.Error("the server does not end")
	}
}

func credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
	})
}
