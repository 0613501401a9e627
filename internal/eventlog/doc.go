// Package eventlog reads an event log that somebody else recorded, a CSV or JSON Lines file out of a warehouse or an
// analytics tool, and turns its rows into events that Onramp takes. It is the reading half of `onramp replay FILE…`.
//
//	files ──▶ Read ──▶ Record ──▶ collected by the caller ──▶ Sort ──▶ Identify ──▶ replay
//	           └─────▶ Reject (file, line, reason, what to mend, the line)
//
// A [Mapping] says which column or field is what; without one the columns are guessed from their names. It comes from
// flags or from a small YAML file ([LoadMapping]):
//
//	user: user_pseudo_id           # the four names; a dotted path reaches into JSON objects
//	event: event_name
//	time: event_timestamp
//	event_id: insert_id            # optional; without it Identify makes ids
//	time_layout: "02.01.2006 15:04:05"     # for text; or time_unit: rfc3339, s, ms, us, ns or auto
//	zone: Europe/Berlin            # for times that name no zone
//	properties: [plan, source=utm_source]  # name=column renames; "*" is all other columns
//	traits: [country]
//	rename: {onboarding_welcome_screen: welcome_shown}
//
// What it holds to:
//
//   - A time never passes through a float64, so 19-digit nanoseconds stay exact. A number without a unit is read by its
//     digits (10 seconds, 13 milliseconds, 16 microseconds, 19 nanoseconds); any other length is refused, not guessed.
//     A local time that a clock change skipped is refused; of one that happened twice the earlier is taken.
//   - CSV is strict (RFC 4180, a header, no lazy quotes). A quoted field may span lines; line numbers are those of the
//     file. A quote that is never closed costs its own line, not the rest of the file.
//   - A CSV property that is an integer, a decimal, true or false becomes a JSON number or boolean; everything else, also
//     007, 1e5, True and whole numbers beyond 64 bits, stays a string. An empty field is absent. Nothing is trimmed but
//     header names and times.
//   - JSON Lines is strict: one object a line, no name twice, valid UTF-8. Its values pass through as they are.
//   - Every record has passed [schema.DecodeEvent]; whatever does not becomes a Reject with the reason that ingestion
//     would give, and reading goes on. Lines and rows of more than [MaxLine] bytes are rejected without being held.
//   - A file that cannot be read to its end (cut gzip, disk error) is an error, never a short log.
//
// It does not keep records, publish, move a clock, or judge a time against now: replay does. A log is one order of rows;
// equal rows stay apart, because people truly do the same thing twice in one instant of a coarse clock.
package eventlog
