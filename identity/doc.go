// Package identity says which users are one. Pure: no clock, no I/O; the same stream gives the same links to whoever reads it, so ingest,
// `onramp verify` and a backtest cannot disagree.
//
// A Book is read in the order of the stream. An event that names a visitor beside its user (`user_id` and `anonymous_id`), or an `alias`
// (`user_id` and `previous_id`), joins the other to the user from that event on: what came for the other before it stays the other's, what
// comes after it is the user's.
//
//	visitor ──▶ user                     the first link of a visitor stands; a later user of the same browser takes nobody over
//	user ──▶ user                        by an alias alone
//	a ──▶ b ──▶ c                        a's events are c's from then on
//	c ──▶ a                              refused: merge_cycle
//
// Nothing is ever taken back, and each link is known by the place of its event in the stream. A reader that begins again somewhere in the
// middle, with links of a later part of the stream in its book already, therefore rules as it did the first time.
package identity
