// The page: goes from address to address, and keeps what it shows fresh.

import { ApiError, token } from "./api.js";
import { openCall } from "./call.js";
import { calls } from "./calls.js";
import { $, copying, h, say, show } from "./dom.js";
import { filters } from "./filters.js";
import { overview } from "./overview.js";
import { repricing } from "./repricing.js";
import { read, write, zoneOf } from "./state.js";
import { clock, span } from "./time.js";

const REFRESH = 15_000;
const VIEWS = { overview, calls, repricing };
const TITLES = { overview: "Overview", calls: "Calls", repricing: "Repricing" };
const STILL = ["repricing"]; // views that take long and do not refresh themselves

let state = read(location.search);
let shown = null;
let running = null;
let live = true;

/** Go to a state: a new entry of the history. */
function go(next) {
  visit(write(next));
}

function visit(address) {
  history.pushState({ ours: true }, "", address);
  arrive();
}

function arrive() {
  const before = state.call;
  state = read(location.search);
  if (state.call !== before) sheet();
  load(shown !== state.view);
}

/** The sheet with one call, open where the address names a call. */
function sheet() {
  if (!state.call) return void ($("call").open && $("call").close());
  const leave = () => (history.state?.ours ? history.back() : go({ ...state, call: "" }));
  openCall({ state, zone: zoneOf(state), leave });
}

async function load(moved = false) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const main = $("main");
  const now = Date.now();
  const zone = zoneOf(state);
  const asked = span(state, now, zone);
  const where = state.filters;
  const range = [["since", asked.since], ["until", asked.until], ["time_zone", zone], ...where];
  if (moved) {
    main.replaceChildren();
    main.seen = undefined;
    shown = state.view;
    document.title = `${TITLES[state.view]} · spanledger`;
  }
  for (const link of document.querySelectorAll("[data-nav]")) {
    link.setAttribute("href", write({ ...state, view: link.dataset.nav, call: "" }));
    if (link.dataset.nav === state.view && !link.classList.contains("brand")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  filters(state, go, range);
  main.setAttribute("aria-busy", "true");
  try {
    await VIEWS[state.view]({ main, state: { ...state, call: "" }, go, range, where, zone, now, span: asked, signal, empty, load: () => load() });
    notice();
    $("fresh").textContent = `Updated ${clock(Date.now(), zone)}`;
    main.removeAttribute("aria-busy");
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    main.removeAttribute("aria-busy");
    if (main.querySelector(".waiting")) main.replaceChildren();
    notice(error);
  }
}

/** What to say where there are no calls: how to get the first one, or how to find others. */
function empty() {
  if (state.filters.length || state.range !== "30d")
    return h(
      "div",
      { class: "empty" },
      h("p", {}, h("strong", {}, "No calls here.")),
      h("p", { class: "soft" }, state.filters.length ? "No call of this range has all of these filters." : "There was none in this range of time."),
      h("p", { class: "actions" }, state.filters.length > 0 && h("button", { type: "button", onclick: () => go({ ...state, filters: [] }) }, "Remove the filters"), h("button", { type: "button", onclick: () => go({ ...state, range: "12m", since: "", until: "", bucket: "" }) }, "Last 12 months")),
    );
  const command = "opentelemetry-instrument python app.py";
  return h(
    "div",
    { class: "empty" },
    h("p", {}, h("strong", {}, "No calls yet.")),
    h("p", { class: "soft" }, "Run a program that calls an LLM like this, and its calls appear here by themselves:"),
    h("p", { class: "command" }, h("code", {}, command), copying(command)),
    h("p", { class: "soft" }, "If nothing comes: spanledger doctor tells why."),
  );
}

function notice(error) {
  const place = $("notice");
  show(place, error ? [error.status, error.message, token.get()] : null, () => {
    if (!error) return [];
    const again = h("button", { type: "button", onclick: () => load() }, "Try again");
    if (!(error instanceof ApiError)) {
      console.error(error);
      return h("div", { class: "notice" }, h("p", {}, h("strong", {}, "The page failed. "), String(error.message)), again);
    }
    if (error.status === 401) return tokenForm();
    const told = {
      0: ["The service does not answer.", "Is it up? spanledger status tells; spanledger up starts it. What you see is what was known last."],
      422: ["This cannot be asked.", error.message],
      429: ["Too many requests.", error.message],
      503: ["The ledger does not answer.", error.message],
    }[error.status] ?? ["The service failed.", error.message];
    const reset = error.status === 422 && h("button", { type: "button", onclick: () => go(read("")) }, "Back to the overview");
    return h("div", { class: "notice" }, h("p", {}, h("strong", {}, told[0]), " ", told[1]), reset || again);
  });
}

function tokenForm() {
  const wrong = token.get() !== null;
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  return h(
    "form",
    {
      class: "notice",
      onsubmit: (event) => {
        event.preventDefault();
        token.set(input.value.trim());
        load(true);
      },
    },
    h("label", { for: "token" }, h("strong", {}, wrong ? "This token is not known. " : "A token is needed. "), "It is in the file that SPANLEDGER_SERVE_TOKEN_FILE names; this tab keeps it until it is closed."),
    input,
    h("button", { type: "submit" }, "Show the ledger"),
  );
}

// ---- light and dark

const THEMES = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" };

function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = THEMES[name];
  try {
    localStorage.setItem("spanledger-theme", name);
  } catch {
    // a browser that keeps nothing
  }
  document.dispatchEvent(new CustomEvent("themed"));
}

const kept = localStorage.getItem("spanledger-theme");
theme(kept in THEMES ? kept : "auto");
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("themed")));

// ---- the rest

$("live").addEventListener("click", () => {
  live = !live;
  $("live").setAttribute("aria-pressed", String(live));
  say(live ? "The page refreshes itself" : "The page stands still");
  if (live) load();
});
setInterval(() => {
  const waits = $("main").hasAttribute("aria-busy") || document.querySelector("#notice form");
  if (live && !waits && !STILL.includes(state.view) && document.visibilityState === "visible") load();
}, REFRESH);
document.addEventListener("visibilitychange", () => live && !STILL.includes(state.view) && document.visibilityState === "visible" && load());

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || link.target || link.download || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const to = new URL(link.href);
  if (to.origin !== location.origin || to.pathname !== location.pathname || to.hash) return;
  event.preventDefault();
  const moves = read(to.search).view !== shown;
  visit(to.href);
  if (moves) $("main").focus();
});
addEventListener("popstate", arrive);
addEventListener("unhandledrejection", (event) => {
  if (!(event.reason instanceof ApiError)) return;
  event.preventDefault();
  notice(event.reason); // of a button: CSV, More
});

sheet();
load(true);
