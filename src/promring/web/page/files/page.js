// Keeps the page new, and sends what its buttons say. The server puts all text there, escaped.
"use strict";

const EVERY_MS = 5000;
const CALM_MS = 100;
const SAID_MS = 8000;
const ACTION_MS = 30000;
const root = document.documentElement;
const live = document.getElementById("live");
const pause = document.getElementById("pause");
let timer = 0, wanted = 0, asked = false, again = false, paused = false;
let token = "", failed = { post: "", why: "" }, renewedAt = Date.now(), tookMs = 0, saidTimer = 0, ownUntil = 0, later = "";

async function refresh() {
  clearTimeout(timer);
  clearTimeout(wanted);
  wanted = 0;
  timer = setTimeout(refresh, EVERY_MS);
  if (paused || document.hidden) return;
  if (asked) { again = true; return; }
  asked = true;
  const began = Date.now();
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(EVERY_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    const before = live.dataset.said, level = live.dataset.level;
    morph(live, fresh);
    if (live.dataset.level !== level) news(`was ${before}; now ${live.dataset.said}`);
    else if (live.classList.contains("old")) news("the controller answers again");
    live.classList.remove("old");
    renewedAt = Date.now();
  } catch (error) {
    live.classList.add("old");
    news(`this is old: the controller does not answer (${reason(error)})`, true);
  } finally {
    tookMs = Date.now() - began;
    asked = false;
    if (again) { again = false; soon(); }
  }
}

// Makes `old` what `fresh` is, in place: what is the same thing stays the same element, so that the focus, the scroll and
// what somebody opened or typed stay as they are. Things are told apart by data-key, else by kind and order.
function morph(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" || name === "class" && old === live)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
  }
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key !== undefined) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const twin = twinOf(child, at, keyed);
    if (!twin) {
      old.insertBefore(child, at);
      continue;
    }
    if (twin !== at) {
      if (twin.contains(document.activeElement)) {  // moving it would lose the focus: the others move
        while (at !== twin) {
          const next = at.nextSibling;
          old.append(at);
          at = next;
        }
      } else old.insertBefore(twin, at);
    }
    if (twin === at) at = at.nextSibling;
    if (child.nodeType === Node.ELEMENT_NODE) morph(twin, child);
    else if (twin.data !== child.data) twin.data = child.data;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function twinOf(child, at, keyed) {
  const key = child.dataset?.key;
  if (key !== undefined) {
    const twin = keyed.get(key);
    keyed.delete(key);
    return twin?.nodeName === child.nodeName ? twin : undefined;
  }
  for (let one = at; one; one = one.nextSibling) {
    if (one.dataset?.key === undefined && one.nodeName === child.nodeName) return one;
  }
  return undefined;
}

function say(text, stays = false) {
  const said = document.getElementById("said");
  clearTimeout(saidTimer);
  if (said.textContent !== text) said.textContent = text;
  if (!stays) saidTimer = setTimeout(() => {
    said.textContent = "";
    if (later) say(later);
    later = "";
  }, SAID_MS);
}

// What somebody's own action led to stands first; what the page has to say meanwhile comes after it.
function own(text, forMs, stays = false) {
  ownUntil = Date.now() + forMs;
  later = "";
  say(text, stays);
}

function news(text, stays = false) {
  if (Date.now() < ownUntil) later = text;
  else say(text, stays);
}

function reason(error) {
  if (error.name === "TimeoutError") return "not in time";
  return error instanceof TypeError ? "it cannot be reached" : error.message;
}

// An undrain may change nothing.
function outcome(data) {
  if (data.was_drained === undefined) return "done";
  if (data.drained) return "it goes on to be drained: it is in maintenance in Consul, or its pod is being deleted";
  return data.was_drained ? "done" : "nothing changes: it was not drained";
}

function soon() {
  wanted = wanted || setTimeout(refresh, Math.max(CALM_MS, 2 * tookMs));
}

async function ask(button) {
  const dialog = document.getElementById("asks"), numbers = document.getElementById("numbers");
  const field = document.getElementById("token"), why = document.getElementById("why");
  document.getElementById("what").textContent = button.dataset.what;
  numbers.replaceChildren();
  field.value = token;
  why.value = failed.post === button.dataset.post ? failed.why : "";  // after a wrong token nobody types it twice
  dialog.returnValue = "no";
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.showModal();
  (field.value ? why : field).focus();
  if (button.dataset.numbers) preview(button.dataset.numbers, numbers);
  await closed;
  token = field.value;
  return { yes: dialog.returnValue === "yes", why: why.value.trim() };
}

async function preview(url, into) {
  into.dataset.of = url;
  into.textContent = "what would move is being worked out ...";
  const answer = await fetch(url, { signal: AbortSignal.timeout(ACTION_MS) }).catch(() => null);
  const page = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  if (into.dataset.of !== url) return;  // another one is asked about meanwhile
  const found = page?.getElementById("preview") ?? page?.querySelector("main section .note");
  if (found) into.replaceChildren(found);
  else into.textContent = "what would move is not known now";
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  if (!live.classList.contains("old")) say("");
  const { yes, why } = await ask(button);
  if (!yes) return;
  const url = why ? `${button.dataset.post}?reason=${encodeURIComponent(why)}` : button.dataset.post;
  const what = button.getAttribute("aria-label") ?? button.textContent;
  own(`${what}: asked, no answer yet`, ACTION_MS, true);
  const sent = { method: "POST", headers: { Authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(ACTION_MS) };
  const answer = await fetch(url, sent).catch((error) => error);
  if (!(answer instanceof Response)) {
    own(`${what}: the controller does not answer (${reason(answer)}). It may have been done: look at the page before you ask again`, SAID_MS, true);
    return;
  }
  const body = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (body.status === "success") {
    failed = { post: "", why: "" };
    own(`${what}: ${outcome(body.data ?? {})}`, SAID_MS);
    return soon();
  }
  token = "";
  failed = { post: button.dataset.post, why };
  own(`${what}: not done: ${body.error}`, SAID_MS, true);
});

// The stream of events. A browser has six connections to a server: only the tab that somebody looks at has a stream. One
// that is refused (a proxy before a controller that is being started, or too many streams) is tried again.
let stream = null;

function listen() {
  stream?.close();
  stream = null;
  if (document.hidden) return;
  const one = stream = new EventSource(`${root.dataset.base}/api/v1/events`);
  one.onmessage = soon;
  one.onerror = () => {
    if (one.readyState === EventSource.CLOSED) setTimeout(() => { if (stream === one) listen(); }, EVERY_MS);
  };
}

if (live.dataset.refresh === "yes") {
  const age = document.getElementById("age");
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "go on" : "pause";
    if (!paused) soon();
  });
  setInterval(() => {
    const old = live.classList.contains("old");
    age.classList.toggle("stale", old);
    age.textContent = `${old ? "no answer, " : ""}${paused ? "paused, " : ""}updated ${Math.round((Date.now() - renewedAt) / 1000)} s ago`;
  }, 1000);
  listen();
  document.addEventListener("visibilitychange", () => { listen(); soon(); });
  timer = setTimeout(refresh, EVERY_MS);
}
