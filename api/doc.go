// Package api answers those who ask what a user is right now, and takes events from those who speak HTTP. It reads from memory and
// never touches Temporal or ClickHouse, so it answers in microseconds, as often as a page is loaded, and while both are away. The
// results of experiments, what a user was, and who waits for an event are the exceptions: whoever builds the server gives it something
// that knows them.
//
//	ONRAMP_PROFILES ──▶ Mirror (every user's newest profile, in memory) ──▶ Server ──▶ GET /v1/users/{id}
//	POST /v1/track … ──▶ translate ──▶ intake ──▶ ONRAMP_EVENTS, and only then 200
//
//	mirror.go   the profiles in memory, kept up to date by the stream
//	server.go   the HTTP server: its life, its limits, its routes
//	users.go    one user's profile
//	tracking.go the calls of the Segment and RudderStack SDKs: routes, batches, verdicts
//	await.go    the profile with the event of a call in it
//	body.go     how a body is read: inflated, and bounded
//	translate.go   one call of an SDK becomes one event; pure
//	intake.go   events into the stream, and whether it has them
//	keys.go     the file of keys: who may ask, and how often
//	auth.go     the key of a request; pages of other origins
//	token.go    what is signed: page tokens, and the tickets of event streams
//	ofrep.go    segments, variants and journeys as flags, for OpenFeature's providers
//	answers.go  flags as they are sent, kept for those who ask again
//	exposure.go whom the flags of experiments have treated, put on record
//	stream.go   event streams: the flags have changed
//	watch.go    who wants to know when a profile changes
//	experiments.go   results of experiments, as JSON and as a page
//	health.go   is the process alive, is it ready, and if not, what is missing
//	index.go    a page for people: where the user interfaces are
//	guard.go    what every request passes: host, request id, headers, access log
//	answer.go   the shape of answers and of errors
//
// Nothing here creates or changes a user: an id nobody has seen is `not_found`, however often it is asked for. Raw ids are
// turned into user tokens at the door and stand in no log line. Without keys the server listens on loopback only.
package api
