// A page that publishes an event over WebSocket and waits for a segment of its user: node segment_nats.mjs <ws url> <credentials> <event> <segment>.
// Prints how many milliseconds that took.
import { WebSocket } from 'ws'
import { wsconnect, jwtAuthenticator } from '@nats-io/nats-core'

const [, , url, given, name, segment] = process.argv
const mine = JSON.parse(given)
globalThis.WebSocket = WebSocket // Node 20 has none of its own
const nc = await wsconnect({ servers: url, authenticator: jwtAuthenticator(mine.jwt), inboxPrefix: mine.inbox_prefix, reconnect: false })
const sub = nc.subscribe(mine.subjects.changes)
await nc.flush()
const once = async (id) => {
  const began = performance.now()
  const answer = (await nc.request(mine.subjects.track, JSON.stringify({ event_name: name, event_id: id }), { timeout: 10000 })).json()
  for await (const m of sub) {
    const member = m.json().segments.find((s) => s.segment === segment)
    if (member?.in) return { took: performance.now() - began, answer, user: m.json().user_token }
  }
}
console.log(JSON.stringify(await once('page-1')))
process.exit(0)
