package main

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
)

// listsDesktops runs the commands that list, on a place with these desktops, of which the second runs another image.
func listsDesktops(t *testing.T, ids []string, list func(args ...string) ran) {
	t.Helper()
	r := list("desktops")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `^(EMULATOR|REAL) ?.*\n`, r.errOut)
	require.NotContains(t, r.out, "user00001", "users are not named unless asked for")
	lines := strings.Split(r.out, "\n")
	require.Regexp(t, `^DESKTOP +NAME +STATUS +LOGIN +IMAGE +ASSIGNED +TAGS$`, lines[0])
	require.Regexp(t, `^`+ids[0]+` +WKS-00001 +ACTIVE +REGISTERED +gold-windows-10 +yes +ring=a *$`, lines[1])
	require.Contains(t, r.out, fmt.Sprintf("\n\n%d desktops\n%6d  %s  gold-windows-10\n     1  other-image  gold-windows-10\n", len(ids), len(ids)-1,
		emulator.GoldImageID))

	r = list("desktops", "--tag", "ring=a", "--status", "active", "--ids")
	require.Equal(t, []any{exitDone, ids[0] + "\n"}, []any{r.code, r.out}, r.errOut)
	file := filepath.Join(t.TempDir(), "fleet.txt")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(ids[1:], "\n")), 0o600))
	r = list("desktops", "--desktop-ids-file", file, "--count-by", "image", "--json")
	require.Equal(t, []any{exitDone, fmt.Sprintf("{\"value\":%q,\"more\":\"gold-windows-10\",\"count\":%d}\n{\"value\":\"other-image\",\"more\":\"gold-windows-10\",\"count\":1}\n",
		emulator.GoldImageID, len(ids)-2)}, []any{r.code, r.out}, "over 100 ids are several commands: "+r.errOut)
	r = list("desktops", "--image-id", "other-image", "--csv", "--users")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `(?s)^desktop_id,computer_name,status,.*,users\n`+ids[1]+`,WKS-00002,ACTIVE,[^\n]*,user00002\n$`, r.out)
	r = list("desktops", "--desktop-ids", ids[2]+",no-such-desktop", "--json")
	require.Equal(t, exitFailed, r.code)
	var row events.DesktopRow
	require.NoError(t, json.Unmarshal([]byte(r.out), &row))
	require.Equal(t, ids[2], row.DesktopID)
	require.NotNil(t, row.RootVolume, "JSON has every field")
	require.Contains(t, r.errOut, "desktop no-such-desktop: the service does not know it")
	r = list("desktops", "--user-attached=false")
	require.Equal(t, []any{exitDone, "0 desktops\n"}, []any{r.code, r.out}, r.errOut)

	require.NotContains(t, r.errOut, "--status")
	r = list("desktops", "--status", "ACTVE")
	require.Equal(t, []any{exitDone, "0 desktops\n"}, []any{r.code, r.out}, r.errOut)
	require.Contains(t, r.errOut, "--status: ACTVE is no known status (ACTIVE, SHUTOFF, HIBERNATED, ERROR); "+
		"--count-by status in its place lists those that desktops have\n")
	r = list("desktops", "--status", "error")
	require.Equal(t, []any{exitDone, "0 desktops\n"}, []any{r.code, r.out}, r.errOut)
	require.NotContains(t, r.errOut, "--status")

	r = list("images")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `(?s)^IMAGE +NAME +TYPE +OS +VERSION +CREATED\n`+emulator.LinuxGoldImageID+` +gold-uos-20 +gold +Linux .*\n\n3 images\n$`, r.out)
	r = list("images", "--name", "gold-windows-10", "--type", "gold", "--ids")
	require.Equal(t, []any{exitDone, emulator.GoldImageID + "\n"}, []any{r.code, r.out}, r.errOut)
	r = list("images", "--type", "private", "--csv")
	require.Equal(t, []any{exitDone, "id,name,image_type,os_type,os_version,architecture,min_ram,min_disk,created_at\n"}, []any{r.code, r.out}, r.errOut)
}

// listedFleet is a seed with n desktops for listsDesktops.
func listedFleet(t *testing.T, n int) []byte {
	t.Helper()
	made, err := emulator.New(emulator.Options{Desktops: n})
	require.NoError(t, err)
	state := made.State()
	require.NoError(t, made.Close())
	state.Desktops[0].Tags = []emulator.Tag{{Key: "ring", Value: "a"}}
	state.Desktops[1].Metadata["metering.image_id"] = "other-image"
	seed, err := json.Marshal(state)
	require.NoError(t, err)
	return seed
}

func TestDesktopsAndImagesOnNATS(t *testing.T) {
	t.Parallel()
	world, err := emulator.New(emulator.Options{Seed: listedFleet(t, 130)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, world.Close()) })
	site := httptest.NewServer(world)
	t.Cleanup(site.Close)
	natsAt := freePort(t)
	up := start(t, []string{
		"HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey, "HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey,
		"HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID, "RECOMPOSE_WORKSPACE_ENDPOINT=" + site.URL,
	}, binary(t, "recompose"), "up", "--data", filepath.Join(t.TempDir(), "data"), "--nats-listen", natsAt)
	up.prints(t, "Ctrl-C ends it")
	listsDesktops(t, world.DesktopIDs(), func(args ...string) ran {
		return program(t, "", append(args, "--nats-url", "nats://"+natsAt)...)
	})
}

func TestDesktopsAndImagesOnAWS(t *testing.T) {
	t.Parallel()
	s := deployOn(t, emulator.Options{Seed: listedFleet(t, 130)}, nil)
	listsDesktops(t, s.world.DesktopIDs(), func(args ...string) ran { return s.run(t, append(args, "--aws", "recompose")...) })
	require.Empty(t, s.followers(), "it leaves nothing behind")
}

func TestDesktopsAndImagesThatCannotBeSent(t *testing.T) {
	t.Parallel()
	require.NotContains(t, program(t, "", "desktops", "--help").out, "at most 100", "it sends several commands")
	for want, args := range map[string][]string{
		"--count-by: must be one of image, login, os, status": {"desktops", "--count-by", "colour"},
		"--ids and --csv: give one of them":                   {"desktops", "--ids", "--csv"},
		"--tag: ":                                             {"desktops", "--tag", strings.Repeat("k", 129) + "=v"},
		"--desktop-ids[1]: must be":                           {"desktops", "--desktop-ids", "a,b c"},
		"--name: must have at most 255":                       {"images", "--name", strings.Repeat("n", 256)},
		"--type: must be gold or private; the service lists no others; got \"market\"": {"images", "--type", "market"},
		"must be key=value": {"desktops", "--tag", "ring"},
	} {
		r := program(t, "", args...)
		require.Equal(t, exitUsage, r.code, r.errOut)
		require.Contains(t, r.errOut, want)
	}
}
