// Many calls of the Segment SDK over some time, whatever becomes of the server meanwhile: node flood.mjs <url> <key> <calls> <seconds>.
// Prints {"errors":[…],"ids":[…]}, the message id of every call.
import { Analytics } from '@segment/analytics-node'

const [, , url, key, calls, seconds] = process.argv
const errors = []
const ids = []
const a = new Analytics({ writeKey: key, host: url, maxRetries: 60, flushAt: 20, flushInterval: 200, httpRequestTimeout: 5000 })
a.on('error', (e) => errors.push(`${e.code}: ${e.reason?.message ?? e.reason}`))
const pause = (1000 * Number(seconds)) / Number(calls)
const began = Date.now()
for (let n = 0; n < Number(calls); n++) {
  const messageId = `flood-${n}`
  ids.push(messageId)
  a.track({ userId: `flooded-${n % 40}`, event: n % 10 ? 'Used' : 'Started', messageId, properties: { n } })
  const ahead = began + pause * n - Date.now()
  if (ahead > 0) await new Promise((done) => setTimeout(done, ahead))
}
await a.closeAndFlush({ timeout: 90000 })
console.log(JSON.stringify({ errors, ids }))
process.exit(0)
