// What OFREP has no word for, as calls of the tracking API: OpenFeature's `track`, and that somebody has seen a variant.
//
//   const provider = bridge(new OFREPWebProvider({ baseUrl, headers }), { baseUrl, writeKey, user: { userId: 'u42' } })
//   await OpenFeature.setProviderAndWait(provider)
//   OpenFeature.getClient().track('report_shared', { value: 3, team: 'finance' })
//
// `user` is `{ userId }` or `{ anonymousId }`, or a function that returns one. Without it the targeting key is the user id, which is right
// where it is one; where it is a page token, say who the user is. Evaluating `variant.<experiment>` sends `Experiment Viewed` once for each
// page, user and variant, and Onramp records the exposure of an experiment that no journey names. Nothing here waits for an answer or
// throws: a call that finds nobody is tried again four times under the same id, and then given up.

const prefix = 'variant.'
const pauses = [500, 1000, 2000, 4000]

export function bridge(provider, { baseUrl, writeKey = '', user, fetch = globalThis.fetch.bind(globalThis), pause = pauses } = {}) {
  const seen = new Set()
  const whoIs = (context) => (typeof user === 'function' ? user() : user) ?? (context?.targetingKey ? { userId: context.targetingKey } : undefined)

  const send = async (context, event, properties) => {
    const who = whoIs(context)
    if (!who) return
    const body = JSON.stringify({
      ...who, type: 'track', messageId: crypto.randomUUID(), event, properties, timestamp: new Date().toISOString(), writeKey, context: { library: { name: 'onramp-bridge' } },
    })
    for (const wait of [0, ...pause]) {
      if (wait) await new Promise((done) => setTimeout(done, wait))
      try { // keepalive: it arrives although the page is left
        const answer = await fetch(`${baseUrl}/v1/track`, { method: 'POST', body, keepalive: true, headers: { 'Content-Type': 'text/plain' } })
        if (answer.ok || (answer.status < 500 && answer.status !== 429 && answer.status !== 408)) return
      } catch { /* nobody answers: try again */ }
    }
  }

  const watch = {
    after({ flagKey, context }, { variant, errorCode }) {
      if (!flagKey.startsWith(prefix) || !variant || errorCode) return
      const experiment = flagKey.slice(prefix.length)
      const once = JSON.stringify([whoIs(context), experiment, variant])
      if (seen.has(once)) return
      seen.add(once)
      void send(context, 'Experiment Viewed', { experiment_id: experiment, experiment_name: experiment, variation_id: variant, variation_name: variant })
    },
  }
  provider.hooks = [...(provider.hooks ?? []), watch]
  provider.track = (event, context, details = {}) => { void send(context, event, details) }
  return provider
}
