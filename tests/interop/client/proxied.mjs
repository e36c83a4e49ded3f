// The official client at its own server, which passes app.bsky calls on to us with a service token.
import { createInterface } from 'node:readline/promises'
import { AtpAgent } from '@atproto/api'

const options = JSON.parse((await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()).value)
const tell = (step, values) => process.stdout.write(JSON.stringify({ step, ...values }) + '\n')

const home = new AtpAgent({ service: options.pds })
await home.login({ identifier: options.identifier, password: options.password })
const agent = home.withProxy('bsky_appview', options.did)

const uris = []
let cursor
do {
  const { data } = await agent.getTimeline({ limit: options.limit, cursor })
  uris.push(...data.feed.map((item) => item.reason?.uri ?? item.post.uri))
  cursor = data.cursor
} while (cursor)
tell('timeline', { uris })

await agent.app.bsky.graph.muteActor({ actor: options.friend.did })
const muted = (await agent.getProfile({ actor: options.friend.did })).data.viewer.muted
await agent.app.bsky.graph.unmuteActor({ actor: options.friend.did })
const unmuted = (await agent.getProfile({ actor: options.friend.did })).data.viewer.muted
tell('muted', { muted, unmuted })

// A write stays at the server of its author; asked of us with a service token it is refused.
const { data } = await home.com.atproto.server.getServiceAuth({ aud: options.did, lxm: 'com.atproto.repo.createRecord' })
const record = { $type: 'app.bsky.feed.post', text: 'no', createdAt: new Date().toISOString() }
const refused = await fetch(`${options.service}/xrpc/com.atproto.repo.createRecord`, {
  method: 'POST',
  headers: { authorization: `Bearer ${data.token}`, 'content-type': 'application/json' },
  body: JSON.stringify({ repo: home.session.did, collection: record.$type, record }),
})
tell('refused', { status: refused.status, error: (await refused.json()).error })

// Its own session token means nothing here.
const foreign = await fetch(`${options.service}/xrpc/app.bsky.feed.getTimeline`, {
  headers: { authorization: `Bearer ${home.session.accessJwt}` },
})
tell('foreign', { status: foreign.status, error: (await foreign.json()).error })
process.exit(0)
