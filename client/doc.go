// Package client is what a Go service needs of Onramp: it publishes events, carries out actions, and asks for profiles and flags, all over
// one connection to NATS.
//
//	service ── Publish ──▶ ONRAMP_EVENTS        acknowledged, and once however often it is sent
//	service ◀── Handle ─── ONRAMP_ACTIONS       each action once
//	service ── Profile, Flag, Flags ──▶ API     from memory
//
// It holds no connection of its own and no goroutine outlives a call. What it does can be done with any client of NATS: docs/nats.md.
package client
