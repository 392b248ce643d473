package emulator

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// The images of a generated world. Every generated desktop runs the first.
const (
	GoldImageID      = "9a1f0c3e-5b7d-4e21-8c46-0d2b7f91a001" // gold, Windows: what the fleet runs
	OtherGoldImageID = "9a1f0c3e-5b7d-4e21-8c46-0d2b7f91a002" // gold, Windows, a newer one
	LinuxGoldImageID = "9a1f0c3e-5b7d-4e21-8c46-0d2b7f91a003" // gold, Linux
	MarketImageID    = "9a1f0c3e-5b7d-4e21-8c46-0d2b7f91a004" // market, never listed by GET images
)

func generatedImages() []Image {
	return []Image{
		{ID: GoldImageID, ImageType: "gold", OSType: osWindows, Architecture: "x86", OSVersion: "Windows 10 Enterprise 64bit",
			DiskFormat: "zvhd2", Name: "gold-windows-10", MinRAM: 2048, MinDisk: 80, CreatedAt: "2026-01-05T08:00:00Z"},
		{ID: OtherGoldImageID, ImageType: "gold", OSType: osWindows, Architecture: "x86", OSVersion: "Windows 11 Enterprise 64bit",
			DiskFormat: "zvhd2", Name: "gold-windows-11", MinRAM: 4096, MinDisk: 80, CreatedAt: "2026-01-06T08:00:00Z"},
		{ID: LinuxGoldImageID, ImageType: "gold", OSType: "Linux", Architecture: "x86", OSVersion: "UnionTechOS 20",
			DiskFormat: "zvhd2", Name: "gold-uos-20", MinRAM: 2048, MinDisk: 40, CreatedAt: "2026-01-07T08:00:00Z"},
		{ID: MarketImageID, ImageType: "market", OSType: osWindows, Architecture: "x86", OSVersion: "Windows Server 2019 Standard 64bit",
			DiskFormat: "zvhd2", Name: "market-windows-2019", MinRAM: 2048, MinDisk: 80, ProductCode: "OFFI000000000000001", CreatedAt: "2026-01-08T08:00:00Z"},
	}
}

// generate makes a fleet of n desktops. It is the same for the same n.
func generate(n int) State {
	st := State{Images: generatedImages(), Desktops: make([]Desktop, 0, n), Jobs: []Job{}}
	for i := range n {
		st.Desktops = append(st.Desktops, generatedDesktop(i, st.Images[0]))
	}
	return st
}

func generatedDesktop(i int, img Image) Desktop {
	name := fmt.Sprintf("WKS-%05d", i+1)
	user := fmt.Sprintf("user%05d", i+1)
	ip := fmt.Sprintf("172.%d.%d.%d", 16+i/(250*250)%16, i/250%250, i%250+2)
	mac := fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", i>>16&0xff, i>>8&0xff, i&0xff)
	root := madeUpID("root-volume", i)
	data := madeUpID("data-volume", i)
	return Desktop{
		DesktopID:    madeUpID("desktop", i),
		ComputerName: name,
		OSHostName:   name,
		Addresses: map[string][]Address{
			madeUpID("network", 0): {{Addr: ip, Version: "4", MAC: mac, Type: "fixed"}},
		},
		IPAddresses:   []string{ip},
		IPv4:          ip,
		UserList:      []string{user},
		UserGroupList: []string{},
		DesktopType:   "DEDICATED",
		Metadata: map[string]string{
			"charging_mode":             "0",
			metaImageName:               img.Name,
			metaImageID:                 img.ID,
			"metering.resourcespeccode": "workspace.x86.ultimate.large4",
			"metering.resourcetype":     "hws.resource.type.workspace.desktop",
			metaImageType:               img.ImageType,
			"os_bit":                    "64",
			metaOSType:                  img.OSType,
			metaOSVersion:               img.OSVersion,
		},
		Flavor:           &Flavor{ID: "workspace.x86.ultimate.large4", Links: []FlavorLink{}},
		Status:           statusActive,
		Created:          "2026-01-10T06:57:47.459Z",
		SecurityGroups:   []SecurityGroup{{ID: madeUpID("security-group", 0), Name: "WorkspaceUserSecurityGroup"}},
		LoginStatus:      loginRegistered,
		UserName:         user,
		AttachUserInfos:  []AttachUser{{UserID: madeUpID("user", i), UserName: user, UserGroup: "users", Type: "USER"}},
		ProductID:        "workspace.x86.ultimate.large4",
		RootVolume:       &Volume{Type: "SAS", Size: 80, Device: "/dev/sda", ID: plainID("root-disk", i), VolumeID: root, CreateTime: "2026-01-10T06:57:47Z", DisplayName: name + "-root"},
		DataVolumes:      []Volume{{Type: "SSD", Size: 50, Device: "/dev/sdb", ID: plainID("data-disk", i), VolumeID: data, CreateTime: "2026-01-10T06:57:47Z", DisplayName: name + "-data"}},
		UserGroup:        "users",
		AvailabilityZone: "emulated-1a",
		SiteType:         "CENTER",
		SiteName:         "center",
		Product: &Product{ProductID: "workspace.x86.ultimate.large4", FlavorID: "workspace.x86.ultimate.large4", Type: "BASE",
			CPU: "4", Memory: "8192", Descriptions: "CPU:4vCPUs,Memory:8GB", ChargeMode: "1"},
		OUName:              "default",
		OSVersion:           img.OSVersion,
		SID:                 madeUpID("sid", i),
		Tags:                []Tag{},
		InternetMode:        "NAT",
		AttachState:         "ATTACHED",
		EnterpriseProjectID: "0",
		SubnetID:            madeUpID("subnet", 0),
	}
}

// madeUpID returns an id in the form of a UUID, the same for the same input.
func madeUpID(kind string, i int) string {
	h := plainID(kind, i)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

// plainID returns 32 hex digits, the same for the same input.
func plainID(kind string, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, i))
	return hex.EncodeToString(sum[:16])
}
