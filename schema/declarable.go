package schema

import (
	"strings"
	"unicode"
)

// maxDeclarable is the longest name that a playbook can declare.
const maxDeclarable = 63

// DeclarableName turns a name into one that a playbook can declare, as warehouses do with the names of tracking SDKs: `Trial
// Started` and `trialStarted` become trial_started. A name that cannot be made one stays as it is, and reaches the archive alone.
func DeclarableName(name string) string {
	if isDeclarable(name) {
		return name
	}
	var b strings.Builder
	var before rune
	for _, r := range name {
		switch {
		case r == ' ' || r == '-' || r == '.' || r == '/' || r == '_':
			if b.Len() > 0 && before != '_' {
				b.WriteByte('_')
			}
			before = '_'
			continue
		case unicode.IsUpper(r) && (unicode.IsLower(before) || unicode.IsDigit(before)):
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
		before = r
	}
	if turned := strings.TrimRight(b.String(), "_"); isDeclarable(turned) {
		return turned
	}
	return name
}

func isDeclarable(name string) bool {
	return name != "" && len(name) <= maxDeclarable && name[0] >= 'a' && name[0] <= 'z' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
