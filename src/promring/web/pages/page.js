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
    if (!live.contains(document.activeElement)) live.replaceChildren(...page.getElementById("live").childNodes);
    live.classList.remove("old");
    say("");
  } catch (error) {
    live.classList.add("old");
    say(`this is old: the controller does not answer (${error.message})`);
  } finally {
    asked = false;
  }
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
  new EventSource("/api/v1/events").onmessage = soon;
  document.addEventListener("visibilitychange", soon);
  timer = setTimeout(refresh, EVERY_MS);
}
