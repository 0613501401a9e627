// A receiver of webhooks: node webhooks.mjs <secret> <requests.json>. Verifies requests that were recorded elsewhere, each with its
// headers and body, and prints for each whether the package takes it, and whether it takes a changed body.
import { readFileSync } from 'node:fs'
import { Webhook } from 'standardwebhooks'

const [, , secret, file] = process.argv
const receiver = new Webhook(secret)
const takes = (body, headers) => {
  try {
    return receiver.verify(body, headers)
  } catch (e) {
    return e.message
  }
}
console.log(JSON.stringify(JSON.parse(readFileSync(file, 'utf8')).map(({ body, headers }) => ({
  read: takes(body, headers), changed: takes(body.replace('send_email', 'send_money'), headers), otherId: takes(body, { ...headers, 'webhook-id': 'another' }),
}))))
