// The track bridge with the web SDK: node bridge.mjs <url> <targeting key> <bridge.js>. Prints what was observed.
import { OpenFeature } from '@openfeature/web-sdk'
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider'

const [, , url, targetingKey, file] = process.argv
const { bridge } = await import(file)
const sent = []
const counted = async (...call) => { const answer = await fetch(...call); sent.push(answer.status); return answer }
await OpenFeature.setContext({ targetingKey })
await OpenFeature.setProviderAndWait(bridge(new OFREPWebProvider({ baseUrl: url, cacheMode: 'disabled' }), { baseUrl: url, fetch: counted, pause: [10, 10, 10, 10] }))
const client = OpenFeature.getClient()
const values = {
  byFlag: client.getStringValue('variant.headline', 'none'), again: client.getStringValue('variant.headline', 'none'),
  onJourney: client.getStringValue('variant.checklist_style', 'none'), missing: client.getStringValue('variant.no_such', 'none'), stage: client.getStringValue('stage', 'none'),
}
client.track('Report Shared', { value: 3.5, team: 'finance' })
for (let i = 0; i < 400 && sent.filter((status) => status === 200).length < 3; i++) await new Promise((r) => setTimeout(r, 25))
await OpenFeature.close()
console.log(JSON.stringify({ values, sent }))
process.exit(0)
