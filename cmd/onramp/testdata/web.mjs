// Clicks through examples/web in Chromium: node web.mjs <page> <screenshot>. Prints what was seen after each click. Nothing is reloaded.
import { chromium } from 'playwright-core'
import { execFileSync } from 'node:child_process'

const [, , page, screenshot] = process.argv
const path = execFileSync('sh', ['-c', 'command -v chromium || command -v chromium-browser || command -v google-chrome']).toString().trim()
const browser = await chromium.launch({ executablePath: path, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] })
const seen = { errors: [], foreign: [], steps: [], took: [] }
try {
  const tab = await browser.newPage({ viewport: { width: 760, height: 440 } })
  tab.on('pageerror', (e) => seen.errors.push(String(e)))
  tab.on('request', (r) => { if (!['127.0.0.1', 'localhost'].includes(new URL(r.url()).hostname)) seen.foreign.push(r.url()) })
  await tab.goto(page)
  for (const step of ['profile', 'project', 'invite']) {
    await tab.waitForSelector(`#${step}.now button`, { timeout: 30000 })
    seen.steps.push(await tab.textContent('#flags'))
    if (step === 'project') { seen.headline = await tab.textContent('#headline'); await tab.screenshot({ path: screenshot }) }
    const began = Date.now()
    await tab.click(`#${step} button`)
    await tab.waitForSelector(`#${step}.done`, { timeout: 30000 })
    seen.took.push(Date.now() - began)
  }
  await tab.waitForSelector('#done:not([hidden])', { timeout: 30000 })
  seen.steps.push(await tab.textContent('#flags'))
  seen.visitor = await tab.evaluate(() => localStorage.visitor)
} finally {
  await browser.close()
}
console.log(JSON.stringify(seen))
process.exit(0)
