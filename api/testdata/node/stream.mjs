// The web provider with an event stream: node stream.mjs <race|restart|away> <url> <targeting key> <key> <control>. Prints what was observed.
// POST <control>/<word> has the test do something between two observations. Nothing here polls: what comes, was pushed.
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk'
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider'
import { EventSource } from 'eventsource'

globalThis.EventSource = EventSource // Node has none yet
const [, , what, url, targetingKey, key, control] = process.argv
const tell = async (word) => { const r = await fetch(`${control}/${word}`, { method: 'POST' }); if (!r.ok) throw new Error(`${word}: ${r.status}`) }
const until = async (what, done) => {
  for (let i = 0; i < 600; i++) { if (done()) return; await new Promise((r) => setTimeout(r, 50)) }
  throw new Error(`${what}: it did not come`)
}

const seen = { changes: [], stale: 0, status: '' }
await OpenFeature.setContext({ targetingKey })
await OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl: url, cacheMode: 'disabled', headers: [['Authorization', `Bearer ${key}`]] }))
const client = OpenFeature.getClient()
client.addHandler(ProviderEvents.ConfigurationChanged, (e) => seen.changes.push(e.flagsChanged))
client.addHandler(ProviderEvents.Stale, () => seen.stale++)
const value = () => client.getBooleanValue('segment.at_risk', false)
seen.status = client.providerStatus
seen.before = value()
seen.string = client.getStringValue('variant.checklist_style', 'none')
if (what === 'restart') {
  await tell('listening')
  await tell('kill')
  await until('stale', () => seen.stale > 0)
  seen.meanwhile = value()
  await tell('restart')
}
if (what === 'away') await tell('recover')
await until('the change', value)
await until('its event', () => seen.changes.length > 0)
seen.after = value()
await OpenFeature.close()
console.log(JSON.stringify(seen))
process.exit(0)
