// The official server for accounts with the authorization server in it. It reaches our public name, which
// exists nowhere, at a port of this machine. Options as in pds.mjs, and `name`, `at`.
import { createInterface } from 'node:readline/promises'
import { request } from 'node:http'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const options = JSON.parse((await lines.next()).value)
const real = globalThis.fetch
globalThis.fetch = async (input, init) => {
  const url = new URL(typeof input === 'string' ? input : (input.url ?? input))
  if (url.hostname !== options.name) return real(input, init)
  return new Promise((resolve, reject) => {
    const way = { host: '127.0.0.1', port: options.at, path: url.pathname, headers: { host: options.name } }
    request(way, (answer) => {
      const parts = []
      answer.on('data', (part) => parts.push(part))
      answer.on('end', () => {
        const found = new Response(Buffer.concat(parts), { status: answer.statusCode, headers: answer.headers })
        Object.defineProperty(found, 'url', { value: url.href })
        resolve(found)
      })
    })
      .on('error', reject)
      .end()
  })
}
const { PDS, envToCfg, envToSecrets } = await import('@atproto/pds')
const env = {
  devMode: true,
  // Loopback is what it is meant to reach here.
  disableSsrfProtection: true,
  port: options.port,
  hostname: 'localhost',
  serviceHandleDomains: ['.test'],
  dataDirectory: options.data,
  blobstoreDiskLocation: `${options.data}/blobs`,
  didPlcUrl: options.plc,
  inviteRequired: false,
  bskyAppViewUrl: 'https://appview.invalid',
  bskyAppViewDid: 'did:web:appview.invalid',
  jwtSecret: 'only-for-tests',
  adminPassword: 'only-for-tests',
  plcRotationKeyK256PrivateKeyHex: options.rotation,
}
const server = await PDS.create(envToCfg(env), envToSecrets(env))
await server.start()
process.stdout.write(JSON.stringify({ step: 'ready' }) + '\n')
await lines.next()
await server.destroy()
process.exit(0)
