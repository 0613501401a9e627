// Package worker binds the workflow and the activities to a Temporal task queue, and keeps the playbooks at hand that they
// run by.
//
// Library holds playbooks in the ONRAMP_PLAYBOOKS object store: the content under its hash, immutable, and under `current`
// the hash that new events are read with. A worker asks by hash and gets what the first execution got, which is what keeps a
// replay deterministic.
package worker
