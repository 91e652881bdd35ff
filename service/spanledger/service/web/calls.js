// The list of calls.

import { ask } from "./api.js";
import { h, say, show, table } from "./dom.js";
import { compact, count, digits, duration, e18, money } from "./figures.js";
import { named, write } from "./state.js";
import { when } from "./time.js";

const SORTS = { "-start_time": "Latest first", start_time: "Earliest first", "-cost": "Dearest first", "-duration": "Slowest first", "-total_tokens": "Most tokens first" };

export const modelOf = (call) => call.response_model || call.request_model;

/** The cost of a row, with all its digits behind it. */
export function cost(call) {
  const amount = e18(call.cost_base);
  if (amount === null) return h("span", { class: "mark warn", title: call.cost_reasons?.[0] }, call.price_status.replaceAll("_", " "));
  return h("span", { title: `${digits(amount)} ${call.base_currency}` }, call.price_status === "estimated" ? "≈ " : "", money(amount, call.base_currency));
}

export function columns(state, zone, more) {
  return [
    { head: "Time", of: (call) => h("a", { href: write({ ...state, call: call.entry_id }), "data-focus": `call ${call.entry_id} ${call.line}` }, when(call.start_time, zone)) },
    { head: "Model", of: (call) => [h("span", { class: "name" }, named(modelOf(call))), h("span", { class: "under" }, call.provider)] },
    more && { head: "Operation", minor: true, of: (call) => call.operation },
    { head: "From", minor: true, of: (call) => [call.service_name, call.tenant, call.feature].filter(Boolean).join(" · ") },
    { head: "User", minor: true, of: (call) => call.user_id },
    { head: "Input", number: true, of: (call) => h("span", { title: count(call.input_tokens) }, compact(call.input_tokens)) },
    { head: "Output", number: true, of: (call) => h("span", { title: count(call.output_tokens) }, compact(call.output_tokens)) },
    more && { head: "Time taken", number: true, minor: true, of: (call) => duration(call.duration_ns) },
    more && { head: "Status", of: (call) => (call.status === "ok" ? "ok" : h("span", { class: "mark bad", title: call.error_message }, call.error_type || "error")) },
    { head: "Cost", number: true, of: cost },
  ].filter(Boolean);
}

/** Show the calls of a range in `main`. */
export async function calls({ main, state, go, range, zone, signal, empty }) {
  const limit = 100;
  const question = [...range, ["sort", state.sort], ["limit", limit]];
  const [found, all] = await Promise.all([ask("llm/calls", question, signal), ask("llm/stats", [...range, ["parts", "false"]], signal)]);
  const totals = all.totals[0];
  const sort = h("select", { id: "sort", "aria-label": "Order", onchange: (event) => go({ ...state, sort: event.target.value }) }, Object.entries(SORTS).map(([name, label]) => h("option", { value: name, selected: name === state.sort }, label)));
  show(main, ["calls", state, found, totals.calls], () => {
    const rows = [...found.calls];
    let next = found.next;
    const body = () => table("Calls", columns(state, zone, true), rows);
    const place = h("div", {}, rows.length ? body() : empty());
    const more = h("button", {
      type: "button",
      class: "more",
      hidden: !next,
      onclick: async () => {
        const page = await ask("llm/calls", [...question, ["cursor", next]]);
        rows.push(...page.calls);
        next = page.next;
        more.hidden = !next;
        place.replaceChildren(body());
        say(`${rows.length} calls`);
      },
    }, "More");
    return [
      h("h1", { tabindex: "-1" }, "Calls"),
      h("section", { class: "card" }, h("div", { class: "card-head" }, h("p", {}, `${count(totals.calls)} calls, `, money(e18(totals.cost.total), totals.cost.currency)), sort, h("button", { type: "button", class: "quiet", onclick: () => download(range) }, "CSV")), place, more),
    ];
  });
}

/** Save the list as CSV; by fetch, so that a token goes with it. */
async function download(range) {
  const { token } = await import("./api.js");
  const query = new URLSearchParams([...range, ["limit", 1000], ["format", "csv"]]);
  const response = await fetch(`api/v1/llm/calls?${query}`, { headers: token.get() ? { authorization: `Bearer ${token.get()}` } : {} });
  const link = h("a", { href: URL.createObjectURL(await response.blob()), download: "llm-calls.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
}
