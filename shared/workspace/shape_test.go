package workspace

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every field that any source names is known to its type: it is read, written back, and not left in Extra.
func TestEveryKnownField(t *testing.T) {
	t.Parallel()
	const volume = `{"type":"SSD","size":80,"device":"/dev/sda","id":"v","volume_id":"v","create_time":"2026-01-15T08:30:00Z",
		"display_name":"n","bill_resource_id":"b","kms_id":"k","iops":1,"throughput":2,"desktop_pool_disk_id":"p",
		"resource_spec_code":"r"}`
	const desktop = `{"desktop_id":"d","computer_name":"c","os_host_name":"h","ipv4":"1","ipv6":"2",
		"addresses":{"n":[{"addr":"a","version":"4","OS-EXT-IPS-MAC:mac_addr":"m","OS-EXT-IPS:type":"fixed"}]},
		"ip_addresses":["a"],"user_list":["u"],"user_group_list":["g"],"desktop_type":"DEDICATED","metadata":{"k":"v"},
		"flavor":{"id":"f","links":[{"rel":"r","hrel":"h"}]},"status":"ACTIVE","task_status":"rebuilding","process":7,
		"in_maintenance_mode":true,"is_support_internet":false,"is_freeze":false,"isolated":true,
		"created":"2026-01-15T08:30:00.5Z","security_groups":[{"id":"s","name":"n"}],"login_status":"REGISTERED","user_name":"u",
		"user_group":"users","ou_name":"o","os_version":"v","availability_zone":"z",
		"attach_user_infos":[{"user_id":"i","user_name":"n","user_group":"g","type":"USER"}],"product_id":"p","order_id":"o",
		"sid":"s","subnet_id":"s","bill_resource_id":"b","root_resource_id":"r","share_resource_sku":"s","domain":"d",
		"root_volume":` + volume + `,"data_volumes":[` + volume + `],"site_type":"t","site_name":"n",
		"product":{"product_id":"p","flavor_id":"f","type":"BASE","cpu":"2","memory":"4096","descriptions":"d","charge_mode":"1",
		"architecture":"x86","is_gpu":false,"package_type":"p","system_disk_type":"SAS","system_disk_size":"80",
		"contain_data_disk":true,"resource_type":"r","cloud_service_type":"c","volume_product_type":"v","status":"normal"},
		"tags":[{"key":"k","value":"v"}],"internet_mode":"NAT","internet_mode_list":["NAT"],"is_attaching_eip":false,
		"attach_state":"ATTACHED","enterprise_project_id":"0","hour_package_info":{"root_order_id":"r","package_resource_id":"p",
		"package_instance_id":"i","package_spec_code":"s","combined_product_type_code":"c","use_up_policy":"PAY_PER_USE",
		"package_duration":100,"use_duration":3}}`
	var d Desktop
	require.NoError(t, json.Unmarshal([]byte(desktop), &d))
	require.JSONEq(t, desktop, marshalled(t, d))
	for _, extra := range []Extra{
		d.Extra, d.Addresses["n"][0].Extra, d.Flavor.Extra, d.Flavor.Links[0].Extra, d.SecurityGroups[0].Extra,
		d.AttachUserInfos[0].Extra, d.RootVolume.Extra, d.DataVolumes[0].Extra, d.Product.Extra, d.Tags[0].Extra,
		d.HourPackageInfo.Extra,
	} {
		require.Empty(t, extra)
	}

	const info = `{"desktop_id":"d","image_id":"i","image_name":"n","image_type":"gold","os_type":"Windows"}`
	var i ImageInfo
	require.NoError(t, decodeObject([]byte(info), &i))
	require.JSONEq(t, info, marshalled(t, i))
	require.Empty(t, i.Extra)

	const subJob = `{"id":"s","job_id":"j","job_type":"rebuildDesktops","entities":{"desktop_id":"d","product_id":"p",
		"user_name":"u","desktop_name":"n","ip_address":"a"},"begin_time":"2026-01-15T08:30:00Z",
		"end_time":"2026-01-15T08:40:00Z","status":"FAILED","process":9,"error_code":"c","fail_reason":"f","message":"m",
		"desktop_name":"n","mac_address":"m","ip_address":"a","host":"h","project_id":"p","attach_user":"u","entity":"e"}`
	var s SubJob
	require.NoError(t, decodeObject([]byte(subJob), &s))
	require.JSONEq(t, subJob, marshalled(t, s))
	require.Empty(t, s.Extra)
	require.Empty(t, s.Entities.Extra)

	const image = `{"id":"i","image_type":"private","os_type":"Linux","architecture":"arm","os_version":"v","disk_format":"qcow2",
		"name":"n","min_ram":1,"min_disk":2,"product_code":"p","created_at":"2026-01-15T08:30:00Z","kms_id":"k"}`
	var m Image
	require.NoError(t, decodeObject([]byte(image), &m))
	require.JSONEq(t, image, marshalled(t, m))
	require.Empty(t, m.Extra)
}

// Users, addresses and tags stay out of logs.
func TestLogValuesNameNoUsers(t *testing.T) {
	t.Parallel()
	d := Desktop{DesktopID: "d1", Status: "ACTIVE", UserName: "chen", IPv4: "10.0.0.1", SID: "sid-1"}
	s := SubJob{ID: "s1", JobID: "j1", Status: "RUNNING", AttachUser: "chen", IPAddress: "10.0.0.1", Entities: &JobEntities{DesktopID: "d1", UserName: "chen"}}
	for _, text := range []string{d.LogValue().String(), s.LogValue().String()} {
		require.Contains(t, text, "1")
		for _, private := range []string{"chen", "10.0.0.1", "sid-1"} {
			require.NotContains(t, text, private)
		}
	}
}
