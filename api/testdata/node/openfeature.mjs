// OpenFeature's providers against one address: node openfeature.mjs <web|server> <url> <user> <other user>. Prints what was observed.
// POST <url>/test/<word> has the test do something between two observations.
import { OpenFeature as Web, ProviderEvents } from '@openfeature/web-sdk'
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider'
import { OpenFeature as Server } from '@openfeature/server-sdk'
import { OFREPProvider } from '@openfeature/ofrep-provider'

const [, , what, url, user, other] = process.argv
const tell = async (word) => { const r = await fetch(`${url}/test/${word}`, { method: 'POST' }); if (!r.ok) throw new Error(`${word}: ${r.status}`) }
const until = async (done) => {
  for (let i = 0; i < 200; i++) { if (done()) return; await new Promise((r) => setTimeout(r, 50)) }
  throw new Error('it did not come')
}
const short = ({ value, reason, variant, errorCode, flagMetadata }) => ({ value, reason, variant, errorCode, metadata: flagMetadata })

const web = async () => {
  const seen = { changes: [] }
  await Web.setContext({ targetingKey: user })
  await Web.setProviderAndWait(new OFREPWebProvider({ baseUrl: url, pollInterval: 100, changeDetection: 'polling', cacheMode: 'disabled' }))
  const client = Web.getClient()
  client.addHandler(ProviderEvents.ConfigurationChanged, (e) => seen.changes.push(e.flagsChanged))
  seen.string = short(client.getStringDetails('variant.checklist_style', 'none'))
  seen.boolean = short(client.getBooleanDetails('segment.engaged_newcomer', false))
  seen.object = short(client.getObjectDetails('journey.onboarding', {}))
  seen.missing = short(client.getBooleanDetails('segment.no_such', true))
  seen.mismatch = short(client.getNumberDetails('variant.checklist_style', 7))
  await tell('polled') // a few polls without a change
  seen.quiet = seen.changes.length
  await tell('change')
  await until(() => client.getBooleanValue('segment.at_risk', false))
  await until(() => seen.changes.length > 0)
  await Web.setContext({ targetingKey: other })
  seen.other = short(client.getStringDetails('variant.checklist_style', 'none'))
  seen.otherStage = client.getStringValue('stage', 'none')
  await Web.close()
  return seen
}

const server = async () => {
  const seen = {}
  await Server.setProviderAndWait(new OFREPProvider({ baseUrl: url }))
  const client = Server.getClient()
  const context = { targetingKey: user }
  seen.string = short(await client.getStringDetails('variant.checklist_style', 'none', context))
  seen.boolean = short(await client.getBooleanDetails('segment.engaged_newcomer', false, context))
  seen.missing = short(await client.getBooleanDetails('segment.no_such', true, context))
  seen.nobody = short(await client.getStringDetails('stage', 'default', { targetingKey: 'nobody' }))
  seen.nokey = short(await client.getStringDetails('stage', 'default', {}))
  await tell('limit')
  seen.limited = short(await client.getStringDetails('stage', 'default', context))
  seen.paused = short(await client.getStringDetails('stage', 'default', context))
  await tell('unlimit')
  await new Promise((r) => setTimeout(r, 1200)) // Retry-After: 1
  seen.recovered = short(await client.getStringDetails('stage', 'default', context))
  return seen
}

console.log(JSON.stringify(await { web, server }[what]()))
process.exit(0)
