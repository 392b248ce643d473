//go:build e2e

package aws_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/safety"
	"recompose/shared/testkit/chaostest"
)

const secretARN = "arn:aws:secretsmanager:" + region + ":000000000000:secret:recompose-AbCdEf"

// secrets is Secrets Manager with one secret: GetSecretValue, without authentication.
type secrets struct {
	*httptest.Server
	mu    sync.Mutex
	text  string
	reads int
}

func startSecrets(t *testing.T, sk string) *secrets {
	t.Helper()
	s := &secrets{}
	s.put(sk)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			SecretID string `json:"SecretId"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" || in.SecretID != secretARN {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type": "ResourceNotFoundException"}`))
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reads++
		_ = json.NewEncoder(w).Encode(map[string]string{"ARN": secretARN, "Name": "recompose", "SecretString": s.text})
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *secrets) put(sk string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = fmt.Sprintf(`{"AK": %q, "SK": %q}`, emulator.DefaultAccessKey, sk)
}

func (s *secrets) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// refusals returns the calls that the service refused for their signature.
func (c *cloud) refusals() (all []emulator.Request) {
	return slices.DeleteFunc(c.service.Requests(0, 0), func(r emulator.Request) bool { return r.Status != http.StatusUnauthorized })
}

// The service refuses the key in the secret: no function calls the service any more, and the messages wait as delayed
// ones, which does not count as deliveries. When the secret has the right key, a probe by one sandbox ends the stop,
// and everything is done, once. The key never came near its lock.
func TestARefusedKeyStopsAllFunctionsUntilTheSecretHasANewOne(t *testing.T) {
	t.Parallel()
	vault := startSecrets(t, "not-the-key-0001")
	c := startCloud(t, settings{desktops: 8, visibility: 30 * time.Second, more: []string{
		"RECOMPOSE_SECRET_ARN=" + secretARN, "AWS_ENDPOINT_URL_SECRETS_MANAGER=" + vault.URL, "HUAWEICLOUD_SDK_AK=", "HUAWEICLOUD_SDK_SK=",
	}})
	ids := c.service.DesktopIDs()
	image, kind := chaostest.OtherImage(t, c.service.State())
	commands := []events.Envelope{ // one for each function; watchjob reacts to the first two
		c.capture(t, "captured", ids[0], ids[1:4]),
		chaostest.Command(t, "rebuilt", events.TypeRebuild, events.Rebuild{DesktopIDs: ids[4:], ImageID: image, ImageType: kind}),
		chaostest.Command(t, "checked", events.TypeCheckImages, events.CheckImages{DesktopIDs: ids}),
		chaostest.Command(t, "described", events.TypeGetDesktop, events.GetDesktop{DesktopID: ids[0]}),
	}
	for _, command := range commands {
		c.publish(t, command)
		c.publish(t, command)
	}
	c.poll(t, &trouble{}, 2)
	require.Eventually(t, func() bool {
		for _, name := range []string{"DesktopToImage", "Rebuild", "CheckImages", "GetDesktop"} {
			if c.count(t, name+"Queue", sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed) != "2" {
				return false
			}
		}
		return true
	}, 30*time.Second, 100*time.Millisecond, "all messages are held")
	require.Len(t, c.refusals(), 1, "eight sandboxes have started, and one has used the key")
	require.Len(t, c.service.Requests(0, 0), 1)
	refusal, err := safety.ReadRefusal(t.Context(), openLedger(t, c.db).Values())
	require.NoError(t, err)
	require.NotNil(t, refusal)
	reads := vault.count()

	vault.put(emulator.DefaultSecretKey)
	published := c.follow(t, 3*time.Minute, commands...)
	t.Logf("%d calls were refused; the secret was read %d times, %d of them when it had the key", len(c.refusals()), vault.count(), vault.count()-reads)
	require.LessOrEqual(t, len(c.refusals()), 2)
	for _, e := range published {
		require.NotEqual(t, events.TypeCommandFailed, e.Type, string(e.Data))
	}
	require.Equal(t, 3+4, verified(t, published), "both fleets")
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage))
	require.Equal(t, 2, c.accepted(emulator.CallRebuild))
	for _, name := range names {
		require.Empty(t, c.dead(t, name))
	}
}
