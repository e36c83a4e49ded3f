// The official client, given an address, a handle and an app password, and nothing else.
// Reads one JSON line of options; writes one JSON line for each step; waits for a line where it says so.
import { createInterface } from 'node:readline/promises'
import { AtpAgent, RichText } from '@atproto/api'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const options = JSON.parse((await lines.next()).value)
const tell = (step, values) => process.stdout.write(JSON.stringify({ step, ...values }) + '\n')
const must = (condition, message) => {
  if (!condition) throw new Error(message)
}

const events = []
const agent = new AtpAgent({
  service: options.service,
  persistSession: (event, session) => events.push({ event, access: session?.accessJwt }),
})

await agent.login({ identifier: options.identifier, password: options.password })
must(agent.session.didDoc === undefined, 'a didDoc came with the session')
must(!agent.pdsUrl, `the client went over to ${agent.pdsUrl}`)
const session = (await agent.com.atproto.server.getSession()).data
tell('signed-in', { did: session.did, handle: session.handle, active: session.active, events: events.map((e) => e.event) })

async function timeline(limit) {
  const feed = []
  let cursor
  let pages = 0
  do {
    const { data } = await agent.getTimeline({ limit, cursor })
    must(data.cursor === undefined || data.cursor !== cursor, 'the cursor does not move')
    feed.push(...data.feed)
    cursor = data.cursor
    must(++pages < 1000, 'the timeline has no end')
  } while (cursor)
  return feed
}
const name = (item) => (item.reason?.uri ? item.reason.uri : item.post.uri)
const all = await timeline(options.limit)
tell('timeline', { uris: all.map(name), texts: all.length })

const profile = (await agent.getProfile({ actor: session.did })).data
tell('profile', { handle: profile.handle, did: profile.did })

const text = new RichText({ text: `Grüße 🧑‍🧑‍🧒 an @${options.friend.handle}: https://example.com/page #interop` })
await text.detectFacets(agent)
const post = await agent.post({ text: text.text, facets: text.facets, langs: ['de'] })
const seen = (await agent.getPosts({ uris: [post.uri] })).data.posts
must(seen.length === 1 && seen[0].cid === post.cid, 'the post is not there at once')
must((await agent.getTimeline({ limit: 1 })).data.feed[0].post.uri === post.uri, 'the post does not lead the timeline')
tell('posted', { uri: post.uri, facets: seen[0].record.facets.map((facet) => facet.features[0].$type) })

const subject = options.subject
const ref = { uri: subject.uri, cid: subject.cid }
const viewer = async () => (await agent.getPosts({ uris: [subject.uri] })).data.posts[0]
const before = await viewer()
const reply = await agent.post({ text: 'an answer', reply: { root: ref, parent: ref } })
const like = await agent.like(ref.uri, ref.cid)
const repost = await agent.repost(ref.uri, ref.cid)
const during = await viewer()
must(during.viewer.like === like.uri, 'the like does not show')
must(during.viewer.repost === repost.uri, 'the repost does not show')
must(during.likeCount === before.likeCount + 1, 'the like does not count')
must(during.replyCount === before.replyCount + 1, 'the reply does not count')
await agent.deleteLike(like.uri)
await agent.deleteRepost(repost.uri)
await agent.deletePost(reply.uri)
const after = await viewer()
must(!after.viewer.like && !after.viewer.repost, 'like or repost did not go')
must(after.likeCount === before.likeCount && after.repostCount === before.repostCount, 'the counts did not go back')
tell('reacted', { like: like.uri, repost: repost.uri, reply: reply.uri })

const follow = await agent.follow(options.friend.did)
must((await agent.getProfile({ actor: options.friend.did })).data.viewer.following === follow.uri, 'the follow does not show')
await agent.deleteFollow(follow.uri)
must(!(await agent.getProfile({ actor: options.friend.did })).data.viewer.following, 'the follow did not go')
tell('followed', { uri: follow.uri })

const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')
const { data: uploaded } = await agent.uploadBlob(png, { encoding: 'image/png' })
const image = { image: uploaded.blob, alt: 'one pixel', aspectRatio: { width: 1, height: 1 } }
const pictured = await agent.post({ text: '', embed: { $type: 'app.bsky.embed.images', images: [image] } })
const shown = (await agent.getPosts({ uris: [pictured.uri] })).data.posts[0]
must(shown.embed?.$type === 'app.bsky.embed.images#view', 'the picture does not show')
tell('pictured', { uri: pictured.uri, size: uploaded.blob.size })

await agent.upsertProfile((old) => ({ ...old, displayName: 'Interop' }))
must((await agent.getProfile({ actor: session.did })).data.displayName === 'Interop', 'the profile does not show')
tell('profile-kept', {})

await agent.deletePost(pictured.uri)
await agent.deletePost(post.uri)
must((await agent.getPosts({ uris: [post.uri, pictured.uri] })).data.posts.length === 0, 'deleted posts are there')
must(!(await timeline(100)).some((item) => name(item) === post.uri), 'a deleted post is in the timeline')
tell('deleted', {})

if (options.expire) {
  const old = agent.session.accessJwt
  tell('expire', { wait: true })
  await lines.next()
  await Promise.all([agent.getTimeline({ limit: 1 }), agent.getProfile({ actor: session.did })])
  must(agent.session.accessJwt !== old, 'the client did not refresh')
  must(events.some((e) => e.event === 'update'), 'no refresh was told')
  tell('renewed', { events: events.map((e) => e.event) })
}
const refresh = agent.session.refreshJwt
await agent.sessionManager.refreshSession()
must(agent.session.refreshJwt !== refresh, 'the refresh token did not change')

const resumed = new AtpAgent({ service: options.service })
await resumed.resumeSession({ ...agent.session })
must((await resumed.getTimeline({ limit: 1 })).success, 'a resumed session does not read')

const access = resumed.session.accessJwt
await resumed.logout()
const refused = await fetch(`${options.service}/xrpc/com.atproto.server.getSession`, { headers: { authorization: `Bearer ${access}` } })
tell('signed-out', { status: refused.status, error: (await refused.json()).error })
process.exit(0)
