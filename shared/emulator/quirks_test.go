package emulator

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// quirkCase describes the effect of a quirk, which is set for every call before the test's requests.
type quirkCase func(t *testing.T, b *bundle)

func onShownDesktop(check func(t *testing.T, d object)) quirkCase {
	return func(t *testing.T, b *bundle) {
		r := b.get(t, "desktops/"+b.ids[0])
		require.Equal(t, http.StatusOK, r.status)
		d, ok := r.body["desktop"].(object)
		require.True(t, ok, r.text)
		check(t, d)
	}
}

func instead(status int, check func(t *testing.T, r reply)) quirkCase {
	return func(t *testing.T, b *bundle) {
		for _, r := range []reply{b.get(t, "images"), b.post(t, "desktops/rebuild", rebuildOf(b.ids[0]))} {
			require.Equal(t, status, r.status)
			check(t, r)
		}
		require.Empty(t, b.State().Jobs)
	}
}

// onKeys is for the metadata, which the server of the test cases does not serve.
func onKeys(check func(t *testing.T, r reply)) quirkCase {
	return func(t *testing.T, b *bundle) {
		agency := setup(t, Options{Agency: true})
		require.NoError(t, agency.SetFaults(b.Faults()))
		check(t, agency.securityKey(t, ""))
	}
}

func rebuildOf(ids ...string) object {
	return object{"desktop_ids": ids, "image_type": "gold", "image_id": OtherGoldImageID}
}

var quirkCases = map[string]quirkCase{
	quirkDesktopArray: func(t *testing.T, b *bundle) {
		list, ok := b.get(t, "desktops/"+b.ids[0]).body["desktop"].([]any)
		require.True(t, ok)
		require.Len(t, list, 1)
		require.Equal(t, b.ids[0], list[0].(object)["desktop_id"])
	},
	quirkAddressesArray: onShownDesktop(func(t *testing.T, d object) {
		require.Equal(t, "fixed", d["addresses"].([]any)[0].(object)["OS-EXT-IPS:type"])
	}),
	quirkStatusLower:    onShownDesktop(func(t *testing.T, d object) { require.Equal(t, "active", d["status"]) }),
	quirkStatusEmpty:    onShownDesktop(func(t *testing.T, d object) { require.Empty(t, d["status"]) }),
	quirkTaskStatusNull: onShownDesktop(func(t *testing.T, d object) { require.Contains(t, d, "task_status"); require.Nil(t, d["task_status"]) }),
	quirkProcessNull: func(t *testing.T, b *bundle) {
		b.startRebuild(t, OtherGoldImageID, b.ids[0])
		b.clock.Add(time.Minute)
		require.Contains(t, b.get(t, "desktops/"+b.ids[0]).text, `"process":null`)
	},
	quirkNoSecurityGroups: onShownDesktop(func(t *testing.T, d object) { require.NotContains(t, d, "security_groups") }),
	quirkTimesNoZone: onShownDesktop(func(t *testing.T, d object) {
		require.Equal(t, "2026-01-10 06:57:47", d["created"])
		require.Equal(t, "2026-01-10 06:57:47", d["root_volume"].(object)["create_time"])
	}),
	quirkUnknownFields: func(t *testing.T, b *bundle) {
		require.Contains(t, b.get(t, "desktops/"+b.ids[0]).body, "x_new_field")
		require.Contains(t, b.post(t, "desktops/rebuild", rebuildOf(b.ids[0])).body, "x_new_field")
	},
	quirkSATAVolume: onShownDesktop(func(t *testing.T, d object) {
		require.Equal(t, "SATA", d["root_volume"].(object)["type"])
		require.Equal(t, "SATA", d["data_volumes"].([]any)[0].(object)["type"])
	}),
	quirkMetadataNumber: onShownDesktop(func(t *testing.T, d object) { require.InDelta(t, 64, d["metadata"].(object)["os_bit"], 0) }),
	quirkRebuildError: func(t *testing.T, b *bundle) {
		r := b.post(t, "desktops/rebuild", rebuildOf(b.ids[0]))
		require.Equal(t, http.StatusOK, r.status)
		require.Equal(t, "WKS.00010032", r.code())
		require.NotContains(t, r.body, "job_id")
		require.Empty(t, b.State().Jobs)
	},
	quirkRebuildBoth: func(t *testing.T, b *bundle) {
		r := b.post(t, "desktops/rebuild", rebuildOf(b.ids[0]))
		require.Equal(t, http.StatusOK, r.status)
		require.Equal(t, "WKS.00010032", r.code())
		require.Equal(t, b.State().Jobs[0].ID, r.body["job_id"])
	},
	quirkNoJobID: func(t *testing.T, b *bundle) {
		r := b.post(t, "desktops/desktop-to-image", object{"image_name": "x", "desktop_id": b.ids[0]})
		require.Equal(t, http.StatusOK, r.status)
		require.Equal(t, "{}", r.text)
		require.Len(t, b.State().Jobs, 1)
		require.Equal(t, "job", b.Requests(0, 0)[0].Effect)
	},
	quirkListUnfiltered: func(t *testing.T, b *bundle) {
		require.Len(t, b.listDesktops(t, "image_id=no-such-image"), len(b.ids))
	},
	quirkListFirstID: func(t *testing.T, b *bundle) {
		require.Equal(t, b.ids[:1], b.listDesktops(t, "desktop_id="+b.ids[0]+"&desktop_id="+b.ids[1]))
	},
	quirkListPagesCapped: func(t *testing.T, _ *bundle) {
		b := setup(t, Options{Desktops: 150})
		require.NoError(t, b.SetFaults([]Fault{{Call: CallListDesktops, Do: Do{Quirk: quirkListPagesCapped}}}))
		require.Len(t, b.listDesktops(t, "limit=500"), 100)
	},
	quirkListRandomOrder: func(t *testing.T, b *bundle) {
		require.ElementsMatch(t, b.ids, b.listDesktops(t, ""))
	},
	quirkListDeleted: func(t *testing.T, b *bundle) { require.Equal(t, b.ids[1:], b.listDesktops(t, "")) },
	quirkListTotalOfAll: func(t *testing.T, b *bundle) {
		require.Contains(t, b.get(t, "desktops/detail?image_id=no-such-image").text, fmt.Sprintf(`"total_count":%d`, len(b.ids)))
	},
	quirkListNoTotal: func(t *testing.T, b *bundle) {
		require.NotContains(t, b.get(t, "desktops/detail").text, "total_count")
	},
	quirkListPoolID: func(t *testing.T, _ *bundle) {
		st := generate(1)
		st.Desktops[0].PoolID = "pool-1"
		b := setup(t, Options{Seed: encode(t, st)})
		require.NotContains(t, b.get(t, "desktops/detail?pool_id=pool-0,pool-1").text, `"pool_id"`)
		require.NoError(t, b.SetFaults([]Fault{{Call: CallListDesktops, Do: Do{Quirk: quirkListPoolID}}}))
		require.Contains(t, b.get(t, "desktops/detail?pool_id=pool-0,pool-1").text, `"pool_id":"pool-1"`)
	},
	quirkNoEntry: func(t *testing.T, b *bundle) {
		require.JSONEq(t, `{"image_infos":[]}`, b.post(t, "desktops/check-images", object{"desktop_ids": b.ids}).text)
	},
	quirkNoImageID: func(t *testing.T, b *bundle) { require.Empty(t, b.runs(t, b.ids[0])) },
	quirkForeignID: func(t *testing.T, b *bundle) {
		r := b.post(t, "desktops/check-images", object{"desktop_ids": b.ids[:1]})
		require.NotContains(t, r.text, b.ids[0])
		require.Contains(t, r.text, GoldImageID)
	},
	quirkSubJobsEmpty: func(t *testing.T, b *bundle) {
		job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
		require.NoError(t, b.SetFaults(nil)) // the job itself stays hidden for a while
		require.Empty(t, b.subJobs(t, job))
		require.Equal(t, http.StatusNotFound, b.get(t, "workspace-jobs/"+job).status)
		b.clock.Add(time.Minute)
		require.Len(t, b.subJobs(t, job), 1)
		require.NoError(t, b.SetFaults([]Fault{{Call: CallListSubJobs, Do: Do{Quirk: quirkSubJobsEmpty}}}))
		require.Empty(t, b.subJobs(t, job))
		require.Equal(t, http.StatusOK, b.get(t, "workspace-jobs/"+job).status)
	},
	quirkEndWhileRunning: func(t *testing.T, b *bundle) {
		job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
		b.clock.Add(time.Minute)
		sub := b.subJobs(t, job)[0]
		require.Equal(t, "RUNNING", sub.Status)
		require.NotEmpty(t, sub.EndTime)
	},
	quirkParentComplete: func(t *testing.T, b *bundle) {
		job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
		require.Equal(t, "RUNNING", b.get(t, "workspace-jobs/"+job).body["status"])
		b.clock.Add(time.Hour)
		require.Equal(t, "COMPLETE", b.get(t, "workspace-jobs/"+job).body["status"])
	},
	quirkParentFail: func(t *testing.T, b *bundle) {
		job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
		b.clock.Add(time.Hour)
		require.Equal(t, "FAIL", b.get(t, "workspace-jobs/"+job).body["status"])
	},
	quirkJobTypeTypo: func(t *testing.T, b *bundle) {
		job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
		image := b.startImage(t, "x", b.ids[1])
		require.Equal(t, "rebuildDesktopss", b.subJobs(t, job)[0].JobType)
		require.Equal(t, "rebuildDesktopss", b.get(t, "workspace-jobs/"+job).body["job_type"])
		require.Equal(t, "desktopToImage", b.subJobs(t, image)[0].JobType)
	},
	quirkHistoryDeleted: func(t *testing.T, b *bundle) {
		job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
		require.NoError(t, b.SetFaults(nil))
		b.clock.Add(9 * time.Minute)
		require.Len(t, b.subJobs(t, job), 1)
		b.clock.Add(time.Minute)
		require.Empty(t, b.subJobs(t, job))
		require.NoError(t, b.SetFaults([]Fault{{Call: CallAny, Do: Do{Quirk: quirkHistoryDeleted}}}))
		require.Equal(t, http.StatusNotFound, b.get(t, "workspace-jobs/"+job).status)
	},
	quirkDesktopLag: func(t *testing.T, b *bundle) {
		job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
		b.clock.Add(14 * time.Minute)
		require.Equal(t, "SUCCESS", b.subJobs(t, job)[0].Status)
		require.Equal(t, GoldImageID, b.runs(t, b.ids[0]))
		b.clock.Add(time.Minute)
		require.Equal(t, OtherGoldImageID, b.runs(t, b.ids[0]))
	},
	quirkImageLag: func(t *testing.T, b *bundle) {
		b.startImage(t, "x", b.ids[0])
		b.clock.Add(24 * time.Minute)
		require.Empty(t, b.privateImages(t))
		b.clock.Add(time.Minute)
		require.Len(t, b.privateImages(t), 1)
	},
	quirkImageTaskStatus: func(t *testing.T, b *bundle) {
		b.startImage(t, "x", b.ids[0])
		b.clock.Add(time.Minute)
		require.Equal(t, "rebooting", b.desktop(t, b.ids[0]).TaskStatus)
	},
	quirkLateFailure: func(t *testing.T, b *bundle) {
		require.NoError(t, b.SetFaults([]Fault{{Call: CallRebuild, Do: Do{Job: JobFail, Quirk: quirkLateFailure}}}))
		b.startRebuild(t, OtherGoldImageID, b.ids[0])
		b.clock.Add(time.Hour)
		require.Equal(t, "ERROR", b.desktop(t, b.ids[0]).Status)
	},
	quirkNoSysprep: func(t *testing.T, b *bundle) {
		require.Equal(t, false, b.get(t, "desktops/"+b.ids[0]+"/sysprep").body["support_create_image"])
	},
	quirkSysprepMissing: func(t *testing.T, b *bundle) {
		r := b.get(t, "desktops/"+b.ids[0]+"/sysprep")
		require.Equal(t, http.StatusOK, r.status)
		require.NotContains(t, r.body, "support_create_image")
	},
	quirkSysprepString: func(t *testing.T, b *bundle) {
		body := object{"image_name": "x", "desktop_id": b.ids[0], "execute_sysprep": "true"}
		require.Equal(t, http.StatusOK, b.post(t, "desktops/desktop-to-image", body).status)
		body = object{"image_name": "x", "desktop_id": b.ids[1], "execute_sysprep": "yes"}
		require.Equal(t, http.StatusBadRequest, b.post(t, "desktops/desktop-to-image", body).status)
	},
	quirkShutoffRefused: func(t *testing.T, b *bundle) {
		off := shutoff(t, quirkShutoffRefused)
		require.Equal(t, http.StatusConflict, off.post(t, "desktops/rebuild", rebuildOf(off.ids[0])).status)
		require.Equal(t, http.StatusOK, b.post(t, "desktops/rebuild", rebuildOf(b.ids[0])).status)
	},
	quirkShutoffAllowed: func(t *testing.T, _ *bundle) {
		off := shutoff(t, quirkShutoffAllowed)
		off.startImage(t, "x", off.ids[0])
	},
	quirkGateway404: instead(http.StatusNotFound, func(t *testing.T, r reply) { require.Equal(t, "APIGW.0101", r.code()) }),
	quirkHTML502: instead(http.StatusBadGateway, func(t *testing.T, r reply) {
		require.Equal(t, "text/html", r.header.Get("Content-Type"))
		require.Contains(t, r.text, "<html>")
	}),
	quirkThrottled: instead(http.StatusTooManyRequests, func(t *testing.T, r reply) {
		require.Equal(t, "APIGW.0308", r.code())
		require.NotContains(t, r.header, "Retry-After")
	}),
	quirkRetryAfter: instead(http.StatusTooManyRequests, func(t *testing.T, r reply) { require.Equal(t, "30", r.header.Get("Retry-After")) }),
	quirkRedirect:   instead(http.StatusFound, func(t *testing.T, r reply) { require.NotEmpty(t, r.header.Get("Location")) }),
	quirkEmptyAnswer: func(t *testing.T, b *bundle) {
		r := b.post(t, "desktops/rebuild", rebuildOf(b.ids[0]))
		require.Equal(t, http.StatusOK, r.status)
		require.Empty(t, r.text)
		require.Len(t, b.State().Jobs, 1)
	},
	quirkNeedsContentType: func(t *testing.T, b *bundle) {
		require.Equal(t, http.StatusOK, b.get(t, "images").status)
		r := b.request(t, http.MethodGet, "images", "")
		r.Header.Del("Content-Type")
		require.Equal(t, http.StatusUnsupportedMediaType, do(t, b.sign(t, r)).status)
	},
	quirkDropAfter: func(t *testing.T, b *bundle) {
		doDropped(t, b.sign(t, b.request(t, "POST", "desktops/rebuild", string(encode(t, rebuildOf(b.ids[0]))))))
		require.Len(t, b.State().Jobs, 1)
		require.Equal(t, "after", b.Requests(0, 0)[0].Dropped)
	},
	quirkDeliverTwice: func(t *testing.T, b *bundle) {
		for _, r := range []reply{
			b.post(t, "desktops/rebuild", rebuildOf(b.ids[:2]...)),
			b.post(t, "desktops/desktop-to-image", object{"image_name": "x", "desktop_id": b.ids[2]}),
		} {
			require.Equal(t, http.StatusConflict, r.status, "the second execution finds the desktop busy with the first")
			require.Equal(t, "WKS.00010032", r.code())
		}
		jobs, log := b.State().Jobs, b.Requests(0, 0)
		require.Len(t, jobs, 2)
		require.Len(t, log, 4, "both executions of both writes are in the journal")
		for i := range jobs {
			first, second := log[2*i], log[2*i+1]
			require.Equal(t, []any{"job", "after", 0}, []any{first.Effect, first.Dropped, first.Status})
			require.Contains(t, []string{jobs[0].ID, jobs[1].ID}, first.JobID)
			require.Equal(t, []any{"", "", http.StatusConflict, "WKS.00010032"},
				[]any{second.Effect, second.Dropped, second.Status, second.ErrorCode})
			require.Equal(t, first.DesktopIDs, second.DesktopIDs)
		}
		require.Equal(t, http.StatusConflict, b.post(t, "desktops/rebuild", rebuildOf(b.ids[0])).status)
		require.Len(t, b.Requests(0, 0), 5, "a refused write is executed once")
	},
	quirkNoAgency: onKeys(func(t *testing.T, r reply) {
		require.Equal(t, http.StatusUnauthorized, r.status)
		require.Contains(t, r.text, "agency")
	}),
	quirkKeyPage: onKeys(func(t *testing.T, r reply) {
		require.Equal(t, http.StatusOK, r.status)
		require.Contains(t, r.text, "<html>")
	}),
	quirkKeyIncomplete: onKeys(func(t *testing.T, r reply) {
		require.Contains(t, r.text, `"access"`)
		require.NotContains(t, r.text, "securitytoken")
	}),
	quirkKeyPast: onKeys(func(t *testing.T, r reply) { require.Contains(t, r.text, `"expires_at":"2020-01-01`) }),
	quirkTakenError: func(t *testing.T, b *bundle) {
		for i, r := range []reply{
			b.post(t, "desktops/rebuild", rebuildOf(b.ids[0])),
			b.post(t, "desktops/desktop-to-image", object{"image_name": "x", "desktop_id": b.ids[1]}),
		} {
			require.Equal(t, http.StatusOK, r.status)
			require.Equal(t, "WKS.00010032", r.code())
			require.NotContains(t, r.body, "job_id")
			require.Equal(t, "job", b.Requests(0, 0)[i].Effect)
		}
		require.Len(t, b.State().Jobs, 2)
	},
}

// shutoff is an emulator whose desktops are all off.
func shutoff(t *testing.T, quirk string) *bundle {
	t.Helper()
	st := generate(1)
	st.Desktops[0].Status = statusShutoff
	b := setup(t, Options{Seed: encode(t, st)})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallAny, Do: Do{Quirk: quirk}}}))
	return b
}

// listDesktops returns the ids of one page of the list of desktops.
func (b *bundle) listDesktops(t *testing.T, query string) []string {
	t.Helper()
	var body struct{ Desktops []Desktop }
	require.NoError(t, json.Unmarshal([]byte(b.get(t, "desktops/detail?"+query).text), &body))
	var ids []string
	for _, d := range body.Desktops {
		ids = append(ids, d.DesktopID)
	}
	return ids
}

func TestTheListOfDesktopsHasTheFiltersOfTheDefinitions(t *testing.T) {
	t.Parallel()
	st := generate(3)
	d := &st.Desktops[1]
	d.Status, d.LoginStatus, d.PoolID, d.InMaintenanceMode, d.DesktopType = statusShutoff, loginUnregister, "pool-1", true, "POOLED"
	d.EnterpriseProjectID, d.SubnetID, d.AttachUserInfos, d.UserName = "ep-1", "subnet-1", nil, "user-without-desktop"
	d.Tags = []Tag{{Key: "ring", Value: "a"}, {Key: "floor", Value: "2"}}
	d.Metadata[metaImageID], d.Product.ChargeMode = OtherGoldImageID, "0"
	b := setup(t, Options{Seed: encode(t, st)})
	for _, query := range []string{
		"desktop_id=" + d.DesktopID, "image_id=" + OtherGoldImageID, "status=SHUTOFF", "enterprise_project_id=ep-1", "subnet_id=subnet-1",
		"computer_name=" + d.ComputerName, "user_name=user-without-desktop", "desktop_ip=" + d.IPAddresses[0], "desktop_type=POOLED", "tag=ring=a,floor=2",
		"pool_id=pool-0,pool-1", "user_attached=false", "in_maintenance_mode=true", "charge_mode=0",
		"offset=1&limit=1", "sort_field=created&sort_type=ASC&offset=1&limit=1",
	} {
		require.Equal(t, []string{d.DesktopID}, b.listDesktops(t, query), query)
	}
	require.Equal(t, []string{b.ids[2], b.ids[1], b.ids[0]}, b.listDesktops(t, "sort_field=computer_name&sort_type=DESC"))
	for _, query := range []string{"limit=1001", "offset=-1", "sort_type=asc", "desktop_type=other", strings.Repeat("desktop_id=x&", 101)} {
		require.Equal(t, http.StatusBadRequest, b.get(t, "desktops/detail?"+query).status, query)
	}
}

func TestQuirks(t *testing.T) {
	t.Parallel()
	require.Equal(t, Quirks(), slices.Sorted(maps.Keys(quirkCases)), "each quirk has its case")
	for name, check := range quirkCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Options{})
			if name != quirkLateFailure { // needs a job that fails
				require.NoError(t, b.SetFaults([]Fault{{Call: CallAny, Do: Do{Quirk: name}}}))
			}
			check(t, b)
		})
	}
}

func TestAWriteDeliveredTwiceIsOneMatchOfItsFault(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallRebuild, Times: 2, Do: Do{Quirk: "deliver-twice, drop-after"}}}))
	doDropped(t, b.sign(t, b.request(t, http.MethodPost, "desktops/rebuild", string(encode(t, rebuildOf(b.ids[0]))))))
	doDropped(t, b.sign(t, b.request(t, http.MethodPost, "desktops/rebuild", string(encode(t, rebuildOf(b.ids[1]))))))
	require.Equal(t, http.StatusOK, b.post(t, "desktops/rebuild", rebuildOf(b.ids[2])).status)
	require.Len(t, b.State().Jobs, 3)
	require.Len(t, b.Requests(0, 0), 5)
}

func TestSeveralQuirksGiveThePublishedSample(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallGetDesktop, Do: Do{Quirk: "desktop-array, addresses-array"}}}))
	var sample struct {
		Desktop []struct {
			Addresses []Address `json:"addresses"`
		} `json:"desktop"`
	}
	require.NoError(t, json.Unmarshal([]byte(b.get(t, "desktops/"+b.ids[0]).text), &sample))
	require.Len(t, sample.Desktop, 1)
	require.Len(t, sample.Desktop[0].Addresses, 1)
}
