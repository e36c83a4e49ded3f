// What the current social app calls when it starts and while somebody looks around, by the official client
// through the viewer's own server, which passes it on to us. Every answer is held against the client's schemas.
// Reads one JSON line of options; writes one JSON line for each part.
import { createInterface } from 'node:readline/promises'
import { isDeepStrictEqual } from 'node:util'
import { AtpAgent, RichText, lexicons } from '@atproto/api'

const options = JSON.parse((await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()).value)
const called = new Set()
const absent = new Set()
const must = (condition, message) => {
  if (!condition) throw new Error(message)
}
const equal = (found, wanted, message) =>
  must(isDeepStrictEqual(found, wanted), `${message}: ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`)
const tell = (step) => process.stdout.write(JSON.stringify({ step }) + '\n')

async function signedIn({ handle, password }) {
  const agent = new AtpAgent({ service: options.pds })
  await agent.login({ identifier: handle, password })
  return agent
}
const home = await signedIn(options.alice)
const [bob, carol] = [await signedIn(options.bob), await signedIn(options.carol)]
const [alice, stranger] = [home.assertDid, await signedIn(options.stranger)]
const us = home.withProxy('bsky_appview', options.did)
const anonymous = new AtpAgent({ service: options.service })

// The client checks answers itself, but says nothing about methods that it doesn't know.
async function ask(agent, nsid, params, data) {
  if (!lexicons.get(nsid)) {
    absent.add(nsid)
    return undefined
  }
  const kind = lexicons.get(nsid).defs.main.type
  if (kind === 'query') lexicons.assertValidXrpcParams(nsid, params ?? {})
  else if (data !== undefined) lexicons.assertValidXrpcInput(nsid, data)
  const answer = await agent.call(nsid, params, data, data && { encoding: 'application/json' })
  if (lexicons.get(nsid).defs.main.output?.schema) lexicons.assertValidXrpcOutput(nsid, answer.data)
  called.add(nsid)
  return answer.data
}
const get = (nsid, params) => ask(us, nsid, params)
const post = (nsid, data) => ask(us, nsid, undefined, data)

async function refused(call, status, error) {
  const found = await call.then(
    () => ({ status: 200 }),
    (thrown) => ({ status: thrown.status, error: thrown.error }),
  )
  equal(found, { status, error }, 'another refusal')
}
async function until(what, check) {
  let wrong = 'never looked'
  for (const end = Date.now() + 90_000; Date.now() < end; ) {
    try {
      const found = await check()
      if (found) return found
      wrong = 'not so'
    } catch (thrown) {
      wrong = thrown
    }
    await new Promise((done) => setTimeout(done, 200))
  }
  throw new Error(`${what} did not come: ${wrong}`)
}
const now = () => new Date().toISOString()
const make = async (agent, collection, record, rkey) => {
  const repo = agent.assertDid
  const made = await agent.com.atproto.repo.createRecord({ repo, collection, rkey, record: { $type: collection, createdAt: now(), ...record } })
  return { uri: made.data.uri, cid: made.data.cid }
}
const write = (agent, text, more = {}) => make(agent, 'app.bsky.feed.post', { text, langs: ['en'], ...more })
const uris = (posts) => posts.map((found) => found.uri)
const dids = (people) => people.map((found) => found.did)

// ---------------------------------------------------------------- the world
const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')
const blobOf = async (agent) => (await agent.uploadBlob(png, { encoding: 'image/png' })).data.blob
for (const [agent, displayName] of [[home, 'Alice'], [bob, 'Bob Baker'], [carol, 'Carol']])
  await make(agent, 'app.bsky.actor.profile', { displayName, description: `I am ${displayName}`, avatar: await blobOf(agent) }, 'self')
for (const [from, to] of [[home, bob], [home, carol], [carol, bob], [bob, home], [carol, home], [stranger, bob]])
  await make(from, 'app.bsky.graph.follow', { subject: to.assertDid })

const first = await write(home, 'a question')
const at = (parent, root = parent) => ({ reply: { root, parent } })
const answer = await write(bob, 'an answer', at(first))
const again = await write(carol, 'an answer to the answer', at(answer, first))
const pictured = await write(bob, 'a picture', { embed: { $type: 'app.bsky.embed.images', images: [{ image: await blobOf(bob), alt: 'a dot' }] } })
const rich = new RichText({ text: 'a walrus by https://example.com #sea' })
rich.detectFacetsWithoutResolution()
const quoting = await write(carol, rich.text, { facets: rich.facets, embed: { $type: 'app.bsky.embed.record', record: pictured } })
const carded = await write(bob, 'a card', { embed: { $type: 'app.bsky.embed.external', external: { uri: 'https://example.com', title: 'Example', description: 'words' } } })
const liked = await make(carol, 'app.bsky.feed.like', { subject: first })
const repost = await make(carol, 'app.bsky.feed.repost', { subject: pictured })
const list = await make(bob, 'app.bsky.graph.list', { name: 'Friends', purpose: 'app.bsky.graph.defs#curatelist' })
await make(bob, 'app.bsky.graph.listitem', { list: list.uri, subject: carol.assertDid })
const hidden = await make(bob, 'app.bsky.graph.list', { name: 'Hidden', purpose: 'app.bsky.graph.defs#modlist' })
const own = await make(home, 'app.bsky.graph.list', { name: 'Mine', purpose: 'app.bsky.graph.defs#curatelist' })
await make(home, 'app.bsky.graph.listitem', { list: own.uri, subject: bob.assertDid })
const pack = await make(bob, 'app.bsky.graph.starterpack', { name: 'Walruses', list: list.uri })
const feed = await make(bob, 'app.bsky.feed.generator', { did: options.did, displayName: 'Seaside' })
await make(carol, 'app.bsky.labeler.service', { policies: { labelValues: ['rude'], labelValueDefinitions: [] } }, 'self')
const written = [repost, carded, quoting, pictured, again, answer, first]
const name = (item) => item.reason?.uri ?? item.post.uri
await until('the timeline', async () => {
  equal((await us.getTimeline({ limit: 30 })).data.feed.map(name), uris(written), 'the timeline')
  return true
})
tell('world')

// ---------------------------------------------------------------- the start, in the app's order
await ask(anonymous, 'app.bsky.ageassurance.getConfig')
const preferences = [
  { $type: 'app.bsky.actor.defs#savedFeedsPrefV2', items: [
    { id: '1', type: 'timeline', value: 'following', pinned: true },
    { id: '2', type: 'feed', value: feed.uri, pinned: true },
    { id: '3', type: 'list', value: list.uri, pinned: true } ] },
  { $type: 'app.bsky.actor.defs#adultContentPref', enabled: true },
]
await ask(home, 'app.bsky.actor.putPreferences', undefined, { preferences })
equal((await ask(home, 'app.bsky.actor.getPreferences')).preferences, preferences, 'the preferences')
must((await get('app.bsky.ageassurance.getState', { countryCode: 'DE' })).state.access === 'full', 'restricted by age')
const labelers = await get('app.bsky.labeler.getServices', { dids: [carol.assertDid, bob.assertDid], detailed: true })
equal(labelers.views.map((view) => view.creator.did), [carol.assertDid], 'the labelers')
await get('app.bsky.unspecced.getConfig')
const self = await get('app.bsky.actor.getProfile', { actor: alice })
equal([self.handle, self.displayName, self.followsCount, self.followersCount, self.postsCount], [options.alice.handle, 'Alice', 2, 2, 1], 'the own profile')
equal(dids((await get('app.bsky.actor.getProfiles', { actors: [alice, bob.assertDid, 'did:plc:nobodynobodynobodynobody'] })).profiles), [alice, bob.assertDid], 'the profiles')
const generators = await get('app.bsky.feed.getFeedGenerators', { feeds: [feed.uri, `at://${bob.assertDid}/app.bsky.feed.generator/none`] })
equal(uris(generators.feeds), [feed.uri], 'the feeds that are pinned')
equal(dids((await get('app.bsky.graph.getList', { list: list.uri })).items.map((item) => item.subject)), [carol.assertDid], 'the list that is pinned')
const home30 = (await get('app.bsky.feed.getTimeline', { limit: 30 })).feed
equal(home30.map(name), uris(written), 'the timeline')
equal((await get('app.bsky.feed.getTimeline', { limit: 1 })).feed.map(name), [repost.uri], 'what is new')
const seen = new Map(home30.map((item) => [name(item), item]))
must(seen.get(pictured.uri).post.embed.$type === 'app.bsky.embed.images#view', 'no picture')
must(seen.get(quoting.uri).post.embed.record.uri === pictured.uri, 'no quote')
must(seen.get(again.uri).reply.root.uri === first.uri && seen.get(again.uri).reply.parent.uri === answer.uri, 'no thread')
must(seen.get(repost.uri).reason.by.did === carol.assertDid, 'no reposter')
equal([seen.get(first.uri).post.likeCount, seen.get(first.uri).post.replyCount], [1, 1], 'the counts')
for (const url of [self.avatar, seen.get(pictured.uri).post.embed.images[0].thumb]) {
  const picture = await fetch(url)
  must(picture.status === 200 && picture.headers.get('content-type').startsWith('image/'), `no picture at ${url}`)
}
const told = await until('the notifications', async () => {
  const found = (await get('app.bsky.notification.listNotifications', { limit: 40 })).notifications
  return found.length >= 5 && found
})
const reasons = Object.fromEntries(told.map((found) => [found.uri, found.reason]))
equal(told.map((found) => found.reason).sort(), ['follow', 'follow', 'like', 'reply', 'reply'], 'the notifications')
equal([reasons[liked.uri], reasons[answer.uri]], ['like', 'reply'], 'their reasons')
equal((await get('app.bsky.notification.getUnreadCount')).count, 5, 'unread')
await post('app.bsky.notification.updateSeen', { seenAt: now() })
equal((await get('app.bsky.notification.getUnreadCount')).count, 0, 'unread after looking')
for (const nsid of ['app.bsky.unspecced.getTrends', 'app.bsky.unspecced.getSuggestedUsersForDiscover', 'app.bsky.unspecced.getSuggestedUsersForExplore', 'app.bsky.unspecced.getTrendingTopics', 'app.bsky.video.getUploadLimits'])
  await refused(us.call(nsid), 501, 'MethodNotImplemented')
for (const nsid of ['app.bsky.feed.getSuggestedFeeds', 'app.bsky.unspecced.getPopularFeedGenerators', 'app.bsky.unspecced.getSuggestedFeeds', 'app.bsky.unspecced.getSuggestedUsers', 'app.bsky.unspecced.getSuggestedStarterPacks', 'app.bsky.unspecced.getOnboardingSuggestedStarterPacks', 'app.bsky.unspecced.getSuggestedOnboardingUsers', 'app.bsky.actor.getSuggestions'])
  await get(nsid, {})
const token = { serviceDid: options.did, platform: 'ios', token: 'abc', appId: 'app.test' }
await ask(options.registers === 'home' ? home : us, 'app.bsky.notification.registerPush', undefined, token)
await ask(options.registers === 'home' ? home : us, 'app.bsky.notification.unregisterPush', undefined, token)
tell('start')

// ---------------------------------------------------------------- threads, posts, people
const flat = await get('app.bsky.unspecced.getPostThreadV2', { anchor: first.uri, below: 10, branchingFactor: 10, sort: 'oldest' })
equal(flat.thread.map((item) => [item.uri, item.depth]), [[first.uri, 0], [answer.uri, 1], [again.uri, 2]], 'the thread')
equal((await get('app.bsky.unspecced.getPostThreadV2', { anchor: again.uri })).thread.map((item) => [item.uri, item.depth]), [[first.uri, -2], [answer.uri, -1], [again.uri, 0]], 'the thread from below')
equal((await get('app.bsky.unspecced.getPostThreadOtherV2', { anchor: first.uri })).thread, [], 'other answers')
const tree = (await get('app.bsky.feed.getPostThread', { uri: first.uri })).thread
equal([tree.post.uri, tree.replies[0].post.uri, tree.replies[0].replies[0].post.uri], [first.uri, answer.uri, again.uri], 'the tree')
equal(uris((await get('app.bsky.feed.getPosts', { uris: [answer.uri, first.uri] })).posts).sort(), [answer.uri, first.uri].sort(), 'the posts')
equal(dids((await get('app.bsky.feed.getLikes', { uri: first.uri })).likes.map((like) => like.actor)), [carol.assertDid], 'who likes')
equal(dids((await get('app.bsky.feed.getRepostedBy', { uri: pictured.uri })).repostedBy), [carol.assertDid], 'who reposted')
equal(uris((await get('app.bsky.feed.getQuotes', { uri: pictured.uri })).posts), [quoting.uri], 'who quotes')
const feedOf = async (filter) => (await get('app.bsky.feed.getAuthorFeed', { actor: bob.assertDid, filter })).feed.map(name)
equal(await feedOf('posts_with_replies'), uris([carded, pictured, answer]), 'everything by bob')
equal(await feedOf('posts_no_replies'), uris([carded, pictured]), 'what bob began')
equal(await feedOf('posts_with_media'), [pictured.uri], 'pictures by bob')
equal(await feedOf('posts_and_author_threads'), uris([carded, pictured]), 'threads by bob')
equal(await feedOf('posts_with_video'), [], 'videos by bob')
equal((await get('app.bsky.feed.getListFeed', { list: list.uri })).feed.map(name), uris([quoting, again]), 'the feed of the list')
const search = async (q) => uris((await get('app.bsky.feed.searchPosts', { q })).posts)
equal(await search('walrus'), [quoting.uri], 'a word')
equal(await search('from:' + options.bob.handle + ' picture'), [pictured.uri], 'a word of somebody')
equal(await search('#sea'), [quoting.uri], 'a tag')
const second = await get('app.bsky.feed.searchPostsV2', { query: 'walrus' })
if (second) equal(uris(second.posts), [quoting.uri], 'a word, the new way')
equal(dids((await get('app.bsky.actor.searchActors', { q: 'baker' })).actors), [bob.assertDid], 'somebody by name')
equal(dids((await get('app.bsky.actor.searchActorsTypeahead', { q: 'bak' })).actors), [bob.assertDid], 'somebody by the beginning of a name')
equal(uris((await get('app.bsky.graph.searchStarterPacks', { q: 'walruses' })).starterPacks), [pack.uri], 'a starter pack')
await get('app.bsky.graph.searchStarterPacksV2', { q: 'walruses' })
tell('reading')

// ---------------------------------------------------------------- the graph
const graph = (method, params) => get(`app.bsky.graph.${method}`, params)
equal(dids((await graph('getFollows', { actor: alice })).follows).sort(), [bob.assertDid, carol.assertDid].sort(), 'follows')
equal(dids((await graph('getFollowers', { actor: alice })).followers).sort(), [bob.assertDid, carol.assertDid].sort(), 'followers')
equal(dids((await graph('getKnownFollowers', { actor: bob.assertDid })).followers), [carol.assertDid], 'known followers')
const relation = (await graph('getRelationships', { actor: alice, others: [bob.assertDid] })).relationships[0]
must(relation.following && relation.followedBy, 'no relationship')
equal(uris((await graph('getLists', { actor: alice })).lists), [own.uri], 'lists')
equal((await graph('getListsWithMembership', { actor: bob.assertDid })).listsWithMembership.map((row) => [row.list.uri, !!row.listItem]), [[own.uri, true]], 'lists with somebody')
await graph('getStarterPacksWithMembership', { actor: bob.assertDid })
equal(uris((await graph('getActorStarterPacks', { actor: bob.assertDid })).starterPacks), [pack.uri], 'starter packs')
equal((await graph('getStarterPack', { starterPack: pack.uri })).starterPack.uri, pack.uri, 'the starter pack')
equal(uris((await graph('getStarterPacks', { uris: [pack.uri] })).starterPacks), [pack.uri], 'the starter packs')
equal(uris((await get('app.bsky.feed.getActorFeeds', { actor: bob.assertDid })).feeds), [feed.uri], 'feeds')
equal((await get('app.bsky.feed.getFeedGenerator', { feed: feed.uri })).view.displayName, 'Seaside', 'the feed')
await graph('getSuggestedFollowsByActor', { actor: bob.assertDid })
equal(await ask(us, 'com.atproto.identity.resolveHandle', { handle: options.bob.handle }), { did: bob.assertDid }, 'the handle')
equal((await ask(us, 'com.atproto.label.queryLabels', { uriPatterns: [first.uri], sources: [carol.assertDid] })).labels, [], 'labels')
tell('graph')

// ---------------------------------------------------------------- what somebody does, at his own server
const mine = async (uri) => (await us.getPosts({ uris: [uri] })).data.posts[0]?.viewer
const note = await home.post({ text: 'written at home' })
await until('the own post', async () => (await get('app.bsky.feed.getTimeline', { limit: 1 })).feed[0].post.uri === note.uri)
const like = await home.like(answer.uri, answer.cid)
const reposted = await home.repost(answer.uri, answer.cid)
await until('like and repost', async () => {
  const viewer = await mine(answer.uri)
  return viewer.like === like.uri && viewer.repost === reposted.uri
})
equal((await get('app.bsky.feed.getActorLikes', { actor: alice })).feed.map(name), [answer.uri], 'own likes')
await home.deleteLike(like.uri)
await home.deleteRepost(reposted.uri)
await home.deletePost(note.uri)
await until('their end', async () => {
  const viewer = await mine(answer.uri)
  return !viewer.like && !viewer.repost && (await us.getPosts({ uris: [note.uri] })).data.posts.length === 0
})
const block = await make(home, 'app.bsky.graph.block', { subject: stranger.assertDid })
const listBlock = await make(home, 'app.bsky.graph.listblock', { subject: hidden.uri })
await until('the blocks', async () => {
  const [people, lists] = [await graph('getBlocks', {}), await graph('getListBlocks', {})]
  return isDeepStrictEqual([dids(people.blocks), uris(lists.lists)], [[stranger.assertDid], [hidden.uri]])
})
must((await get('app.bsky.actor.getProfile', { actor: stranger.assertDid })).viewer.blocking === block.uri, 'the block does not show')
for (const made of [block, listBlock]) {
  const [, , repo, collection, rkey] = made.uri.split('/')
  await home.com.atproto.repo.deleteRecord({ repo, collection, rkey })
}
tell('writing')

// ---------------------------------------------------------------- what is kept with us
const profile = async () => (await get('app.bsky.actor.getProfile', { actor: carol.assertDid })).viewer
await post('app.bsky.graph.muteActor', { actor: carol.assertDid })
equal([(await profile()).muted, dids((await graph('getMutes', {})).mutes)], [true, [carol.assertDid]], 'the mute')
equal((await get('app.bsky.feed.getTimeline', {})).feed.map(name), uris([carded, pictured, answer, first]), 'the timeline without whom is muted')
await post('app.bsky.graph.unmuteActor', { actor: carol.assertDid })
await post('app.bsky.graph.muteActorList', { list: hidden.uri })
equal(uris((await graph('getListMutes', {})).lists), [hidden.uri], 'the lists that are muted')
await post('app.bsky.graph.unmuteActorList', { list: hidden.uri })
await post('app.bsky.graph.muteThread', { root: first.uri })
must((await mine(answer.uri)).threadMuted, 'the thread is not muted')
await post('app.bsky.graph.unmuteThread', { root: first.uri })
await post('app.bsky.bookmark.createBookmark', pictured)
equal((await get('app.bsky.bookmark.getBookmarks', {})).bookmarks.map((row) => row.item.uri), [pictured.uri], 'the bookmark')
must((await mine(pictured.uri)).bookmarked, 'the bookmark does not show')
await post('app.bsky.bookmark.deleteBookmark', { uri: pictured.uri })
equal((await get('app.bsky.bookmark.getBookmarks', {})).bookmarks, [], 'no bookmark')
const draft = await post('app.bsky.draft.createDraft', { draft: { posts: [{ text: 'to be said' }] } })
await post('app.bsky.draft.updateDraft', { draft: { id: draft.id, draft: { posts: [{ text: 'better' }] } } })
equal((await get('app.bsky.draft.getDrafts', {})).drafts.map((row) => row.draft.posts[0].text), ['better'], 'the draft')
await post('app.bsky.draft.deleteDraft', { id: draft.id })
equal((await get('app.bsky.draft.getDrafts', {})).drafts, [], 'no draft')
must((await get('app.bsky.notification.getPreferences', {})).preferences.like.push === true, 'the defaults')
const put = await post('app.bsky.notification.putPreferencesV2', { like: { include: 'follows', list: true, push: false } })
equal([put.preferences.like.push, (await get('app.bsky.notification.getPreferences', {})).preferences.like.include], [false, 'follows'], 'what is wanted')
await post('app.bsky.notification.putActivitySubscription', { subject: bob.assertDid, activitySubscription: { post: true, reply: false } })
equal(dids((await get('app.bsky.notification.listActivitySubscriptions', {})).subscriptions), [bob.assertDid], 'the subscription')
await post('app.bsky.feed.sendInteractions', { interactions: [{ item: pictured.uri, event: 'app.bsky.feed.defs#interactionSeen' }] })
tell('keeping')

// ---------------------------------------------------------------- what is not ours
const unknown = await fetch(`${options.pds}/xrpc/app.bsky.feed.noSuchMethod`, {
  headers: { authorization: `Bearer ${home.session.accessJwt}`, 'atproto-proxy': `${options.did}#bsky_appview` },
})
equal([unknown.status, (await unknown.json()).error], [501, 'MethodNotImplemented'], 'an unknown method')
await refused(us.call('app.bsky.feed.getTimeline', { limit: 0 }), 400, 'InvalidRequest')
await refused(us.call('app.bsky.feed.getPostThread', { uri: `at://${bob.assertDid}/app.bsky.feed.post/none` }), 400, 'NotFound')
const { data: minted } = await home.com.atproto.server.getServiceAuth({ aud: options.did, lxm: 'app.bsky.feed.getLikes' })
const foreign = await fetch(`${options.service}/xrpc/app.bsky.feed.getTimeline`, { headers: { authorization: `Bearer ${minted.token}` } })
equal([foreign.status, (await foreign.json()).error], [401, 'BadJwtLexiconMethod'], 'a token for another method')
process.stdout.write(JSON.stringify({ step: 'done', called: [...called].sort(), absent: [...absent].sort() }) + '\n')
process.exit(0)
