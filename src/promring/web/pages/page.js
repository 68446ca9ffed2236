// Keeps the page new, and sends what its buttons say. All text is put there by the server, escaped.
"use strict";

const EVERY_MS = 5000;
const CALM_MS = 300;
let timer = 0;
let wanted = 0;
let asked = false;
let token = "";

async function refresh() {
  clearTimeout(timer);
  clearTimeout(wanted);
  wanted = 0;
  timer = setTimeout(refresh, EVERY_MS);
  if (asked || document.hidden) return;
  asked = true;
  const live = document.getElementById("live");
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(EVERY_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    renew(live, page.getElementById("live"));
    live.classList.remove("old");
    say("");
  } catch (error) {
    live.classList.add("old");
    say(`this is old: the controller does not answer (${error.message})`);
  } finally {
    asked = false;
  }
}

// Makes the children of `old` those of `fresh`. What has the focus stays in the document and is renewed in its place, so a
// key that is pressed next, or a screen reader, finds it where it was.
function renew(old, fresh) {
  const kept = [...old.children].find((child) => child.contains(document.activeElement));
  const twin = kept && twinOf(kept, old, fresh);
  if (!twin) return old.replaceChildren(...fresh.childNodes);
  for (const child of [...old.childNodes]) if (child !== kept) child.remove();
  const nodes = [...fresh.childNodes];
  const at = nodes.indexOf(twin);
  kept.before(...nodes.slice(0, at));
  kept.after(...nodes.slice(at + 1));
  for (const name of kept.getAttributeNames()) if (!twin.hasAttribute(name)) kept.removeAttribute(name);
  for (const name of twin.getAttributeNames()) kept.setAttribute(name, twin.getAttribute(name));
  renew(kept, twin);
}

// The child of `fresh` that stands for the same thing as `kept`: by its data-key; without one, by kind and order.
function twinOf(kept, old, fresh) {
  const key = kept.dataset.key;
  if (key !== undefined) return [...fresh.children].find((child) => child.dataset.key === key);
  const like = (child) => child.tagName === kept.tagName && child.dataset.key === undefined;
  return [...fresh.children].filter(like)[[...old.children].filter(like).indexOf(kept)];
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function soon() {
  wanted = wanted || setTimeout(refresh, CALM_MS);
}

function ask(what) {
  const dialog = document.getElementById("asks");
  const field = document.getElementById("token");
  document.getElementById("what").textContent = what;
  field.value = token;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      token = field.value;
      resolve(dialog.returnValue === "yes");
    }, { once: true });
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button) return;
  const yes = await ask(button.dataset.what);
  button.blur();
  if (!yes) return;
  const answer = await fetch(button.dataset.post, { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  const body = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (body.status === "success") return soon();
  token = "";
  alert(body.error);
});

if (document.getElementById("live").dataset.refresh === "yes") {
  new EventSource(`${document.documentElement.dataset.base}/api/v1/events`).onmessage = soon;
  document.addEventListener("visibilitychange", soon);
  timer = setTimeout(refresh, EVERY_MS);
}
