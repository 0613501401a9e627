// An onboarding screen. What the visitor does goes out as events (track); what the screen shows comes in as flags, pushed by
// server-sent events. There is no rule here: examples/web/playbook has them all.
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk'
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider'
import { bridge } from './onramp-bridge.js'

const baseUrl = new URLSearchParams(location.search).get('api') ?? 'http://127.0.0.1:8080'
// `onramp dev` without keys takes the visitor's id as it is. With keys the page has a write key, and the targeting key is a page token from
// your service: docs/api.md, "Flags in a page".
const visitor = (localStorage.visitor ??= `visitor-${crypto.randomUUID()}`)
const headlines = { plain: 'Set up your workspace', friendly: 'Good to see you! Three small steps.' }
const steps = [
  ['profile', 'Tell us who you are', 'Profile Filled'], ['project', 'Create a project', 'Project Created'], ['invite', 'Invite a teammate', 'Teammate Invited'],
]

await OpenFeature.setContext({ targetingKey: visitor })
await OpenFeature.setProviderAndWait(bridge(new OFREPWebProvider({ baseUrl, cacheMode: 'disabled' }), { baseUrl }))
const client = OpenFeature.getClient()

const show = () => {
  const { step = '', ended = '' } = client.getObjectValue('journey.onboarding', {})
  const now = steps.findIndex(([key]) => key === step)
  document.getElementById('headline').textContent = headlines[client.getStringValue('variant.headline', 'plain')]
  document.getElementById('steps').replaceChildren(...steps.map(([key, text, event], i) => {
    const item = document.createElement('li')
    item.id = key
    item.className = ended || i < now ? 'done' : i === now ? 'now' : ''
    const label = document.createElement('span')
    const button = document.createElement('button')
    label.textContent = text
    button.textContent = 'Done'
    button.onclick = () => client.track(event)
    item.append(label, button)
    return item
  }))
  document.getElementById('done').hidden = !client.getBooleanValue('segment.activated', false)
  document.getElementById('flags').textContent = `stage=${client.getStringValue('stage', 'unknown')}`
  document.getElementById('status').textContent = client.providerStatus.toLowerCase()
}

client.addHandler(ProviderEvents.ConfigurationChanged, show)
client.addHandler(ProviderEvents.Stale, show)
show()
client.track('Onboarding Opened')
