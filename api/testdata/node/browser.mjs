// One SDK in Chromium: node browser.mjs <what> <api> <page> <folder of the page> <key> <user token>. The page is served by the test from
// another origin than the API. Prints {"errors":[…],"value":…}.
import { build } from 'esbuild'
import { chromium } from 'playwright-core'
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [, , what, api, page, folder, key, token] = process.argv
const host = new URL(api).host
const options = JSON.stringify({ writeKey: key, cdnURL: api })
const segment = (strategy) => `
  import { AnalyticsBrowser } from '@segment/analytics-next'
  const a = AnalyticsBrowser.load(${options}, { integrations: { 'Segment.io': { apiHost: '${host}/v1', protocol: 'http'${strategy} } } })
  await a.track('Signed Up', { plan: 'pro' }); await a.identify('ann', { industry: 'finance' }); await a.track('Trial Started')`
const sources = {
  'segment': segment(''),
  'segment-batching': segment(`, deliveryStrategy: { strategy: 'batching', config: { size: 3, timeout: 1000 } }`),
  'rudder': `
  import { RudderAnalytics } from '@rudderstack/analytics-js/bundled'
  const a = new RudderAnalytics()
  a.load('${key}', '${api}', { configUrl: '${api}', plugins: [] })
  a.track('Signed Up', { plan: 'pro' }); a.identify('ann', { industry: 'finance' }); a.track('Trial Started')`,
  'flags': `
  import { OpenFeature } from '@openfeature/web-sdk'
  import { OFREPWebProvider } from '@openfeature/ofrep-web-provider'
  await OpenFeature.setContext({ targetingKey: '${token}' })
  await OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl: '${api}', pollInterval: 100, changeDetection: 'polling', cacheMode: 'disabled',
    headers: [['Authorization', 'Bearer ${key}']] }))
  window.value = OpenFeature.getClient().getStringValue('variant.checklist_style', 'none')`,
  'stream': `
  import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk'
  import { OFREPWebProvider } from '@openfeature/ofrep-web-provider'
  await OpenFeature.setContext({ targetingKey: '${token}' })
  await OpenFeature.setProviderAndWait(new OFREPWebProvider({ baseUrl: '${api}', cacheMode: 'disabled', headers: [['Authorization', 'Bearer ${key}']] }))
  const client = OpenFeature.getClient()
  window.value = { before: client.getBooleanValue('segment.at_risk', false) }
  client.addHandler(ProviderEvents.Stale, () => { window.value.stale = true })
  client.addHandler(ProviderEvents.ConfigurationChanged, () => { window.value.after = client.getBooleanValue('segment.at_risk', false) })`,
}

mkdirSync(folder, { recursive: true })
await build({
  stdin: { contents: sources[what], resolveDir: dirname(fileURLToPath(import.meta.url)), loader: 'js' }, bundle: true, format: 'esm', platform: 'browser',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' }, outfile: join(folder, 'page.js'), logLevel: 'error',
})
writeFileSync(join(folder, 'index.html'), '<!doctype html><meta charset="utf-8"><title>page</title><script type="module" src="page.js"></script>')

const path = execFileSync('sh', ['-c', 'command -v chromium || command -v chromium-browser || command -v google-chrome']).toString().trim()
const browser = await chromium.launch({ executablePath: path, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] })
const errors = []
try {
  const tab = await browser.newPage()
  let sent = 0
  let unchanged = 0
  let failed = 0
  tab.on('pageerror', (e) => errors.push(String(e)))
  tab.on('requestfailed', (r) => { if (r.url().startsWith(api)) failed++ })
  tab.on('response', async (r) => {
    if (r.request().method() !== 'POST' || !r.url().startsWith(api)) return
    if (r.status() === 304) unchanged++
    if (r.status() === 200) sent += /\/v1\/(b|batch)$/.test(r.url()) ? 3 : 1
  })
  await tab.goto(page)
  const enough = async () => {
    if (what === 'stream') return tab.evaluate(() => window.value?.after === true)
    return what === 'flags' ? unchanged >= 2 : sent >= 3
  }
  const end = Date.now() + 60000
  while (!await enough() && (failed < 1 || what === 'stream') && errors.length === 0 && Date.now() < end) await new Promise((r) => setTimeout(r, 50))
  console.log(JSON.stringify({ errors, failed, enough: await enough(), value: await tab.evaluate(() => window.value ?? null) }))
} finally {
  await browser.close()
}
process.exit(0)
