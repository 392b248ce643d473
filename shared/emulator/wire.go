package emulator

// The types of this file have the JSON names of the Workspace API. The field "_emulator" is an addition: it holds what
// the service knows but never returns, and appears only in [State] and in seeds.

// Desktop is a desktop in the form of GET desktops/{desktop_id}.
type Desktop struct {
	DesktopID           string               `json:"desktop_id"`
	ComputerName        string               `json:"computer_name"`
	OSHostName          string               `json:"os_host_name,omitempty"`
	Addresses           map[string][]Address `json:"addresses,omitempty"`
	IPAddresses         []string             `json:"ip_addresses,omitempty"`
	IPv4                string               `json:"ipv4,omitempty"`
	UserList            []string             `json:"user_list,omitempty"`
	UserGroupList       []string             `json:"user_group_list,omitempty"`
	DesktopType         string               `json:"desktop_type,omitempty"`
	Metadata            map[string]string    `json:"metadata"`
	Flavor              *Flavor              `json:"flavor,omitempty"`
	Status              string               `json:"status"`
	TaskStatus          string               `json:"task_status"`
	Process             *int                 `json:"process"`
	Created             string               `json:"created,omitempty"`
	SecurityGroups      []SecurityGroup      `json:"security_groups,omitempty"`
	LoginStatus         string               `json:"login_status"`
	UserName            string               `json:"user_name,omitempty"`
	AttachUserInfos     []AttachUser         `json:"attach_user_infos,omitempty"`
	ProductID           string               `json:"product_id,omitempty"`
	RootVolume          *Volume              `json:"root_volume,omitempty"`
	DataVolumes         []Volume             `json:"data_volumes,omitempty"`
	UserGroup           string               `json:"user_group,omitempty"`
	AvailabilityZone    string               `json:"availability_zone,omitempty"`
	SiteType            string               `json:"site_type,omitempty"`
	SiteName            string               `json:"site_name,omitempty"`
	Product             *Product             `json:"product,omitempty"`
	OUName              string               `json:"ou_name,omitempty"`
	OSVersion           string               `json:"os_version,omitempty"`
	SID                 string               `json:"sid,omitempty"`
	OrderID             string               `json:"order_id,omitempty"`
	Tags                []Tag                `json:"tags"`
	InternetMode        string               `json:"internet_mode,omitempty"`
	IsAttachingEIP      bool                 `json:"is_attaching_eip"`
	AttachState         string               `json:"attach_state,omitempty"`
	EnterpriseProjectID string               `json:"enterprise_project_id,omitempty"`
	SubnetID            string               `json:"subnet_id,omitempty"`
	PoolID              string               `json:"pool_id,omitempty"` // in the state; in answers only with the quirk list-pool-id
	InMaintenanceMode   bool                 `json:"in_maintenance_mode"`
	Notes               *DesktopNotes        `json:"_emulator,omitempty"`
}

// DesktopNotes is what the emulator records of a desktop beyond the API.
type DesktopNotes struct {
	// UserDataWiped is set by an image job with sysprep or is_clear_data.
	UserDataWiped bool `json:"user_data_wiped,omitempty"`
	// Rebuilds counts the rebuilds that replaced the system disk.
	Rebuilds int `json:"rebuilds,omitempty"`
	// RebuiltInUse counts those of them that the service accepted while a user was logged in or had left a session.
	RebuiltInUse int `json:"rebuilt_in_use,omitempty"`
}

// Address is one address of a desktop.
type Address struct {
	Addr    string `json:"addr"`
	Version string `json:"version"`
	MAC     string `json:"OS-EXT-IPS-MAC:mac_addr,omitempty"`
	Type    string `json:"OS-EXT-IPS:type,omitempty"`
}

// Flavor is a desktop's size. The service writes hrel, not href.
type Flavor struct {
	ID    string       `json:"id"`
	Links []FlavorLink `json:"links"`
}

// FlavorLink is one link of a [Flavor].
type FlavorLink struct {
	Rel  string `json:"rel"`
	Hrel string `json:"hrel"`
}

// SecurityGroup is one security group of a desktop.
type SecurityGroup struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// AttachUser is a user to whom a desktop is assigned.
type AttachUser struct {
	UserID    string `json:"user_id"`
	UserName  string `json:"user_name"`
	UserGroup string `json:"user_group,omitempty"`
	Type      string `json:"type,omitempty"`
}

// Volume is a disk of a desktop.
type Volume struct {
	Type        string `json:"type"`
	Size        int    `json:"size"`
	Device      string `json:"device,omitempty"`
	ID          string `json:"id,omitempty"`
	VolumeID    string `json:"volume_id,omitempty"`
	CreateTime  string `json:"create_time,omitempty"`
	DisplayName string `json:"display_name,omitempty"`
}

// Product is the package under which a desktop was bought. Numbers are strings.
type Product struct {
	ProductID    string `json:"product_id"`
	FlavorID     string `json:"flavor_id,omitempty"`
	Type         string `json:"type,omitempty"`
	CPU          string `json:"cpu,omitempty"`
	Memory       string `json:"memory,omitempty"`
	Descriptions string `json:"descriptions,omitempty"`
	ChargeMode   string `json:"charge_mode,omitempty"`
}

// Tag is a key and a value.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// DesktopImage is one entry of the answer of check-images.
type DesktopImage struct {
	DesktopID string `json:"desktop_id"`
	ImageID   string `json:"image_id,omitempty"`
	ImageName string `json:"image_name,omitempty"`
	ImageType string `json:"image_type,omitempty"`
	OSType    string `json:"os_type,omitempty"`
}

// Image is an image in the form of GET images. Market images are in the state, but that call never lists them.
type Image struct {
	ID           string      `json:"id"`
	ImageType    string      `json:"image_type"`
	OSType       string      `json:"os_type"`
	Architecture string      `json:"architecture,omitempty"`
	OSVersion    string      `json:"os_version,omitempty"`
	DiskFormat   string      `json:"disk_format,omitempty"`
	Name         string      `json:"name"`
	MinRAM       int         `json:"min_ram"`
	MinDisk      int         `json:"min_disk,omitempty"`
	ProductCode  string      `json:"product_code,omitempty"`
	CreatedAt    string      `json:"created_at,omitempty"`
	Notes        *ImageNotes `json:"_emulator,omitempty"`
}

// ImageNotes is what the emulator records of an image beyond the API.
type ImageNotes struct {
	SourceDesktopID     string `json:"source_desktop_id,omitempty"`
	JobID               string `json:"job_id,omitempty"`
	Description         string `json:"image_description,omitempty"`
	Tags                []Tag  `json:"image_tags,omitempty"`
	EnterpriseProjectID string `json:"enterprise_project_id,omitempty"`
	MaxRAM              string `json:"max_ram,omitempty"`
	Sysprep             bool   `json:"execute_sysprep,omitempty"`
	ClearData           bool   `json:"is_clear_data,omitempty"`
}

// Job is a whole job in the form of GET workspace-jobs/{job_id}.
type Job struct {
	ID           string    `json:"id"`
	JobType      string    `json:"job_type"`
	BeginTime    string    `json:"begin_time"`
	EndTime      string    `json:"end_time,omitempty"`
	Status       string    `json:"status"`
	ErrorCode    string    `json:"job_error_code,omitempty"`
	FailReason   string    `json:"fail_reason,omitempty"`
	SubJobsTotal int       `json:"sub_jobs_total"`
	SubJobs      []SubJob  `json:"sub_jobs"`
	Notes        *JobNotes `json:"_emulator,omitempty"`
}

// SubJob is the part of a job that concerns one desktop.
type SubJob struct {
	ID          string       `json:"id"`
	JobID       string       `json:"job_id"`
	JobType     string       `json:"job_type"`
	Entities    Entities     `json:"entities"`
	BeginTime   string       `json:"begin_time"`
	EndTime     string       `json:"end_time,omitempty"`
	Status      string       `json:"status"`
	Process     int          `json:"process"`
	ErrorCode   string       `json:"error_code,omitempty"`
	FailReason  string       `json:"fail_reason,omitempty"`
	Message     string       `json:"message,omitempty"`
	DesktopName string       `json:"desktop_name,omitempty"`
	MACAddress  string       `json:"mac_address,omitempty"`
	ProjectID   string       `json:"project_id,omitempty"`
	AttachUser  string       `json:"attach_user,omitempty"`
	IPAddress   string       `json:"ip_address,omitempty"`
	Notes       *SubJobNotes `json:"_emulator,omitempty"`
}

// Entities names what a sub-job works on. It never names an image.
type Entities struct {
	DesktopID   string `json:"desktop_id"`
	ProductID   string `json:"product_id,omitempty"`
	UserName    string `json:"user_name,omitempty"`
	DesktopName string `json:"desktop_name,omitempty"`
	IPAddress   string `json:"ip_address,omitempty"`
}
