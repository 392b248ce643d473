package workspace

// The parts of a desktop. Any field may be absent, and fields not listed are in Extra.

// Address is AddressInfo, one address of a desktop. Source: vendor page.
type Address struct {
	Addr    string `json:"addr"`
	Version string `json:"version"` // "4" or "6"
	MACAddr string `json:"OS-EXT-IPS-MAC:mac_addr"`
	Type    string `json:"OS-EXT-IPS:type"` // fixed, floating
	Extra   Extra  `json:"-"`
}

// Flavor is FlavorInfo. Source: vendor page.
type Flavor struct {
	ID    string       `json:"id"`
	Links []FlavorLink `json:"links"` // empty in samples
	Extra Extra        `json:"-"`
}

// FlavorLink is FlavorLinkInfo. The service writes hrel in the place of href; both are read.
type FlavorLink struct {
	Rel   string `json:"rel"`
	Hrel  string `json:"hrel" also:"href"`
	Extra Extra  `json:"-"`
}

// SecurityGroup is a security group of a desktop. Source: vendor page; Name Go SDK and definitions.
type SecurityGroup struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Extra Extra  `json:"-"`
}

// AttachUser is AttachInstancesUserInfo, a user or group that a desktop is assigned to. Source: vendor page; Type
// definitions.
type AttachUser struct {
	UserID    string `json:"user_id"`
	UserName  string `json:"user_name"`
	UserGroup string `json:"user_group"`
	Type      string `json:"type"` // USER (default), GROUP
	Extra     Extra  `json:"-"`
}

// Volume is VolumeDetail, a disk. A rebuild changes the root volume's VolumeID and CreateTime (inferred). Source: vendor
// page; BillResourceID definitions; the last five Go SDK.
type Volume struct {
	Type              string `json:"type"` // an open word: SAS, SSD, SATA, GPSSD, GPSSD2, …
	Size              *int64 `json:"size"` // GB
	Device            string `json:"device"`
	ID                string `json:"id"`
	VolumeID          string `json:"volume_id"`
	CreateTime        Time   `json:"create_time"`
	DisplayName       string `json:"display_name"`
	BillResourceID    string `json:"bill_resource_id"`
	KMSID             string `json:"kms_id"`
	IOPS              *int64 `json:"iops"`
	Throughput        *int64 `json:"throughput"`
	DesktopPoolDiskID string `json:"desktop_pool_disk_id"`
	ResourceSpecCode  string `json:"resource_spec_code"`
	Extra             Extra  `json:"-"`
}

// Product is ProductInfo, the billed product. CPU, Memory and ChargeMode are strings on the wire. The meaning of
// ChargeMode's 0 and 1 differs between the vendor's sources: forward it, do not interpret it. Source: vendor page;
// from Architecture on Go SDK.
type Product struct {
	ProductID         string `json:"product_id"`
	FlavorID          string `json:"flavor_id"`
	Type              string `json:"type"`
	CPU               string `json:"cpu"`
	Memory            string `json:"memory"` // MB
	Descriptions      string `json:"descriptions" also:"description"`
	ChargeMode        string `json:"charge_mode"`
	Architecture      string `json:"architecture"`
	IsGPU             *bool  `json:"is_gpu"`
	PackageType       string `json:"package_type"`
	SystemDiskType    string `json:"system_disk_type"`
	SystemDiskSize    string `json:"system_disk_size"` // GB
	ContainDataDisk   *bool  `json:"contain_data_disk"`
	ResourceType      string `json:"resource_type"`
	CloudServiceType  string `json:"cloud_service_type"`
	VolumeProductType string `json:"volume_product_type"`
	Status            string `json:"status"`
	Extra             Extra  `json:"-"`
}

// Tag is a tag of a desktop. Source: vendor page.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Extra Extra  `json:"-"`
}

// HourPackage is HourPackageInfo, the billing package of a desktop. Source: Go SDK.
type HourPackage struct {
	RootOrderID             string `json:"root_order_id"`
	PackageResourceID       string `json:"package_resource_id"`
	PackageInstanceID       string `json:"package_instance_id"`
	PackageSpecCode         string `json:"package_spec_code"`
	CombinedProductTypeCode string `json:"combined_product_type_code"`
	UseUpPolicy             string `json:"use_up_policy"` // SHUTDOWN_OR_HIBERNATE, PAY_PER_USE
	PackageDuration         *int64 `json:"package_duration"`
	UseDuration             *int64 `json:"use_duration"`
	Extra                   Extra  `json:"-"`
}
