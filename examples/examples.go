// Package examples carries the example playbooks, so that the program can run them anywhere.
package examples

import "embed"

// Files holds one folder a playbook.
//
//go:embed saas-onboarding app-onboarding
var Files embed.FS
