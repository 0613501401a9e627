package playbook

import _ "embed"

//go:embed playbook.schema.json
var schemaText string

// Schema returns the JSON Schema (draft 2020-12) of a playbook's files, with which editors complete and check while one
// types. What takes more than one place to see, such as an event that is not declared, Compile alone finds.
func Schema() string { return schemaText }
