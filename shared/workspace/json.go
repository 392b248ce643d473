package workspace

// decodeObject reads and encodeObject writes every object. encoding/json calls them only through a method on each
// type.

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (d *Desktop) UnmarshalJSON(data []byte) error { return decodeObject(data, d) }

// MarshalJSON writes the one published form, unknown fields included.
func (d Desktop) MarshalJSON() ([]byte, error) { return encodeObject(d) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (a *Address) UnmarshalJSON(data []byte) error { return decodeObject(data, a) }

// MarshalJSON writes the one published form, unknown fields included.
func (a Address) MarshalJSON() ([]byte, error) { return encodeObject(a) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (f *Flavor) UnmarshalJSON(data []byte) error { return decodeObject(data, f) }

// MarshalJSON writes the one published form, unknown fields included.
func (f Flavor) MarshalJSON() ([]byte, error) { return encodeObject(f) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (f *FlavorLink) UnmarshalJSON(data []byte) error { return decodeObject(data, f) }

// MarshalJSON writes the one published form, unknown fields included.
func (f FlavorLink) MarshalJSON() ([]byte, error) { return encodeObject(f) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (s *SecurityGroup) UnmarshalJSON(data []byte) error { return decodeObject(data, s) }

// MarshalJSON writes the one published form, unknown fields included.
func (s SecurityGroup) MarshalJSON() ([]byte, error) { return encodeObject(s) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (a *AttachUser) UnmarshalJSON(data []byte) error { return decodeObject(data, a) }

// MarshalJSON writes the one published form, unknown fields included.
func (a AttachUser) MarshalJSON() ([]byte, error) { return encodeObject(a) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (v *Volume) UnmarshalJSON(data []byte) error { return decodeObject(data, v) }

// MarshalJSON writes the one published form, unknown fields included.
func (v Volume) MarshalJSON() ([]byte, error) { return encodeObject(v) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (p *Product) UnmarshalJSON(data []byte) error { return decodeObject(data, p) }

// MarshalJSON writes the one published form, unknown fields included.
func (p Product) MarshalJSON() ([]byte, error) { return encodeObject(p) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (t *Tag) UnmarshalJSON(data []byte) error { return decodeObject(data, t) }

// MarshalJSON writes the one published form, unknown fields included.
func (t Tag) MarshalJSON() ([]byte, error) { return encodeObject(t) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (h *HourPackage) UnmarshalJSON(data []byte) error { return decodeObject(data, h) }

// MarshalJSON writes the one published form, unknown fields included.
func (h HourPackage) MarshalJSON() ([]byte, error) { return encodeObject(h) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (i *ImageInfo) UnmarshalJSON(data []byte) error { return decodeObject(data, i) }

// MarshalJSON writes the one published form, unknown fields included.
func (i ImageInfo) MarshalJSON() ([]byte, error) { return encodeObject(i) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (s *SubJob) UnmarshalJSON(data []byte) error { return decodeObject(data, s) }

// MarshalJSON writes the one published form, unknown fields included.
func (s SubJob) MarshalJSON() ([]byte, error) { return encodeObject(s) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (j *JobEntities) UnmarshalJSON(data []byte) error { return decodeObject(data, j) }

// MarshalJSON writes the one published form, unknown fields included.
func (j JobEntities) MarshalJSON() ([]byte, error) { return encodeObject(j) }

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (i *Image) UnmarshalJSON(data []byte) error { return decodeObject(data, i) }

// MarshalJSON writes the one published form, unknown fields included.
func (i Image) MarshalJSON() ([]byte, error) { return encodeObject(i) }
