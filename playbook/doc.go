// Package playbook reads what growth engineers write: a folder of YAML files that declares events and traits, and defines
// segments, experiments, actions and journeys. Everything is checked before it can run, all problems are reported at once,
// each with file, line and column. One hash of the content names the version.
//
//	files ──▶ Bundle ──▶ Compile ──▶ Playbook (immutable, shared by every workflow of that version)
//	                         └──▶ Problems (file:line:column, what is wrong, what to do)
//
// Pure: files come in as text, time never does. It knows nothing of users; package journey moves users through a Playbook.
package playbook
