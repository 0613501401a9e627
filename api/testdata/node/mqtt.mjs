// A device: node mqtt.mjs <mqtt url> <topic> <qos> <message>…; MQTT 3.1.1, and 5 to see that it is refused.
import mqtt from 'mqtt'

const [, , url, topic, qos, ...messages] = process.argv
const client = await mqtt.connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0 })
for (const m of messages) await client.publishAsync(topic, m, { qos: Number(qos) })
await client.endAsync()
const five = await new Promise((done) => {
  const c = mqtt.connect(url, { protocolVersion: 5, reconnectPeriod: 0 })
  c.on('connect', () => { c.end(true); done('connected') })
  c.on('error', (e) => done(e.message))
  c.on('close', () => done('closed'))
})
console.log(JSON.stringify({ five }))
process.exit(0)
