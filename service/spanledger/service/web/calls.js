// The list of calls, and of the calls of one trace with what they come to.

import { BRIEF, ask, save } from "./api.js";
import { h, say, show, table } from "./dom.js";
import { compact, count, duration, e18, exactly, money, words } from "./figures.js";
import { named, write } from "./state.js";
import { briefly, when } from "./time.js";
import { course, trace } from "./trace.js";

const PAGE = 100;
const READING = 200; // pixels below the top: the list stays as it is while somebody reads it
const SORTS = { "-start_time": "Latest first", start_time: "Earliest first", "-cost": "Dearest first", "-duration": "Slowest first", "-total_tokens": "Most tokens first" };

export const modelOf = (call) => call.response_model || call.request_model;

/** The cost of a row, with all its digits behind it. */
export function cost(call) {
  const amount = e18(call.cost_base);
  if (amount === null) return h("span", { class: "mark warn", title: call.cost_reasons?.[0] }, words(call.price_status));
  return h("span", { title: exactly(amount, call.base_currency) }, call.price_status === "estimated" ? "≈ " : "", money(amount, call.base_currency));
}

export function columns(state, zone, more) {
  return [
    { head: "Time", of: (call) => h("a", { class: "time", title: when(call.start_time, zone), href: write({ ...state, call: call.entry_id }), "data-focus": `call ${call.entry_id} ${call.line}` }, briefly(call.start_time, zone)) },
    { head: "Model", of: (call) => [h("span", { class: "name" }, named(modelOf(call))), h("span", { class: "under" }, call.provider)] },
    more && { head: "Operation", minor: true, of: (call) => words(call.operation) },
    { head: "From", minor: true, of: (call) => h("span", { class: "name" }, [call.service_name, call.tenant, call.feature].filter(Boolean).join(" · ")) },
    { head: "User", minor: true, of: (call) => h("span", { class: "name" }, call.user_id) },
    { head: "Input", number: true, least: true, of: (call) => h("span", { title: count(call.input_tokens) }, compact(call.input_tokens)) },
    { head: "Output", number: true, least: true, of: (call) => h("span", { title: count(call.output_tokens) }, compact(call.output_tokens)) },
    more && { head: "Took", number: true, minor: true, of: (call) => duration(call.duration_ns) },
    more && { head: "Status", minor: true, of: (call) => (call.status === "ok" ? "ok" : h("span", { class: "mark bad", title: call.error_message }, call.error_type || "error")) },
    { head: "Cost", number: true, of: cost },
  ].filter(Boolean);
}

/** Show the calls of a range in `main`. */
export async function calls(page) {
  const { main, state, go, range, zone, signal, empty } = page;
  const question = [...range, ["sort", state.sort], ["limit", PAGE]];
  const [found, all] = await Promise.all([ask("llm/calls", question, signal), ask("llm/stats", [...range, ...BRIEF], signal)]);
  const [totals] = all.totals;
  const key = JSON.stringify([state, zone]);
  const list = main.list?.key === key && main.list.place.isConnected ? main.list : null;
  const first = JSON.stringify(found.calls);
  if (list && list.first !== first && (list.rows.length > PAGE || scrollY > READING)) return void list.news(totals);
  if (list) list.first = first;
  show(main, ["calls", key, found, totals], () => {
    const rows = [...found.calls];
    const one = traceOf(state);
    let next = found.next;
    const shown = () => [...columns(state, zone, true), one && rows.length > 0 && course(rows)].filter(Boolean);
    const body = () => table("Calls", shown(), rows);
    const place = h("div", {}, rows.length ? body() : empty());
    const more = h("button", {
      type: "button",
      class: "more",
      hidden: !next,
      onclick: async () => {
        const following = await ask("llm/calls", [...question, ["cursor", next]]);
        rows.push(...following.calls);
        next = following.next;
        more.hidden = !next;
        place.replaceChildren(body());
        say(`${rows.length} calls`);
      },
    }, "More");
    const sum = h("p", {});
    const latest = h("button", { type: "button", hidden: true, onclick: () => (scrollTo(0, 0), (main.list = null), go(state)) }, "Show the new ones");
    const tell = ({ calls, cost }) => sum.replaceChildren(`${count(calls)} calls, `, h("span", { title: exactly(e18(cost.total), cost.currency) }, money(e18(cost.total), cost.currency)), cost.unknown_rows ? `, ${count(cost.unknown_rows)} of unknown cost` : "");
    tell(totals);
    main.list = { key, first, rows, place, news: (now) => (tell(now), (latest.hidden = false)) };
    const sort = h("select", { id: "sort", "aria-label": "Order", onchange: (event) => go({ ...state, sort: event.target.value }) }, Object.entries(SORTS).map(([name, label]) => h("option", { value: name, selected: name === state.sort }, label)));
    const csv = h("button", { type: "button", onclick: () => save("llm/calls", [...range, ["sort", state.sort], ["limit", 1000]], "llm-calls.csv") }, "CSV");
    return [
      h("h1", { tabindex: "-1" }, one ? "Calls of a trace" : "Calls"),
      one && rows.length > 0 && trace(one, rows, Boolean(next), totals, zone),
      h("section", { class: "card", id: "calls" }, h("div", { class: "card-head" }, sum, latest, sort, csv), place, more),
    ].filter(Boolean);
  });
}

/** The trace that the filters ask for, if they ask for one. */
function traceOf({ filters }) {
  const asked = filters.filter(([name]) => name === "trace");
  return asked.length === 1 ? asked[0][1] : null;
}
