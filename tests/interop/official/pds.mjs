// The official server for accounts. Reads one JSON line of options, tells its origin, and ends with its input.
import { createInterface } from 'node:readline/promises'
import { PDS, envToCfg, envToSecrets } from '@atproto/pds'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const options = JSON.parse((await lines.next()).value)
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
  // Nothing goes anywhere but where a client says.
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
