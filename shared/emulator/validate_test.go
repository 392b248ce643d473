package emulator

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func with(base object, change object) object {
	out := maps.Clone(base)
	for k, v := range change {
		if v == "absent" {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func many(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("id-%d", i)
	}
	return out
}

func TestLimitsOfDesktopToImage(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	base := object{"image_name": "name", "desktop_id": b.ids[0], "execute_sysprep": false}
	refused := map[string]object{
		"image_name":            {"image_name": "absent"},
		"image_name ":           {"image_name": nil},
		"image_name must":       {"image_name": ""},
		"image_name must have":  {"image_name": strings.Repeat("a", 129)},
		"a string":              {"image_name": 7},
		"white space":           {"image_name": " name"},
		"white space at an end": {"image_name": "name\t"},
		"not allowed":           {"image_name": "a,b"},
		"is not allowed":        {"image_name": "naïve"},
		"that is not allowed":   {"image_name": "a\u00a0b"},
		"desktop_id":            {"desktop_id": "absent"},
		"desktop_id must":       {"desktop_id": strings.Repeat("d", 256)},
		"image_description has": {"image_description": "Well, a comma"},
		"image_description mus": {"image_description": strings.Repeat("x", 1025)},
		"execute_sysprep":       {"execute_sysprep": "true"},
		"is_clear_data":         {"is_clear_data": 1},
		"image_tags":            {"image_tags": "k=v"},
		"image_tags must":       {"image_tags": make([]struct{}, 1001)},
		"image_tags[0]":         {"image_tags": []any{nil}},
		"image_tags[1]":         {"image_tags": []Tag{{}, {Key: strings.Repeat("k", 1025)}}},
		"enterprise_project_id": {"enterprise_project_id": strings.Repeat("e", 256)},
		"min_ram":               {"min_ram": 2048},
		"max_ram":               {"max_ram": strings.Repeat("9", 256)},
	}
	for text, change := range refused {
		r := b.post(t, "desktops/desktop-to-image", with(base, change))
		require.Equal(t, http.StatusBadRequest, r.status, "%s: %s", text, r.text)
		require.Contains(t, r.msg(), strings.TrimSpace(text))
	}
	require.Equal(t, http.StatusNotFound, b.post(t, "desktops/desktop-to-image", with(base, object{"desktop_id": "nobody"})).status)
	require.Empty(t, b.State().Jobs)
	for i, change := range []object{
		{"image_name": strings.Repeat("像", 128)},
		{"image_name": "a b-c_d.e", "image_description": "two\nlines 描述 ", "unknown_field": 1},
		{"image_tags": []Tag{{Key: "k", Value: "v"}}, "max_ram": "", "min_ram": "4096", "enterprise_project_id": "0", "is_clear_data": true},
		{"image_description": nil, "execute_sysprep": nil, "image_tags": []Tag{}},
	} {
		change["desktop_id"] = b.ids[i]
		r := b.post(t, "desktops/desktop-to-image", with(base, change))
		require.Equal(t, http.StatusOK, r.status, r.text)
	}
	b.clock.Add(time.Hour)
	images := b.State().Images
	require.Equal(t, 4096, images[6].MinRAM)
	require.Equal(t, []Tag{{Key: "k", Value: "v"}}, images[6].Notes.Tags)
}

func TestLimitsOfRebuild(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	base := rebuildOf(b.ids[0])
	refused := map[string]object{
		"desktop_ids is mandatory":     {"desktop_ids": "absent"},
		"desktop_ids must be a list":   {"desktop_ids": "one"},
		"1 to 100 items, it has 0":     {"desktop_ids": []string{}},
		"1 to 100 items, it has 101":   {"desktop_ids": many(101)},
		"desktop_ids[1]":               {"desktop_ids": []any{b.ids[0], nil}},
		"desktop_ids[0]":               {"desktop_ids": []string{strings.Repeat("d", 256)}},
		"twice":                        {"desktop_ids": []string{b.ids[0], b.ids[0]}},
		"image_type":                   {"image_type": "absent"},
		"image_type must be":           {"image_type": 1},
		"image_id":                     {"image_id": "absent"},
		"image_id must have":           {"image_id": ""},
		"delay_time":                   {"delay_time": -1},
		"delay_time must":              {"delay_time": 2147483648},
		"delay_time must be":           {"delay_time": "15"},
		"delay_time must be an":        {"delay_time": 1.5},
		"message":                      {"message": strings.Repeat("m", 401)},
		"order_id":                     {"order_id": strings.Repeat("o", 256)},
		"enterprise_project_id":        {"enterprise_project_id": strings.Repeat("e", 37)},
		"os_type":                      {"os_type": strings.Repeat("o", 256)},
		"encrypt_type":                 {"encrypt_type": "MAYBE"},
		"kms_id":                       {"encrypt_type": "ENCRYPTED"},
		"handle_type":                  {"handle_type": strings.Repeat("h", 256)},
		"is not of the type private":   {"image_type": "private"},
		"is not of the type something": {"image_type": "something"},
	}
	for text, change := range refused {
		r := b.post(t, "desktops/rebuild", with(base, change))
		require.Equal(t, http.StatusBadRequest, r.status, "%s: %s", text, r.text)
		require.Contains(t, r.msg(), text)
		require.Equal(t, r.code(), b.Requests(0, 0)[len(b.Requests(0, 0))-1].ErrorCode)
	}
	require.Equal(t, http.StatusNotFound, b.post(t, "desktops/rebuild", with(base, object{"image_id": "nothing"})).status)
	require.Equal(t, http.StatusNotFound, b.post(t, "desktops/rebuild", with(base, object{"desktop_ids": []string{b.ids[0], "nobody"}})).status)
	require.Empty(t, b.State().Jobs)
	r := b.post(t, "desktops/rebuild", with(base, object{"message": strings.Repeat("消", 400), "encrypt_type": "ENCRYPTED", "kms_id": "k", "order_id": "",
		"delay_time": 0, "os_type": "Windows", "enterprise_project_id": "0", "handle_type": "ONLY_FOR_EXPAND"}))
	require.Equal(t, http.StatusOK, r.status, r.text)
}

func TestLimitsOfReads(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	for path, text := range map[string]string{
		"images?limit=101":                                      "limit",
		"images?limit=x":                                        "limit",
		"images?offset=5001":                                    "offset",
		"images?image_type=market":                              "image_type",
		"images?architecture=riscv":                             "architecture",
		"images?sort_field=size":                                "sort_field",
		"images?sort_type=up":                                   "sort_type",
		"workspace-sub-jobs?limit=-1":                           "limit",
		"workspace-sub-jobs?limit=1001":                         "limit",
		"workspace-sub-jobs?offset=10001":                       "offset",
		"workspace-sub-jobs?job_id=" + strings.Repeat("j", 256): "job_id",
		"workspace-sub-jobs?status=" + strings.Repeat("S", 256): "status",
		"desktops/" + strings.Repeat("d", 256):                  "desktop_id",
		"workspace-jobs/" + strings.Repeat("d", 256):            "job_id",
	} {
		r := b.get(t, path)
		require.Equal(t, http.StatusBadRequest, r.status, path)
		require.Contains(t, r.msg(), text)
	}
	require.Equal(t, http.StatusNotFound, b.get(t, "desktops/nobody").status)
	require.Equal(t, http.StatusNotFound, b.get(t, "desktops/..%2F"+b.ids[0]).status)
	require.Equal(t, http.StatusOK, b.get(t, "images?image_type=&limit=").status)
}

func TestLimitsOfCheckImages(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	for _, body := range []string{`{}`, `{"desktop_ids": null}`, `{"desktop_ids": []}`, `{"desktop_ids": [1]}`, `[]`, `null`, `{`, `"x"`, "{\"desktop_ids\": [\"\xff\"]}",
		string(encode(t, object{"desktop_ids": many(501)}))} {
		require.Equal(t, http.StatusBadRequest, b.post(t, "desktops/check-images", body).status, body)
	}
	r := b.post(t, "desktops/check-images", object{"desktop_ids": append(many(499), b.ids[0])})
	require.Equal(t, http.StatusOK, r.status)
	require.Len(t, r.body["image_infos"], 1, "desktops that do not exist are left out")
	r = b.post(t, "desktops/check-images", object{"desktop_ids": []string{b.ids[0], b.ids[0]}})
	require.Len(t, r.body["image_infos"], 1)
}
