// One SDK against one address: node sdk.mjs <sdk> <url> [write key]. Prints {"errors":[…]} and exits 0 where the SDK ran to its end.
import { Analytics as Segment } from '@segment/analytics-node'
import Rudder from '@rudderstack/rudder-sdk-node'
import Legacy from 'analytics-node'

const [, , what, url, key = 'any'] = process.argv
const errors = []
const old = new Date('2024-03-04T05:06:07.089Z')

const calls = (a) => {
  a.identify({ userId: 'ann', anonymousId: 'anon-1', traits: { companySize: 12, industry: 'finance' } })
  a.track({ userId: 'ann', event: 'Trial Started', properties: { planName: 'pro' } })
  a.page({ userId: 'ann', name: 'Pricing', properties: { url: 'https://example.org/pricing' } })
  a.screen({ userId: 'ann', name: 'Home' })
  a.group({ userId: 'ann', groupId: 'acme', traits: { plan: 'team' } })
  a.alias({ userId: 'ann', previousId: 'anon-1' })
  a.track({ userId: 'ann', event: 'Signed Up', timestamp: old })
}

const segment = async (use, settings = {}) => {
  const a = new Segment({ writeKey: key, host: url, ...settings })
  a.on('error', (e) => errors.push(`${e.code}: ${e.reason?.message ?? e.reason}`))
  use(a)
  await a.closeAndFlush({ timeout: 30000 })
}

const rudder = async (gzip) => {
  const a = new Rudder(key, { dataPlaneUrl: url, gzip, flushAt: 100, flushInterval: 60000 })
  calls(a)
  await new Promise((done) => a.flush((err) => { if (err) errors.push(String(err)); done() }))
}

const legacy = async () => {
  const a = new Legacy(key, { host: url, flushAt: 100, flushInterval: 60000 })
  await new Promise((done) => a.track({ userId: 4242, event: 'Signed Up' }, (err) => { if (err) errors.push(String(err)); done() }))
}

const runs = {
  'segment': () => segment(calls),
  'segment-one': () => segment((a) => a.track({ userId: 'ann', event: 'Signed Up' })),
  'segment-large': () => segment((a) => {
    a.track({ userId: 'ann', event: 'Before' })
    a.track({ userId: 'ann', event: 'Large', properties: { text: 'x'.repeat(40 << 10) } })
    a.track({ userId: 'ann', event: 'After' })
  }),
  'rudder': () => rudder(false),
  'rudder-gzip': () => rudder(true),
  'legacy': legacy,
}

await runs[what]()
console.log(JSON.stringify({ errors }))
process.exit(0)
