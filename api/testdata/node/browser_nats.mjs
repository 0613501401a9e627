// A page of a user over WebSocket: node browser_nats.mjs <ws url> <its credentials> <another's> <its credentials, soon over>.
import { WebSocket } from 'ws'
import { wsconnect, jwtAuthenticator, PermissionViolationError } from '@nats-io/nats-core'

const [, , url, ...given] = process.argv
const [mine, theirs, short] = given.map((text) => JSON.parse(text))
// Node 20 has no WebSocket of its own. A browser says where its page is from.
globalThis.WebSocket = class extends WebSocket { constructor (u, p) { super(u, p, { headers: { origin: 'https://app.example.com' } }) } }
const open = (c) => {
  return wsconnect({ servers: url, authenticator: jwtAuthenticator(c.jwt), inboxPrefix: c.inbox_prefix, reconnect: false, timeout: 5000 })
}
const text = (value) => JSON.stringify(value)
const seen = { denied: [] }

const soon = await open(short)
const nc = await open(mine)
const sub = nc.subscribe(mine.subjects.changes)
const first = (async () => { for await (const m of sub) return m.json().sequence })()
await nc.flush()
seen.profile = (await nc.request(mine.subjects.profile, '', { timeout: 5000 })).json().user_token
const flags = (await nc.request(mine.subjects.flags, '', { timeout: 5000 })).json().flags
seen.flags = flags.length
seen.explanations = flags.filter((f) => f.metadata?.explanation).length
const event = { event_name: 'report_viewed', event_id: 'page-1', user_id: 'Jürgen', properties: { feature: 'ü' } }
seen.tracked = (await nc.request(mine.subjects.track, text(event), { timeout: 5000 })).json().message_id
seen.refused = (await nc.request(mine.subjects.track, text({ event_name: 'x', secret: 1 }), { timeout: 5000 })).headers.get('Nats-Service-Error-Code')
seen.change = await first

for (const subject of [theirs.subjects.track, theirs.subjects.profile, theirs.subjects.flags, 'onramp.events.web', 'onramp.v1.profile', '$JS.API.INFO']) {
  try {
    await nc.request(subject, text(event), { timeout: 3000 })
  } catch (e) {
    if (e instanceof PermissionViolationError || e.cause instanceof PermissionViolationError) seen.denied.push(subject)
  }
}
for (const subject of [theirs.subjects.changes, 'onramp.profiles.>', 'onramp.events.>']) {
  try {
    for await (const m of nc.subscribe(subject)) throw new Error(`heard ${m.subject}`)
  } catch (e) {
    if (e instanceof PermissionViolationError || e.cause instanceof PermissionViolationError) seen.denied.push(subject)
  }
}
await nc.close()

seen.ended = String((await soon.closed())?.message)
seen.origin = await new Promise((done) => {
  const ws = new WebSocket(url, { headers: { origin: 'https://evil.example.com' } })
  ws.on('open', () => done('let in'))
  ws.on('unexpected-response', (_, response) => done(String(response.statusCode)))
  ws.on('error', (e) => done(String(e)))
})
console.log(text(seen))
process.exit(0)
