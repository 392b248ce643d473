package config

// row has the properties of a setting beside its field: how it can be given, and how it is shown.
type row struct {
	variable string
	text     *string // its field; a text can also be given by a flag, by a file if it is a secret, or by the variable or
	other    any     // the value of a field of another type
	or       string  // the variable that is read if this one is not set
	secret   string  // how it is masked, see mask
}

// rows returns all settings, in the order in which they are shown.
func (c *Config) rows() []row {
	return []row{
		{variable: "HUAWEICLOUD_SDK_AK", text: &c.AK, or: "HW_ACCESS_KEY", secret: "begin"},
		{variable: "HUAWEICLOUD_SDK_SK", text: (*string)(&c.SK), or: "HW_SECRET_KEY", secret: "all"},
		{variable: "HUAWEICLOUD_SDK_SECURITY_TOKEN", text: (*string)(&c.SecurityToken), or: "HW_SECURITY_TOKEN", secret: "all"},
		{variable: "HUAWEICLOUD_SDK_PROJECT_ID", text: &c.ProjectID, or: "HW_PROJECT_ID"},
		{variable: "RECOMPOSE_AUTH_TOKEN", text: (*string)(&c.AuthToken), secret: "all"},
		{variable: "RECOMPOSE_IAM_ENDPOINT", text: (*string)(&c.IAMEndpoint), secret: "url"},
		{variable: "RECOMPOSE_IAM_USER", text: &c.IAMUser},
		{variable: "RECOMPOSE_IAM_PASSWORD", text: (*string)(&c.IAMPassword), secret: "all"},
		{variable: "RECOMPOSE_IAM_DOMAIN", text: &c.IAMDomain},
		{variable: "RECOMPOSE_AGENCY", text: &c.Agency},
		{variable: "RECOMPOSE_METADATA_ENDPOINT", text: (*string)(&c.MetadataEndpoint), secret: "url"},
		{variable: "RECOMPOSE_REGION", text: &c.Region, or: "HW_REGION_NAME"},
		{variable: "RECOMPOSE_WORKSPACE_ENDPOINT", text: (*string)(&c.WorkspaceEndpoint), secret: "url"},

		{variable: "HTTPS_PROXY", text: (*string)(&c.HTTPSProxy), or: "https_proxy", secret: "proxy"},
		{variable: "NO_PROXY", text: &c.NoProxy, or: "no_proxy"},
		{variable: "RECOMPOSE_PROXY", text: &c.Proxy},

		{variable: "NATS_URL", text: (*string)(&c.NATSURL), secret: "url"},
		{variable: "NATS_CREDS", text: &c.NATSCreds},
		{variable: "NATS_USER", text: &c.NATSUser},
		{variable: "NATS_PASSWORD", text: (*string)(&c.NATSPassword), secret: "all"},
		{variable: "NATS_CA", text: &c.NATSCA},
		{variable: "NATS_CERT", text: &c.NATSCert},
		{variable: "NATS_KEY", text: &c.NATSKey},
		{variable: "NATS_INBOX_PREFIX", text: &c.NATSInboxPrefix},

		{variable: "RECOMPOSE_DEPLOYMENT", text: &c.Deployment},
		{variable: "RECOMPOSE_NATS_REPLICAS", other: c.NATSReplicas},
		{variable: "RECOMPOSE_SETUP", text: &c.Setup},
		{variable: "RECOMPOSE_CONCURRENCY", other: c.Concurrency},
		{variable: "RECOMPOSE_READS_PER_MINUTE", other: c.ReadsPerMinute},
		{variable: "RECOMPOSE_WRITES_PER_MINUTE", other: c.WritesPerMinute},
		{variable: "RECOMPOSE_IMAGE_DEADLINE", other: c.ImageDeadline},
		{variable: "RECOMPOSE_REBUILD_DEADLINE", other: c.RebuildDeadline},
		{variable: "RECOMPOSE_COMMAND_MAX_AGE", other: c.CommandMaxAge},
		{variable: "RECOMPOSE_SIGNATURE_WINDOW", other: c.SignatureWindow},
		{variable: "RECOMPOSE_RESEND", text: &c.Resend},
		{variable: "RECOMPOSE_CONFLICT_DEADLINE", other: c.ConflictDeadline},
		{variable: "RECOMPOSE_MAX_DELAY_TIME", other: c.MaxDelayTime},
		{variable: "RECOMPOSE_ALLOW_DESKTOPS_FILE", text: &c.AllowDesktopsFile},
		{variable: "RECOMPOSE_DENY_DESKTOPS_FILE", text: &c.DenyDesktopsFile},
		{variable: "RECOMPOSE_BLANK_PERSONAL", other: c.BlankPersonal},
		{variable: "RECOMPOSE_HTTP_LISTEN", text: &c.HTTPListen},
		{variable: "RECOMPOSE_HTTP_HOSTS", text: &c.HTTPHosts},
		{variable: "RECOMPOSE_LOG_LEVEL", text: &c.LogLevel},

		{variable: "RECOMPOSE_TOPIC_ARN", text: &c.TopicARN},
		{variable: "RECOMPOSE_QUEUE_URL", text: &c.QueueURL},
		{variable: "RECOMPOSE_DEAD_LETTER_QUEUE_URL", text: &c.DeadLetterQueueURL},
		{variable: "RECOMPOSE_TABLE", text: &c.Table},
		{variable: "RECOMPOSE_SECRET_ARN", text: &c.SecretARN},
		{variable: "RECOMPOSE_SANDBOXES", other: c.Sandboxes},
		{variable: "RECOMPOSE_READS_SHARE", other: c.ReadsShare},
		{variable: "RECOMPOSE_WRITES_SHARE", other: c.WritesShare},
	}
}
