// Package api answers those who ask what a user is right now. It reads from memory and never touches Temporal or ClickHouse,
// so it answers in microseconds, as often as a page is loaded, and while both are away. The results of experiments are the
// exception: whoever builds the server gives it something that reads them.
//
//	ONRAMP_PROFILES ──▶ Mirror (every user's newest profile, in memory) ──▶ Server ──▶ GET /v1/users/{id}
//
//	mirror.go   the profiles in memory, kept up to date by the stream
//	server.go   the HTTP server: its life, its limits, its routes
//	users.go    one user's profile
//	experiments.go   results of experiments, as JSON and as a page
//	health.go   is the process alive, is it ready, and if not, what is missing
//	index.go    a page for people: where the user interfaces are
//	guard.go    what every request passes: host, request id, headers, access log
//	answer.go   the shape of answers and of errors
//
// Nothing here creates or changes a user: an id nobody has seen is `not_found`, however often it is asked for. Raw ids are
// turned into user tokens at the door and stand in no log line. There is no authentication yet: the server listens on
// loopback by default and belongs behind a gateway that knows its callers.
package api
