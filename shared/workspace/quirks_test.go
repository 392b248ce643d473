package workspace

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One test for each known quirk of the service; the number is the one used in comments.

func get(t *testing.T, body string) (Desktop, error) {
	t.Helper()
	return setup(t, responds(200, body)).GetDesktop(t.Context(), testDesktop)
}

func desktopOf(t *testing.T, fields string) Desktop {
	t.Helper()
	d, err := get(t, `{"desktop":{"desktop_id":"`+testDesktop+`",`+fields+`}}`)
	require.NoError(t, err)
	return d
}

func marshalled(t *testing.T, v any) string {
	t.Helper()
	write := json.Marshal
	switch v.(type) {
	case ImageInfo, SubJob, Image:
		write = encodeObject
	}
	out, err := write(v)
	require.NoError(t, err)
	return string(out)
}

func TestQuirkQ01DesktopIsObjectOrList(t *testing.T) {
	t.Parallel()
	d, err := get(t, vendor(t, "get-desktop"))
	require.NoError(t, err)
	require.Equal(t, "21616aa6-061d-4b2f-bd83-b230d7a9a14c", d.DesktopID)
	d, err = get(t, `{"desktop":{"desktop_id":"x"}}`)
	require.NoError(t, err)
	require.Equal(t, "x", d.DesktopID)
	d, err = get(t, `{"desktop":[{"desktop_id":"x"},{"desktop_id":"`+testDesktop+`","status":"ACTIVE"}]}`)
	require.NoError(t, err)
	require.Equal(t, "ACTIVE", d.Status)
	_, err = get(t, `{"desktop":[]}`)
	require.True(t, IsNotFound(err))
	_, err = get(t, `{"desktop":[{"desktop_id":"x"},{"desktop_id":"y"}]}`)
	require.Equal(t, BadAnswer, ClassOf(err))
	for _, body := range []string{`{"desktop":null}`, `{"desktop":{}}`, `{"desktop":[{}]}`, `{"desktop":[null]}`, `{"desktop":{"desktop_id":null}}`, `{"other":1}`} {
		_, err = get(t, body)
		require.Equal(t, BadAnswer, ClassOf(err), body)
		require.ErrorIs(t, err, errEmpty, body)
	}
	for _, body := range []string{`{"desktop":"x"}`, `{"desktop":["x"]}`, `{"desktop":7}`} {
		_, err = get(t, body)
		require.Equal(t, BadAnswer, ClassOf(err), body)
	}
}

func TestQuirkQ02AddressesAreMapOrList(t *testing.T) {
	t.Parallel()
	d, err := get(t, vendor(t, "get-desktop"))
	require.NoError(t, err)
	require.Len(t, d.Addresses, 1)
	require.Len(t, d.Addresses[""], 2)
	require.Equal(t, Address{Addr: "172.16.253.204", Version: "4", MACAddr: "fa:16:3e:2e:41:55", Type: "fixed"}, d.Addresses[""][0])
	require.Contains(t, marshalled(t, d), `"addresses":{"":[{"OS-EXT-IPS-MAC:mac_addr":"fa:16:3e:2e:41:55"`)
	d = desktopOf(t, `"addresses":{"vpc-1":[{"addr":"10.0.0.1","version":4}],"vpc-2":null}`)
	require.Equal(t, Addresses{"vpc-1": {{Addr: "10.0.0.1", Version: "4"}}, "vpc-2": {}}, d.Addresses)
	require.Nil(t, desktopOf(t, `"addresses":null`).Addresses)
	d = desktopOf(t, `"addresses":"none"`)
	require.Nil(t, d.Addresses)
	require.JSONEq(t, `"none"`, string(d.Extra["addresses"]))
}

func TestQuirkQ03Q04SysprepIsAlwaysSentAsABoolean(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, vendor(t, "desktop-to-image")))
	for _, sysprep := range []bool{true, false} {
		r := imageRequest()
		r.ExecuteSysprep = sysprep
		accepted, err := b.DesktopToImage(t.Context(), testTime, r)
		require.NoError(t, err)
		require.Equal(t, "string", accepted.JobID)
	}
	require.Contains(t, b.seen()[0].body, `"execute_sysprep":true`)
	require.Contains(t, b.seen()[1].body, `"execute_sysprep":false`)

	full := DesktopToImageRequest{
		ImageName: "string", ImageDescription: "string", DesktopID: "string", ExecuteSysprep: true,
		ImageTags: []ImageTag{{Key: "string", Value: "string"}}, EnterpriseProjectID: "string", MaxRAM: "string", MinRAM: "string",
	}
	require.JSONEq(t, strings.Replace(vendor(t, "desktop-to-image.request"), `"true"`, `true`, 1), marshalled(t, full))
	full.IsClearData = true
	full.ImageTags = []ImageTag{{Key: "k"}}
	require.Contains(t, marshalled(t, full), `"image_tags":[{"key":"k","value":""}]`)
	require.Contains(t, marshalled(t, full), `"is_clear_data":true`)
}

func TestQuirkQ05SuccessStatusWithAnErrorCode(t *testing.T) {
	t.Parallel()
	b := setup(t, answers(
		responds(200, `{"error_code":"WKS.00010109","error_msg":"name empty","error_detail":"d","encoded_authorization_message":"e"}`),
		responds(200, `{"error_code":"WKS.00010109","error_msg":"name empty","job_id":"j1","request_id":"r1"}`),
		responds(200, vendor(t, "rebuild"))))
	_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
	e := asError(t, err)
	require.Equal(t, BadAnswer, e.Class)
	require.True(t, e.MayHaveExecuted())
	require.Equal(t, []string{"WKS.00010109", "name empty", "d", "e"}, []string{e.Code, e.Msg, e.Detail, e.EncodedAuthorizationMessage})
	require.Equal(t, 200, e.Status)

	accepted, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
	require.NoError(t, err)
	require.Equal(t, "j1", accepted.JobID)
	require.Equal(t, "r1", accepted.RequestID)
	require.Equal(t, "WKS.00010109", accepted.Warning.Code)
	require.Equal(t, "name empty", accepted.Warning.Msg)

	accepted, err = b.Rebuild(t.Context(), testTime, rebuildRequest())
	require.NoError(t, err)
	require.Equal(t, Accepted{JobID: "string", Date: testTime}, accepted)

	_, err = get(t, `{"error_code":"WKS.00000003","error_msg":"m"}`)
	require.Equal(t, BadAnswer, ClassOf(err))
	require.Equal(t, "WKS.00000003", asError(t, err).Code)
}

func TestQuirkQ06NoJobIDMeansUnknown(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"job_id":""}`, `{"job_id":null}`, `{"job_id":" "}`, `{"jobid":"x"}`, `{"job_id":{}}`, `{"job_id":[]}`, `{"job_id":false}`, `{"job_id":true}`} {
		_, err := setup(t, responds(200, body)).DesktopToImage(t.Context(), testTime, imageRequest())
		e := asError(t, err)
		require.Equal(t, BadAnswer, e.Class, body)
		require.True(t, e.MayHaveExecuted(), body)
		require.ErrorIs(t, err, errNoJobID, body)
	}
}

func TestQuirkQ07RedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308, 304, 300} {
		for _, location := range []string{"/elsewhere", "http://[::1", ""} {
			b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
			})
			_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
			e := asError(t, err)
			require.Equal(t, BadAnswer, e.Class)
			require.Equal(t, status, e.Status)
			require.True(t, e.MayHaveExecuted())
			_, err = b.GetDesktop(t.Context(), testDesktop)
			require.Equal(t, BadAnswer, ClassOf(err))
			require.Len(t, b.seen(), 2)
		}
	}
}

func TestQuirkQ08EmptyAnswers(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, `{}`, ` { } `, "\n"} {
		b := setup(t, responds(200, body))
		ctx := t.Context()
		_, check := b.CheckImages(ctx, []string{"d"})
		_, capture := b.DesktopToImage(ctx, testTime, imageRequest())
		_, rebuild := b.Rebuild(ctx, testTime, rebuildRequest())
		_, desktop := b.GetDesktop(ctx, "d")
		_, subJobs := b.ListSubJobs(ctx, SubJobsQuery{JobID: "j"})
		_, images := b.ListImages(ctx, ImagesQuery{})
		for _, err := range []error{check, capture, rebuild, desktop, subJobs, images} {
			require.Equal(t, BadAnswer, ClassOf(err), body)
			require.ErrorContains(t, err, "empty response")
		}
	}
	_, err := setup(t, responds(204, "")).Rebuild(t.Context(), testTime, rebuildRequest())
	require.Equal(t, BadAnswer, ClassOf(err))
	infos, err := setup(t, responds(200, `{"image_infos":null}`)).CheckImages(t.Context(), []string{"d"})
	require.NoError(t, err)
	require.Empty(t, infos)
	accepted, err := setup(t, responds(202, `{"job_id":"j"}`)).Rebuild(t.Context(), testTime, rebuildRequest())
	require.NoError(t, err)
	require.Equal(t, "j", accepted.JobID)
}

func TestQuirkQ09TimesInSeveralForms(t *testing.T) {
	t.Parallel()
	at := time.Date(2022, 1, 21, 6, 57, 47, 0, time.UTC)
	for raw, wanted := range map[string]Time{
		"2022-01-21T06:57:47.459Z":      {Time: at.Add(459 * time.Millisecond), Zoned: true},
		"2022-01-21T06:57:47Z":          {Time: at, Zoned: true},
		"2022-01-21 06:57:47":           {Time: at},
		"2022-01-21 06:57:47.000":       {Time: at},
		"2022-01-21T06:57:47":           {Time: at},
		"2022-01-21T14:57:47+08:00":     {Time: at, Zoned: true},
		"2022-01-21T14:57:47.000+0800":  {Time: at, Zoned: true},
		"2022-01-21 14:57:47 +0800":     {Time: at, Zoned: true},
		"2022-01-21t06:57:47z":          {Time: at, Zoned: true},
		"yesterday":                     {},
		"":                              {},
		"9999-12-31T23:59:59-10:00":     {},
		"2022-13-21 06:57:47":           {},
		"0001-01-01T00:00:00Z":          {},
		"1642748267459":                 {},
		"2022-01-21T06:57:47Z trailing": {},
	} {
		wanted.Raw = raw
		require.Equal(t, wanted, ParseTime(raw), raw)
	}
	require.Equal(t, `"2022-01-21T06:57:47.459Z"`, marshalled(t, ParseTime("2022-01-21T14:57:47.459+08:00")))
	require.Equal(t, `"2022-01-21T06:57:47Z"`, marshalled(t, ParseTime("2022-01-21 06:57:47")))
	require.Equal(t, `"yesterday"`, marshalled(t, ParseTime("yesterday")))
	d := desktopOf(t, `"created":1642748267459`)
	require.Equal(t, "1642748267459", d.Created.Raw)
	require.True(t, d.Created.IsZero())
	var read Time
	require.NoError(t, json.Unmarshal([]byte(`null`), &read))
	require.Error(t, json.Unmarshal([]byte(`{}`), &read))
}

func TestQuirkQ10HrelAndHref(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"flavor":{"id":"f","links":[{"rel":"a","hrel":"x"},{"rel":"b","href":"y"},{"hrel":null,"href":"z"}]}`)
	require.Equal(t, []FlavorLink{{Rel: "a", Hrel: "x"}, {Rel: "b", Hrel: "y"}, {Hrel: "z"}}, d.Flavor.Links)
	require.Contains(t, marshalled(t, d), `"links":[{"hrel":"x","rel":"a"},{"hrel":"y","rel":"b"},{"hrel":"z"}]`)
}

func TestQuirkQ11VolumeTypeIsOpen(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"root_volume":{"type":"GPSSD9","size":"90"},"data_volumes":[{"type":"SATA","size":10.0}]`)
	require.Equal(t, "GPSSD9", d.RootVolume.Type)
	require.Equal(t, int64(90), *d.RootVolume.Size)
	require.Equal(t, "SATA", d.DataVolumes[0].Type)
	require.Equal(t, int64(10), *d.DataVolumes[0].Size)
}

func TestQuirkQ12NoTask(t *testing.T) {
	t.Parallel()
	for _, fields := range []string{`"task_status":""`, `"task_status":null`, `"sid":"absent"`} {
		require.False(t, desktopOf(t, fields).HasTask(), fields)
	}
	require.True(t, desktopOf(t, `"task_status":"rebuilding"`).HasTask())
}

func TestQuirkQ13EmptyStatusIsDeleting(t *testing.T) {
	t.Parallel()
	require.Equal(t, statusDeleting, desktopOf(t, `"status":""`).State())
	require.Equal(t, statusDeleting, desktopOf(t, `"status":null`).State())
	require.Equal(t, "ERROR", desktopOf(t, `"status":"ERROR"`).State())
}

func TestQuirkQ14StatusInAnyCase(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"status":"Active"`)
	require.Equal(t, "ACTIVE", d.State())
	require.Equal(t, "Active", d.Status, "as received")
}

func TestQuirkQ15ChargeModeIsPassedOn(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"product":{"charge_mode":1},"metadata":{"charging_mode":"0"}`)
	require.Equal(t, "1", d.Product.ChargeMode)
	require.Equal(t, "0", d.Metadata["charging_mode"])
}

func TestQuirkQ16NumbersThatAreTexts(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"product":{"cpu":2,"memory":3072,"system_disk_size":80.5}`)
	require.Equal(t, Product{CPU: "2", Memory: "3072", SystemDiskSize: "80.5"}, *d.Product)
	require.Contains(t, marshalled(t, d), `"product":{"cpu":"2","memory":"3072","system_disk_size":"80.5"}`)
}

func TestQuirkQ17DescriptionAndDescriptions(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"product":{"description":"old"}`)
	require.Equal(t, "old", d.Product.Descriptions)
	require.Contains(t, marshalled(t, d), `"product":{"descriptions":"old"}`)
	require.Equal(t, "new", desktopOf(t, `"product":{"description":"old","descriptions":"new"}`).Product.Descriptions)
}

func TestQuirkQ18Process(t *testing.T) {
	t.Parallel()
	for fields, wanted := range map[string]*int64{
		`"process":null`: nil, `"sid":""`: nil, `"process":""`: nil, `"process":0`: new(int64(0)), `"process":"45"`: new(int64(45)),
		`"process":100`: new(int64(100)), `"process":"much"`: nil, `"process":4.5`: nil,
	} {
		require.Equal(t, wanted, desktopOf(t, fields).Process, fields)
	}
	require.Contains(t, marshalled(t, desktopOf(t, `"process":"45"`)), `"process":45`)
	require.NotContains(t, marshalled(t, desktopOf(t, `"process":null`)), `process`)
	require.Contains(t, marshalled(t, desktopOf(t, `"process":"much"`)), `"process":"much"`, "passed on as unknown")
}

func TestQuirkQ19MetadataValuesAreTexts(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"metadata":{"os_bit":64,"a":true,"b":null,"c":{"x": 1},"metering.image_id":"i1"}`)
	require.Equal(t, map[string]string{"os_bit": "64", "a": "true", "b": "", "c": `{"x":1}`, "metering.image_id": "i1"}, d.Metadata)
	require.Equal(t, "i1", d.ImageID())
	require.Empty(t, Desktop{}.ImageID())
}

func TestQuirkQ20CheckImagesAnswersForOthers(t *testing.T) {
	t.Parallel()
	infos, err := setup(t, responds(200, vendor(t, "check-images"))).CheckImages(t.Context(), []string{testDesktop})
	require.NoError(t, err)
	require.Equal(t, []ImageInfo{{
		DesktopID: "0730042a-b9c7-4279-bb24-d3fd299a2efe", ImageID: "b669106a-1395-4f24-92af-d884c227e558",
		ImageType: "market", OSType: "Windows",
	}}, infos)
}

func TestQuirkQ21ImageTypeIsOpen(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"image_infos":[{"desktop_id":"d","image_type":"shared"}]}`))
	infos, err := b.CheckImages(t.Context(), []string{"d"})
	require.NoError(t, err)
	require.Equal(t, "shared", infos[0].ImageType)
}

func TestQuirkQ22OSTypeWords(t *testing.T) {
	t.Parallel()
	require.True(t, SameOSType("Other", "others"))
	require.True(t, SameOSType("windows", "Windows"))
	require.False(t, SameOSType("Linux", "Other"))
}

func TestQuirkQ23NoValueIsRefusedForItsLength(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 5000)
	b := setup(t, responds(200, `{"images":[{"id":"i","name":"`+long+`","min_ram":4096,"min_disk":"80"}],"total_count":1}`))
	images, err := b.ListImages(t.Context(), ImagesQuery{})
	require.NoError(t, err)
	require.Equal(t, long, images.Images[0].Name)
	require.Equal(t, int64(4096), *images.Images[0].MinRAM)
	require.Equal(t, int64(80), *images.Images[0].MinDisk)
}

func TestQuirkQ24JobTypesByPrefix(t *testing.T) {
	t.Parallel()
	for jobType, wanted := range map[string][2]bool{
		"rebuildDesktops": {true, false}, "rebuildDesktopss": {true, false}, "RebuildDesktops": {true, false},
		"desktopToImage": {false, true}, "rebuildDesktopPool": {false, false}, "": {false, false},
	} {
		s := SubJob{JobType: jobType}
		require.Equal(t, wanted, [2]bool{s.IsRebuild(), s.IsImage()}, jobType)
	}
}

func TestQuirkQ25SecurityGroupsMayBeMissing(t *testing.T) {
	t.Parallel()
	require.Nil(t, desktopOf(t, `"sid":""`).SecurityGroups)
	require.Nil(t, desktopOf(t, `"security_groups":null`).SecurityGroups)
	require.Equal(t, []SecurityGroup{{ID: "g"}}, desktopOf(t, `"security_groups":{"id":"g"}`).SecurityGroups)
	require.NotContains(t, marshalled(t, desktopOf(t, `"security_groups":null`)), "security_groups")
	require.Contains(t, marshalled(t, desktopOf(t, `"security_groups":[]`)), `"security_groups":[]`)
}

func TestQuirkQ26UserNamesOfAnyLength(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("u", 300)
	require.Equal(t, long, desktopOf(t, `"user_name":"`+long+`"`).UserName)
}

func TestQuirkQ28IDsCannotChangeThePath(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"desktop":{"desktop_id":"d"}}`))
	for _, id := range []string{"../images", "a/../../x", "%2e%2e", "a?x=1", "."} {
		_, err := b.GetDesktop(t.Context(), id)
		require.Equal(t, Invalid, ClassOf(err))
	}
	require.Empty(t, b.seen())
}

func TestQuirkQ29UnknownFieldsArePassedOn(t *testing.T) {
	t.Parallel()
	d := desktopOf(t, `"new_field":{"b": [1, 2.50], "a":"<>"},"root_volume":{"type":"SSD","new_flag":true},"tags":[{"key":"k","new":null}]`)
	require.JSONEq(t, `{"a":"<>","b":[1,2.50]}`, string(d.Extra["new_field"]))
	require.JSONEq(t, `{"desktop_id":"`+testDesktop+`","status":"","task_status":"","new_field":{"a":"<>","b":[1,2.50]},
		"root_volume":{"type":"SSD","new_flag":true},"tags":[{"key":"k","new":null}]}`, marshalled(t, d))
	require.Contains(t, marshalled(t, d), `2.50`, "numbers keep their digits")
	d = desktopOf(t, `"status":{"not":"a text"},"user_list":[{}],"flavor":7,"in_maintenance_mode":"perhaps"`)
	require.Empty(t, d.Status)
	require.JSONEq(t, `{"desktop_id":"`+testDesktop+`","status":{"not":"a text"},"user_list":[{}],"flavor":7,
		"task_status":"","in_maintenance_mode":"perhaps"}`, marshalled(t, d))
}

func TestQuirkQ30SentBytesAreSignedBytes(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"job_id":"j"}`))
	r := rebuildRequest()
	r.Message = "save <now> & log off 办公"
	r.DelayTime = new(0)
	_, err := b.Rebuild(t.Context(), testTime, r)
	require.NoError(t, err)
	got := b.seen()[0]
	require.Contains(t, got.body, `"delay_time":0,"message":"save <now> & log off 办公"`)
	require.False(t, strings.HasSuffix(got.body, "\n"))
	h := http.Header{}
	for _, name := range []string{"User-Agent", "X-Language", "X-Project-Id", "X-Sdk-Date"} {
		h.Set(name, got.header.Get(name))
	}
	canonical := canonicalRequest("POST", got.path, nil, h, signedNames(h), hexSHA256([]byte(got.body)))
	signature := signatureOf(testSecret, stringToSign(h.Get("X-Sdk-Date"), canonical))
	require.True(t, strings.HasSuffix(got.header.Get("Authorization"), "Signature="+signature))
}

func TestVendorRebuildExample(t *testing.T) {
	t.Parallel()
	require.JSONEq(t, vendor(t, "rebuild.request"), marshalled(t, RebuildRequest{
		DesktopIDs: []string{"string"}, ImageType: "string", ImageID: "string", OSType: "string", DelayTime: new(2147483647),
		Message: "string", OrderID: "string", EnterpriseProjectID: "0",
	}))
}

func TestVendorDesktopExampleKeepsEverything(t *testing.T) {
	t.Parallel()
	d, err := get(t, vendor(t, "get-desktop"))
	require.NoError(t, err)
	require.Empty(t, d.Extra, "every field of the page is known")
	var page struct {
		Desktop []map[string]any `json:"desktop"`
	}
	require.NoError(t, json.Unmarshal([]byte(vendor(t, "get-desktop")), &page))
	wanted := page.Desktop[0]
	wanted["addresses"] = map[string]any{"": wanted["addresses"]}
	text, err := json.Marshal(wanted)
	require.NoError(t, err)
	require.JSONEq(t, string(text), marshalled(t, d))
}
