// What pages do more with script: actions in place, the next page in place, a live counter, keys.
// Everything goes through the same forms and links that work without it.
'use strict';
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const tools = $('#tools');

  // The one place where text becomes elements: pages of ours alone, and nothing of them runs.
  const policy = window.trustedTypes
    ? trustedTypes.createPolicy('pages', { createHTML: text => text })
    : { createHTML: text => text };
  async function page(url, options = {}) {
    const answer = await fetch(url, { credentials: 'same-origin', ...options });
    const here = new URL(answer.url).origin === location.origin;
    if (!here || !(answer.headers.get('Content-Type') || '').startsWith('text/html')) throw new Error('not a page');
    const found = new DOMParser().parseFromString(policy.createHTML(await answer.text()), 'text/html');
    return { ok: answer.ok, found, url: answer.url };
  }
  function say(text) {
    const line = $('#said');
    line.textContent = '';
    requestAnimationFrame(() => { line.textContent = text; });
  }

  // ---------------------------------------------------------------- the place on the screen
  const rows = () => all('#rows article, #marker');
  const bar = () => $('.top').getBoundingClientRect().bottom;
  function firstSeen() {
    const edge = bar();
    return rows().find(row => row.id && row.getBoundingClientRect().bottom > edge + 1);
  }
  function held(change) {
    // Whatever is put in above or below, what is read stays where it is.
    const row = firstSeen();
    const top = row && row.getBoundingClientRect().top;
    change();
    if (row && row.isConnected) scrollBy({ top: row.getBoundingClientRect().top - top, behavior: 'instant' });
  }
  const place = 'place ' + location.pathname + location.search;
  function remember() {
    const row = firstSeen();
    if (row) sessionStorage.setItem(place, JSON.stringify([row.id, row.getBoundingClientRect().top]));
  }
  function restore() {
    const marker = $('#marker[autofocus]');
    // Whoever has focus already is not scrolled to once more when the browser gets round to autofocus.
    if (marker) marker.focus({ preventScroll: true });
    const back = performance.getEntriesByType('navigation')[0];
    const kept = sessionStorage.getItem(place);
    if (kept && back && back.type !== 'navigate') {
      const [id, top] = JSON.parse(kept);
      const row = document.getElementById(id);
      if (row) { scrollBy({ top: row.getBoundingClientRect().top - top, behavior: 'instant' }); return; }
    }
    if (marker && !location.hash) {
      const wanted = innerHeight * ('down' in tools.dataset ? 1 / 4 : 2 / 3);
      scrollBy({ top: marker.getBoundingClientRect().top - wanted, behavior: 'instant' });
    }
  }

  // ---------------------------------------------------------------- actions in place
  // The form is sent as it would be without script; of the page that comes back one piece is taken.
  let busy = false;
  async function press(button) {
    const form = button.form;
    const path = button.getAttribute('formaction') || form.getAttribute('action');
    const body = new URLSearchParams(new FormData(form));
    if (button.name) body.set(button.name, button.value);
    if (form.id === 'mark') body.set('return', location.pathname);
    const article = button.closest('article, .profile');
    button.setAttribute('aria-busy', 'true');
    const slow = setTimeout(() => say('Still sending …'), 3000);
    try {
      const { ok, found } = await page(path, { method: 'POST', body });
      const notice = $('.notice[role=status], [role=alert]', found);
      if (!ok) { say(notice ? notice.textContent : $('h1', found).textContent); return; }
      if (form.id === 'mark') swapMarker(found);
      const fresh = article && article.id && found.getElementById(article.id);
      const other = article && article.classList.contains('profile') && $('.profile', found);
      if (path.endsWith('/delete')) held(() => article.remove());
      else if (form.id !== 'mark' && (fresh || other)) {
        const label = button.className;
        held(() => article.replaceWith(document.adoptNode(fresh || other)));
        const again = label && (fresh || other).getElementsByClassName(label)[0];
        if (again) again.focus({ preventScroll: true });
      }
      if (notice) say(notice.textContent);
    } catch {
      say('That did not work: is there a connection?');
    } finally {
      clearTimeout(slow);
      button.removeAttribute('aria-busy');
    }
  }
  function swapMarker(found) {
    const form = $('#mark'), other = $('#mark', found), marker = $('#marker', found);
    const beside = marker && [marker.nextElementSibling, marker.previousElementSibling]
      .map(row => row && row.matches('article') && document.getElementById(row.id));
    if (!marker || !(beside[0] || beside[1])) { location.assign(location.pathname); return; }
    held(() => {
      form.elements.version.value = other.elements.version.value;
      marker.removeAttribute('autofocus');
      const old = $('#marker'), line = document.adoptNode(marker);
      if (old) old.remove();
      if (beside[0]) beside[0].before(line); else beside[1].after(line);
      for (const row of all('#rows article')) {
        const after = line.compareDocumentPosition(row) & Node.DOCUMENT_POSITION_FOLLOWING;
        const read = Boolean(after) === !('down' in tools.dataset), one = $('.mark', row);
        row.classList.toggle('read', read);
        if (!one || (one.name === 'exactly') === read) continue;
        one.name = read ? 'exactly' : 'place';
        one.textContent = read ? '⤓' : '✓';
        one.setAttribute('aria-label', one.getAttribute('aria-label')
          .replace(/^.*?(?=, post by)/, read ? 'Set the marker back to here' : 'Read up to here'));
      }
    });
    const words = $('#tools > p'), fresh = $('#tools > p', found);
    if (words && fresh) words.replaceWith(document.adoptNode(fresh));
    count(found.title.match(/^\((.+?)\)/)?.[1] || '0');
  }

  // ---------------------------------------------------------------- the next page in place
  async function extend(link) {
    if (busy || !link) return;
    busy = true;
    const nav = link.closest('nav'), first = nav.id === 'newer' === !('down' in tools.dataset);
    try {
      const { ok, found } = await page(link.href);
      const box = $('#rows', found);
      if (!ok || !box) { location.assign(link.href); return; }
      const keep = $('#' + nav.id, box);
      const parts = [...box.children].filter(part => !part.matches('nav, #end, .empty')
        && !(part.id && document.getElementById(part.id)));
      held(() => {
        if (keep) parts[first ? 'unshift' : 'push'](keep);
        const here = parts.map(part => document.adoptNode(part));
        nav.replaceWith(...here);
      });
      if (nav.id === 'newer') {
        // From now on the page is the newer one: what is marked was seen as it was then.
        const top = $('#tools', found), form = $('#mark', found);
        if (top.dataset.top) tools.dataset.top = top.dataset.top;
        $('#mark').elements.arrival.value = form.elements.arrival.value;
      }
      say(parts.filter(part => part.matches && part.matches('article')).length + ' more posts');
    } catch {
      location.assign(link.href);
    } finally {
      busy = false;
    }
  }

  // ---------------------------------------------------------------- the live counter
  let told = 0, etag = '', touched = Date.now();
  function count(text) {
    for (const place of all('[data-count=unread]')) place.textContent = text === '0' && place.closest('nav') ? '' : text;
    document.title = (text === '0' ? '' : `(${text}) `) + document.title.replace(/^\(.+?\) /, '');
  }
  async function look() {
    if (!tools) return;
    const query = new URLSearchParams({ timeline: tools.dataset.timeline, top: tools.dataset.top });
    const answer = await fetch('/api/timeline/state?' + query, etag ? { headers: { 'If-None-Match': etag } } : {});
    if (answer.status !== 200) return;
    etag = answer.headers.get('ETag') || '';
    const state = await answer.json();
    count(state.unread);
    // Rows that came in are offered, never put in: nothing moves unless the reader asks.
    let nav = $('#newer');
    if (!nav && state.above !== '0') {
      nav = document.createElement('nav');
      nav.id = 'newer';
      nav.className = 'pages upper fresh';
      nav.setAttribute('aria-label', 'Newer posts');
      const link = document.createElement('a');
      const seen = $('#mark').elements.arrival.value;
      link.href = location.pathname + '?' + new URLSearchParams({ after: tools.dataset.top, seen });
      link.rel = 'prev';
      const number = document.createElement('span');
      number.dataset.count = 'above';
      link.append('down' in tools.dataset ? '↓ ' : '↑ ', number, ' newer');
      nav.append(link);
      held(() => 'down' in tools.dataset ? $('#rows').append(nav) : $('#rows').prepend(nav));
    }
    const number = $('#newer [data-count=above]');
    if (number && number.textContent !== state.above) {
      number.textContent = state.above;
      if (Date.now() - told > 60000) { told = Date.now(); say(state.above + ' new'); }
    }
  }
  function tick() {
    const idle = Date.now() - touched;
    if (idle < 3600000) look().catch(() => {});
    setTimeout(tick, document.hidden ? 300000 : 30000);
  }

  // ---------------------------------------------------------------- keys
  const chosen = () => {
    const focused = document.activeElement && document.activeElement.closest('article');
    return focused || all('#content article').find(row => row.getBoundingClientRect().bottom > bar() + 8);
  };
  function step(way, unread) {
    let list = all('#content article');
    if (unread) list = list.filter(row => !row.classList.contains('read'));
    const now = document.activeElement && document.activeElement.closest('article');
    let at = now ? list.indexOf(now) + way : list.indexOf(chosen());
    if (now && !list.includes(now)) {
      at = list.findIndex(row => now.compareDocumentPosition(row) & Node.DOCUMENT_POSITION_FOLLOWING);
      if (way < 0) at = (at < 0 ? list.length : at) - 1;
    }
    const row = list[at];
    if (row) { row.focus({ preventScroll: true }); row.scrollIntoView({ block: 'nearest' }); }
  }
  const hit = selector => { const row = chosen(); const one = row && $(selector, row); if (one) one.click(); };
  async function keep() {
    const like = chosen() && $('.like', chosen());
    if (!like) return;
    const body = new URLSearchParams(new FormData($('#act')));
    body.set('post', like.value);
    const { ok, found } = await page('/api/actions/bookmark', { method: 'POST', body });
    say(ok ? 'Bookmarked.' : $('h1', found).textContent);
  }
  const ways = { h: '/', n: '/notifications', l: '/lists', s: '/search', b: '/bookmarks', p: () => $('.top nav a[data-me]')?.href };
  const keys = {
    j: () => step(1), k: () => step(-1), J: () => step(1, true), K: () => step(-1, true),
    o: () => hit('.when'), Enter: () => hit('.when'), u: () => history.back(),
    '.': () => extend($('#newer a[rel=prev]')), m: () => hit('.mark'),
    Z: () => $('#marker [formaction$=undo]')?.click(), r: () => hit('.actions > a'),
    t: () => hit('.repost'), l: () => hit('.like'), b: keep,
    x: () => { const box = chosen() && $('details.cover', chosen()); if (box) box.open = !box.open; },
    c: () => location.assign('/compose'), n: () => location.assign('/compose'),
    '/': () => location.assign('/search'), '?': () => location.assign('/keyboard'),
    Escape: () => { all('details.menu[open], details.more[open]').forEach(box => { box.open = false; }); },
  };
  let going = 0;
  addEventListener('keydown', event => {
    touched = Date.now();
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest('input, textarea, select, [contenteditable]')) return;
    if (localStorage.getItem('keys') === 'off' && event.key !== 'Escape') return;
    if (event.key === 'Enter' && !event.target.matches('article')) return;
    if (Date.now() - going < 1500 && ways[event.key]) {
      const way = ways[event.key];
      event.preventDefault();
      const href = typeof way === 'function' ? way() : way;
      if (href) location.assign(href);
      return;
    }
    going = event.key === 'g' ? Date.now() : 0;
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  // ---------------------------------------------------------------- beginning
  document.addEventListener('click', event => {
    touched = Date.now();
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    const button = event.target.closest('button[form=act], button[form=mark]');
    const row = button && button.closest('article, .profile, #marker');
    if (row) { event.preventDefault(); if (!button.hasAttribute('aria-busy')) press(button); return; }
    const link = event.target.closest('#newer a[rel=prev], #older a[rel=next]');
    if (link && tools) { event.preventDefault(); extend(link); }
  });
  for (const box of all('textarea[data-max]')) {
    const left = $('#left');
    const measure = () => {
      const used = window.Intl && Intl.Segmenter ? [...new Intl.Segmenter().segment(box.value)].length : [...box.value].length;
      left.textContent = (box.dataset.max - used) + ' characters left';
      left.classList.toggle('bad', used > box.dataset.max);
    };
    if (left) { box.addEventListener('input', measure); measure(); }
  }
  for (const box of all('[data-setting=keys]')) {
    box.checked = localStorage.getItem('keys') !== 'off';
    box.addEventListener('change', () => localStorage.setItem('keys', box.checked ? 'on' : 'off'));
  }
  addEventListener('scroll', () => { touched = Date.now(); }, { passive: true });
  if (tools) {
    history.scrollRestoration = 'manual';
    addEventListener('pagehide', remember);
    document.addEventListener('visibilitychange', () => { if (document.hidden) remember(); else look().catch(() => {}); });
    restore();
    addEventListener('pageshow', event => { if (event.persisted) look().catch(() => {}); });
    setTimeout(tick, 30000);
  }
})();
