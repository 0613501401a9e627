// CloudEvents through NATS: node cloudevents.mjs publish <nats url> sends one in each mode and prints them;
// node cloudevents.mjs read <nats url> <stream> <n> prints the first n messages of the stream as the package reads them.
import { CloudEvent, HTTP } from 'cloudevents'
import { connect, headers } from '@nats-io/transport-node'
import { jetstream } from '@nats-io/jetstream'

const [, , what, url, ...rest] = process.argv
const nc = await connect({ servers: url })
const js = jetstream(nc)

// The binding for NATS wants what the one for HTTP wants: printable ASCII without space, quote and percent sign, the rest encoded.
const encode = (text) => [...new TextEncoder().encode(text)].map((c) => c <= 32 || c > 126 || c === 34 || c === 37
  ? '%' + c.toString(16).toUpperCase().padStart(2, '0') : String.fromCharCode(c)).join('')

const publish = async ({ headers: fields, body }, id, turn) => {
  const h = headers()
  for (const [name, value] of Object.entries(fields)) h.set(name, turn(value))
  h.set('Nats-Msg-Id', id)
  await js.publish('onramp.events.js', body, { headers: h })
}

const event = (id, subject) => new CloudEvent({
  id, source: '/js', type: 'com.example.report.viewed.v1', subject, time: '2026-11-24T09:00:00.25Z', data: { feature: 'Übersicht', n: 3 }, partitionkey: 'ä b', sequence: '7',
})

const read = async (stream, count) => {
  const consumer = await js.consumers.get(stream)
  const found = []
  for await (const m of await consumer.fetch({ max_messages: count, expires: 10000 })) {
    const fields = {}
    for (const name of m.headers.keys()) fields[name.toLowerCase()] = decodeURIComponent(m.headers.get(name))
    const { id, source, type, subject, time, data, specversion, datacontenttype } = HTTP.toEvent({ headers: fields, body: m.string() })
    found.push({ id, source, type, subject, time, data, specversion, datacontenttype })
  }
  return found
}

try {
  let answer
  if (what === 'publish') {
    const [plain, encoded, structured] = [event('1', 'Jürgen'), event('2', 'Jürgen 100% "x"'), event('3', 'Jürgen 100% "x"')]
    await publish(HTTP.binary(plain), '/js 1', (text) => text) // as the package makes it
    await publish(HTTP.binary(encoded), '/js 2', encode)
    await publish(HTTP.structured(structured), '/js 3', (text) => text)
    answer = [plain, encoded, structured]
  } else {
    answer = await read(rest[0], Number(rest[1]))
  }
  console.log(JSON.stringify(answer))
} finally {
  await nc.close()
}
