package listdesktops

import (
	"reflect"
	"slices"
	"strings"

	"recompose/events"
	"recompose/shared/workspace"
)

// rowOf is the row of a desktop with some fields; all but the users without names. blank leaves out personal data.
func rowOf(d workspace.ListedDesktop, fields []string, blank bool) events.DesktopRow {
	row := events.DesktopRow{
		DesktopID: d.DesktopID, Status: d.Status, TaskStatus: strings.TrimSpace(d.TaskStatus), ComputerName: d.ComputerName,
		DesktopType: d.DesktopType, LoginStatus: d.LoginStatus, ImageID: d.ImageID(), ImageName: d.Metadata["image_name"],
		ImageType: d.Metadata["metering.imagetype"], OSType: d.Metadata["os_type"], OSVersion: d.OSVersion,
		ProductID: d.ProductID, OrderID: d.OrderID, ChargingMode: d.Metadata["charging_mode"], PoolID: d.PoolID,
		EnterpriseProjectID: d.EnterpriseProjectID, SubnetID: d.SubnetID, AvailabilityZone: d.AvailabilityZone,
		InMaintenanceMode: d.InMaintenanceMode, AttachState: d.AttachState, UserAttached: d.Attached(),
		Created: d.Created.String(),
	}
	if d.Product != nil {
		row.ChargeMode = d.Product.ChargeMode
	}
	if d.RootVolume != nil {
		volume := volumeOf(*d.RootVolume)
		row.RootVolume = &volume
	}
	if d.DataVolumes != nil {
		row.DataVolumes = make([]events.RowVolume, 0, len(d.DataVolumes))
		for _, v := range d.DataVolumes {
			row.DataVolumes = append(row.DataVolumes, volumeOf(v))
		}
	}
	if d.Tags != nil {
		row.Tags = make([]events.Tag, 0, len(d.Tags))
		for _, t := range d.Tags {
			row.Tags = append(row.Tags, events.Tag{Key: t.Key, Value: t.Value})
		}
	}
	if d.AttachUserInfos != nil && slices.Contains(fields, events.RowUsers) {
		row.AttachUserInfos = make([]events.RowUser, 0, len(d.AttachUserInfos))
		for _, u := range d.AttachUserInfos {
			row.AttachUserInfos = append(row.AttachUserInfos,
				events.RowUser{UserID: u.UserID, UserName: u.UserName, UserGroup: u.UserGroup, Type: u.Type})
		}
	}
	if len(fields) > 0 {
		only(&row, fields)
	}
	if blank {
		return impersonal(row)
	}
	return row
}

func volumeOf(v workspace.Volume) events.RowVolume {
	volume := events.RowVolume{ID: v.ID, VolumeID: v.VolumeID, Type: v.Type}
	if v.Size != nil {
		volume.Size = *v.Size
	}
	return volume
}

// only removes the fields that are not named, except those that every row has.
func only(row *events.DesktopRow, fields []string) {
	v := reflect.ValueOf(row).Elem()
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if slices.Contains(events.RowFields, name) && !slices.Contains(fields, name) {
			v.Field(i).SetZero()
		}
	}
}

// impersonal is a row without personal data, see RECOMPOSE_BLANK_PERSONAL.
func impersonal(row events.DesktopRow) events.DesktopRow {
	row.ComputerName, row.Tags, row.AttachUserInfos = "", nil, nil
	return row
}

// kept is what the ledger keeps of a page: the desktops without personal data.
func kept(data any) any {
	page := data.(events.DesktopsListed)
	rows := make([]events.DesktopRow, len(page.Desktops))
	for i, row := range page.Desktops {
		rows[i] = impersonal(row)
	}
	page.Desktops = rows
	return page
}
