package playbook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Limits of a bundle.
const (
	MaxFiles     = 64
	MaxFileBytes = 1 << 20
)

// Bundle is a playbook as text: its files by name, and the factor on every duration in them (1 in earnest; a demo makes
// days into seconds). It is what is stored, sent and hashed.
type Bundle struct {
	Scale float64           `json:"scale"`
	Files map[string]string `json:"files"`
}

// Hash names the bundle's content: 12 hex characters, the same for the same files and scale.
func (b Bundle) Hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%g\n", b.Scale) // hash.Hash never returns an error
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		fmt.Fprintf(h, "%d:%s%d:%s", len(name), name, len(b.Files[name]), b.Files[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Encode returns the bundle as JSON.
func (b Bundle) Encode() ([]byte, error) { return json.Marshal(b) }

// DecodeBundle is the inverse of Encode.
func DecodeBundle(raw []byte) (Bundle, error) {
	var b Bundle
	if err := json.Unmarshal(raw, &b); err != nil {
		return Bundle{}, fmt.Errorf("decode playbook bundle: %w", err)
	}
	return b, nil
}
