// Three publishers who trace what they do: node traces.mjs <ws url> <credentials> <api url> <traceparent> <traceparent> <traceparent>. The first
// event comes from a page over WebSocket, the second from a service over WebSocket straight into the stream, the third over HTTP. Prints how
// each was answered.
import { WebSocket } from 'ws'
import { wsconnect, jwtAuthenticator, headers } from '@nats-io/nats-core'
import { jetstream } from '@nats-io/jetstream'

const [, , url, given, api, page, service, http] = process.argv
const mine = JSON.parse(given)
globalThis.WebSocket = WebSocket // Node 20 has none of its own
const traced = (parent) => {
  const h = headers()
  h.set('traceparent', parent)
  return h
}
const nc = await wsconnect({ servers: url, authenticator: jwtAuthenticator(mine.jwt), inboxPrefix: mine.inbox_prefix, reconnect: false })
const first = (await nc.request(mine.subjects.track, JSON.stringify({ event_name: 'signed_up', event_id: 'by-page' }), { timeout: 10000, headers: traced(page) })).json()
await nc.close()

const plain = await wsconnect({ servers: url, reconnect: false })
const event = { event_name: 'signed_up', event_id: 'by-service', user_id: 'service@example.com' }
const second = await jetstream(plain).publish('onramp.events.crm', JSON.stringify(event), { headers: traced(service), msgID: 'by-service' })
await plain.close()

const third = await fetch(`${api}/v1/track`, {
  method: 'POST', headers: { 'content-type': 'application/json', traceparent: http },
  body: JSON.stringify({ messageId: 'by-http', userId: 'http@example.com', event: 'Signed Up' }),
})
console.log(JSON.stringify({ page: first.message_id, service: second.stream, http: (await third.json()).message_id }))
process.exit(0)
