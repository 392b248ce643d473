//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store/dynamostore"
	"recompose/shared/testkit/awstest"
	"recompose/shared/workspace"
)

// stack is a deployment on AWS with its functions, in this process.
type stack struct {
	*awstest.Server
	world *emulator.Server
	store *dynamoledger.Store
	url   string // of the emulator
}

// operators is what people have set.
func (s *stack) operators() *safety.Operators {
	return &safety.Operators{Store: s.store.Values(), Older: true}
}

const ledgerTable = "recompose-ledger"

// deploy deploys a stack. change may make its functions others.
func deploy(t *testing.T, desktops int, change func(*queue.Function)) *stack {
	t.Helper()
	return deployOn(t, emulator.Options{Desktops: desktops, Speed: 2000}, change)
}

// deployOn is deploy with a service that has these options.
func deployOn(t *testing.T, o emulator.Options, change func(*queue.Function)) *stack {
	t.Helper()
	world, err := emulator.New(o)
	require.NoError(t, err)
	service := httptest.NewServer(world)
	s := &stack{Server: awstest.New(), world: world, url: service.URL}
	api, err := workspace.New(workspace.Options{Endpoint: service.URL, ProjectID: emulator.DefaultProjectID,
		Auth: workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey}, ReadsPerMinute: 1e6, WritesPerMinute: 1e6, SignatureWindow: config.SignatureWindow})
	require.NoError(t, err)
	s.store, err = dynamoledger.New(dynamoledger.Options{Options: dynamostore.Options{Config: s.Config(), Table: ledgerTable}})
	require.NoError(t, err)
	worksOn(t, s.store, events.Service{Kind: events.ServiceEmulator, Project: emulator.DefaultProjectID})

	outputs := map[string]string{"TopicArn": awstest.TopicARN, "TableName": ledgerTable, "UnroutedQueueUrl": s.QueueURL("unrouted")}
	ctx, cancel := context.WithCancel(context.Background())
	var mappings sync.WaitGroup
	queues, topic := awsqueue.Clients(s.Config())
	c := config.Default()
	c.Pace = 1000
	for _, f := range functions.New(c, api, once.Options{
		Store: s.store, Owner: "test", Safety: safety.New(safety.Options{
			Operators: s.operators(), Service: events.Service{Kind: events.ServiceEmulator, Project: emulator.DefaultProjectID},
		}),
	}) {
		if change != nil {
			change(&f)
		}
		s.CreateQueue(f.Name, time.Minute)
		s.CreateQueue(f.Name+"-dead", time.Minute)
		s.Subscribe(f.Name, true, slices.Concat(f.Types, f.Reacts)...)
		outputs[f.Name+"QueueUrl"], outputs[f.Name+"DeadLetterQueueUrl"] = s.QueueURL(f.Name), s.QueueURL(f.Name+"-dead")
		h, err := awsqueue.New(f, awsqueue.Options{QueueURL: s.QueueURL(f.Name), DeadLetterQueueURL: s.QueueURL(f.Name + "-dead"),
			TopicARN: awstest.TopicARN, SQS: queues, SNS: topic, Concurrency: c.Concurrency, Redeliver: []time.Duration{time.Nanosecond}})
		require.NoError(t, err)
		mapping := awstest.Mapping{Server: s.Server, Queue: f.Name, Invoke: func(ctx context.Context, event []byte) ([]byte, error) {
			var batch lambda.SQSEvent
			if err := json.Unmarshal(event, &batch); err != nil {
				return nil, err
			}
			answer, _ := h.Handle(ctx, batch)
			return json.Marshal(answer)
		}}
		mappings.Go(func() { mapping.Run(ctx) })
	}
	s.SetStack("recompose", awstest.Stack{Outputs: outputs, Parameters: map[string]string{
		"WorkspaceRegion": "", "WorkspaceEndpoint": service.URL, "ProjectId": emulator.DefaultProjectID,
	}})
	t.Cleanup(func() { cancel(); mappings.Wait(); s.Close(); service.Close(); require.NoError(t, world.Close()) })
	return s
}

// fileOf is a file with these ids.
func fileOf(t *testing.T, ids []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.txt")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(ids, "\n")), 0o600))
	return path
}

// person is the environment of a user of the stack.
func (s *stack) person(t *testing.T) []string {
	t.Helper()
	return []string{"AWS_ENDPOINT_URL=" + s.URL, "AWS_REGION=" + awstest.Region, "AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_EC2_METADATA_DISABLED=true", "HOME=" + t.TempDir()}
}

func (s *stack) run(t *testing.T, args ...string) ran {
	t.Helper()
	return finish(t, s.person(t), args...)
}

// followers are the queues that follow the topic.
func (s *stack) followers() (names []string) {
	for _, q := range s.Queues() {
		if strings.HasPrefix(q, awsqueue.FollowerPrefix) {
			names = append(names, q)
		}
	}
	return names
}

func TestOneCommandOnAWS(t *testing.T) {
	t.Parallel()
	s := deploy(t, 4, nil)
	ids := s.world.DesktopIDs()
	send := func() ran {
		return s.run(t, "send", "desktoptoimage", "--aws", "recompose", "--id", "one", "--desktop-id", ids[0], "--image-name", "golden",
			"--execute-sysprep=true", "--then-rebuild", fileOf(t, ids[1:]), "--wait", "--timeout", "80s")
	}
	r := send()
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.True(t, strings.HasPrefix(r.out, "EMULATOR\ndesktoptoimage command one sent\n"), r.out)
	require.Contains(t, r.out, "desktops  3 rebuilt, 3 verified, 0 failed, 0 skipped\nsucceeded\n")
	require.Empty(t, s.followers(), "it leaves nothing behind")
	require.Len(t, acceptedWrites(t, s.url), 2)

	r = send()
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "3 rebuilt, 3 verified", "its events are republished")
	require.Len(t, acceptedWrites(t, s.url), 2, "and nothing is repeated")
}

func TestSendToATopicOrAQueue(t *testing.T) {
	t.Parallel()
	s := deploy(t, 2, nil)
	id := s.world.DesktopIDs()[0]
	r := s.run(t, "send", "getdesktop", "--desktop-id", id, "--aws", awstest.TopicARN, "--json", "--id", "a")
	require.Equal(t, exitDone, r.code, r.errOut)
	digest := events.Digest(events.GetDesktop{DesktopID: id})
	require.JSONEq(t, `{"id":"a","correlationid":"a","digest":"`+digest+`","topic":"`+awstest.TopicARN+`"}`, r.out)
	require.Contains(t, r.errOut, "REAL", "the service behind a topic is not known")
	r = s.run(t, "send", "getdesktop", "--desktop-id", id, "--aws", s.QueueURL("getdesktop"), "--json", "--id", "b")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.JSONEq(t, `{"id":"b","correlationid":"b","digest":"`+digest+`","queue":"`+s.QueueURL("getdesktop")+`"}`, r.out)
	eventually(t, func() bool { return len(s.published(events.TypeDesktopDescribed)) == 2 }, "both are answered")
	r = s.run(t, "send", "getdesktop", "--desktop-id", id, "--aws", awstest.TopicARN, "--wait", "--timeout", "60s")
	require.Equal(t, exitDone, r.code, r.out+r.errOut)

	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a write to an unknown service needs confirmation": {[]string{"rebuild", "--desktop-ids", id, "--image-id", "i", "--image-type", "private", "--aws", awstest.TopicARN}, exitUsage, "--yes"},
		"no topic to follow":       {[]string{"getdesktop", "--desktop-id", id, "--aws", s.QueueURL("getdesktop"), "--wait"}, exitUsage, "the name of the stack"},
		"two places":               {[]string{"getdesktop", "--desktop-id", id, "--aws", "recompose", "--nats-url", "nats://127.0.0.1:1"}, exitUsage, "give one of them"},
		"no such stack":            {[]string{"getdesktop", "--desktop-id", id, "--aws", "nosuch"}, exitUsage, `there is no stack "nosuch" in us-east-1`},
		"no such queue":            {[]string{"getdesktop", "--desktop-id", id, "--aws", s.QueueURL("nosuch")}, exitUsage, "was not sent"},
		"an ARN of something else": {[]string{"getdesktop", "--desktop-id", id, "--aws", "arn:aws:s3:::bucket"}, exitUsage, "must be the name of a stack"},
	} {
		r := s.run(t, append([]string{"send"}, c.args...)...)
		require.Equal(t, c.code, r.code, "%s: %s%s", name, r.out, r.errOut)
		require.Contains(t, r.errOut, c.want, name)
	}
	r = finish(t, []string{"AWS_ENDPOINT_URL=" + s.URL, "AWS_EC2_METADATA_DISABLED=true", "HOME=" + t.TempDir()}, "send", "getdesktop", "--desktop-id", id, "--aws", "recompose")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "AWS_REGION")
	r = finish(t, []string{"AWS_ENDPOINT_URL=" + s.URL, "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=us-east-1", "HOME=" + t.TempDir()}, "freeze", "--reason", "r", "--aws", "recompose")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "no credentials for AWS")
	require.Len(t, acceptedWrites(t, s.url), 0)
}

func TestAStackOfARealService(t *testing.T) {
	t.Parallel()
	s := deploy(t, 1, nil)
	outputs := map[string]string{"TopicArn": awstest.TopicARN, "TableName": "real"}
	for _, name := range functions.Names() {
		outputs[name+"QueueUrl"], outputs[name+"DeadLetterQueueUrl"] = s.QueueURL(name), s.QueueURL(name+"-dead")
	}
	parameters := map[string]string{"WorkspaceRegion": "ap-southeast-3", "ProjectId": "p1"}
	s.SetStack("real", awstest.Stack{Outputs: outputs, Parameters: parameters})
	rebuild := func() ran {
		return s.run(t, "send", "rebuild", "--aws", "real", "--desktop-ids", "d1,d2", "--image-id", "i", "--image-type", "private")
	}
	r := rebuild()
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, "REAL (no worker has recorded yet which service it works on, so it counts as a real service)\n", r.out)
	require.Contains(t, r.errOut, "This rebuilds 2 desktops from image i: the data on their system disks is lost")
	require.Empty(t, s.Published())

	accept := func() ran { return s.run(t, "setup", "--aws", "real", "--accept-service") }
	r = accept()
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "now       REAL https://workspace.ap-southeast-3.myhuaweicloud.com, project p1\n")
	r = rebuild()
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, "REAL https://workspace.ap-southeast-3.myhuaweicloud.com p1\n", r.out)
	parameters["WorkspaceRegion"], parameters["WorkspaceEndpoint"] = "", s.url // an emulator, which no function has recorded
	s.SetStack("real", awstest.Stack{Outputs: outputs, Parameters: parameters})
	require.Equal(t, "REAL https://workspace.ap-southeast-3.myhuaweicloud.com p1\n", rebuild().out, "the record counts")

	require.Equal(t, exitDone, accept().code)
	require.Equal(t, exitDone, accept().code)
	published := s.published(events.TypeServiceAccepted)
	require.Len(t, published, 3)
	require.Equal(t, published[1].Body, published[2].Body, "published twice, it is the same event")
	var last events.Envelope
	require.NoError(t, json.Unmarshal([]byte(published[2].Body), &last))
	var accepted events.ServiceAccepted
	require.NoError(t, json.Unmarshal(last.Data, &accepted))
	require.Equal(t, events.Service{Kind: events.ServiceEmulator, Project: "p1"}, accepted.Service)
	require.Equal(t, &events.Service{Kind: events.ServiceReal, Host: "workspace.ap-southeast-3.myhuaweicloud.com", Project: "p1"}, accepted.Before)
	require.True(t, strings.HasPrefix(rebuild().out, "EMULATOR\n"))
	r = s.run(t, "setup", "--aws", "real")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "--accept-service")

	delete(outputs, "rebuildQueueUrl")
	s.SetStack("old", awstest.Stack{Outputs: outputs})
	r = s.run(t, "freeze", "--reason", "r", "--aws", "old")
	require.Equal(t, exitDone, r.code, "a program of another version can freeze, too: %s", r.errOut)
	r = s.run(t, "dead", "list", "--aws", "old")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.errOut, "the stack has no queues of a function: it is of another version than this program")
	s.SetStack("other", awstest.Stack{})
	r = s.run(t, "freeze", "--reason", "r", "--aws", "other")
	require.Equal(t, exitUsage, r.code, "nothing was done")
	require.Contains(t, r.errOut, "not a recompose stack, or not deployed yet")
}

// published returns the events of a type that the topic received.
func (s *stack) published(typ string) (found []awstest.Message) {
	for _, m := range s.Published() {
		if m.Attributes["type"] == typ {
			found = append(found, m)
		}
	}
	return found
}

func TestCtrlCWhileFollowingATopic(t *testing.T) {
	t.Parallel()
	s := deploy(t, 1, func(f *queue.Function) {
		f.Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) {
			return nil, queue.RetryAfter(time.Hour, nil)
		}
	})
	p := start(t, s.person(t), binary(t, "recompose"), "send", "getdesktop", "--desktop-id", "d", "--aws", "recompose", "--id", "one", "--wait")
	p.prints(t, "command one sent")
	require.Len(t, s.followers(), 1)
	require.Equal(t, exitUnknown, p.interrupt(t))
	require.Contains(t, p.err.String(), " send getdesktop --desktop-id d --aws recompose --id one --wait  # the same command")
	require.Empty(t, s.followers())
}

func TestFreezeOnAWS(t *testing.T) {
	t.Parallel()
	s := deploy(t, 2, nil)
	r := s.run(t, "freeze", "--aws", "recompose", "--reason", "a test")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `^in        stack recompose in us-east-1\nbefore    not frozen\nnow       frozen since .*: a test\n`, r.out)
	require.Contains(t, r.out, "thaw --aws recompose")
	frozen, err := s.operators().Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, "a test", frozen.Reason)

	ids := s.world.DesktopIDs()
	r = s.run(t, "send", "desktoptoimage", "--aws", "recompose", "--desktop-id", ids[0], "--image-name", "golden", "--execute-sysprep=true", "--id", "one")
	require.Equal(t, exitDone, r.code, r.errOut)
	eventually(t, func() bool {
		ms := s.Messages("desktoptoimage")
		return len(ms) == 1 && ms[0].Delay > 0
	}, "it waits as a delayed message")
	r = s.run(t, "send", "desktoptoimage", "--aws", "recompose", "--desktop-id", ids[0], "--image-name", "golden-2", "--execute-sysprep=true", "--id", "two", "--wait", "--timeout", "4s")
	require.Equal(t, exitUnknown, r.code)
	require.Regexp(t, `no event after 4s \(writes are frozen since \d\d:\d\d by \S+@\S+: a test\)\n`, r.errOut)
	require.Empty(t, acceptedWrites(t, s.url))
	r = s.run(t, "thaw", "--aws", "recompose")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `before    frozen since .*: a test\nnow       not frozen\n$`, r.out)

	r = s.run(t, "thaw", "--aws", awstest.TopicARN)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "the name of the stack")
}

func TestDeadLettersOnAWS(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	cured := false
	s := deploy(t, 2, func(f *queue.Function) {
		do := f.Handle
		f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			mu.Lock()
			defer mu.Unlock()
			if !cured {
				return nil, queue.Permanent(errors.New("ill"))
			}
			return do(ctx, c)
		}
	})
	ids := s.world.DesktopIDs()
	require.Contains(t, s.run(t, "dead", "list", "--aws", "recompose").out, "0 dead letters\n")
	require.Equal(t, exitDone, s.run(t, "send", "getdesktop", "--aws", "recompose", "--desktop-id", ids[0], "--id", "read").code)
	require.Equal(t, exitDone, s.run(t, "send", "desktoptoimage", "--aws", "recompose", "--desktop-id", ids[0], "--image-name", "golden", "--execute-sysprep=true", "--id", "write").code)
	require.NoError(t, s.Send("watchjob-dead", "x", nil))
	eventually(t, func() bool {
		return len(s.Messages("getdesktop-dead")) == 1 && len(s.Messages("desktoptoimage-dead")) == 1
	}, "both are given up")

	r := s.run(t, "dead", "list", "--aws", "recompose")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "3 dead letters\n")
	require.Contains(t, r.out, "permanent         ill\n")
	require.Contains(t, r.out, "undelivered")
	listed := lines[deadJSON](t, s.run(t, "dead", "list", "--aws", "recompose", "--function", "desktoptoimage", "--json").out)
	require.Len(t, listed, 1)
	require.Equal(t, &events.CommandRef{ID: "write", Type: events.TypeDesktopToImage, Source: sendSource}, listed[0].Command)
	require.NotEmpty(t, listed[0].MessageID)
	r = s.run(t, "dead", "show", listed[0].ID[:12], "--aws", "recompose")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "to queue desktoptoimage; here it is message ")
	require.Contains(t, r.out, `"image_name": "golden"`)

	mu.Lock()
	cured = true
	mu.Unlock()
	r = s.run(t, "dead", "redrive", "--function", "desktoptoimage", "--aws", "recompose", "--dry-run")
	require.Contains(t, r.out, "would be redriven")
	require.Len(t, s.Messages("desktoptoimage-dead"), 1)
	r = s.run(t, "dead", "redrive", "--function", "desktoptoimage", "--aws", "recompose")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "EMULATOR\n")
	require.Contains(t, r.out, "1 dead letter redriven\n")
	eventually(t, func() bool { return len(acceptedWrites(t, s.url)) == 1 }, "it is done")
	require.Empty(t, s.Messages("desktoptoimage-dead"))

	reads := lines[deadJSON](t, s.run(t, "dead", "list", "--aws", "recompose", "--function", "getdesktop", "--json").out)
	r = s.run(t, "dead", "redrive", reads[0].ID, "--as-new", "--aws", "recompose")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Empty(t, s.Messages("getdesktop-dead"))
	eventually(t, func() bool { return len(s.published(events.TypeDesktopDescribed)) == 1 }, "the new one is done")

	r = s.run(t, "dead", "drop", "--class", "undelivered", "--aws", "recompose")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "1 dead letter dropped\n")
	require.Empty(t, s.Messages("watchjob-dead"))
	r = s.run(t, "dead", "list", "--aws", awstest.TopicARN)
	require.Equal(t, exitUsage, r.code)
}

func TestALossOnAWSIsAcceptedByAnOperator(t *testing.T) {
	t.Parallel()
	s := deploy(t, 2, nil)
	ids := s.world.DesktopIDs()
	fine := s.run(t, "setup", "--aws", "recompose", "--accept-ledger-loss")
	require.Equal(t, exitDone, fine.code, fine.errOut)
	require.Contains(t, fine.out, "nothing to accept")
	send := func(id string, wait string) ran {
		return s.run(t, "send", "desktoptoimage", "--aws", "recompose", "--id", id, "--desktop-id", ids[0], "--image-name", "golden-"+id,
			"--execute-sysprep=true", "--wait", "--timeout", wait, "--yes")
	}
	require.Equal(t, exitDone, send("one", "80s").code)
	s.Empty(ledgerTable)
	require.Equal(t, exitUnknown, send("two", "1s").code, "it waits")
	require.Len(t, s.world.State().Jobs, 1, "nothing was written")
	accepted := s.run(t, "setup", "--aws", "recompose", "--accept-ledger-loss")
	require.Equal(t, exitDone, accepted.code, accepted.errOut)
	require.Contains(t, accepted.out, "accepted  table recompose-ledger: its epoch is not the one")
	published := s.Published()
	last := published[len(published)-1]
	require.Equal(t, events.TypeLedgerAccepted, last.Attributes["type"])
	require.Contains(t, last.Body, `"reason":"table recompose-ledger: its epoch is not the one`)
	require.NoError(t, s.store.Fit(t.Context(), ""))
	frozen, err := s.operators().Frozen(t.Context())
	require.NoError(t, err)
	require.NotNil(t, frozen, "a freeze may be lost with the table")
	recorded, _, err := service.Read(t.Context(), s.store.Values())
	require.NoError(t, err)
	require.Equal(t, emulator.DefaultProjectID, recorded.Project)
	require.Equal(t, exitUnknown, send("two", "1s").code, "it waits for thaw")
	require.Len(t, s.world.State().Jobs, 1)
	require.Equal(t, exitDone, s.run(t, "thaw", "--aws", "recompose").code)
	require.Equal(t, exitDone, send("two", "80s").code)
}
