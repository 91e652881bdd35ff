// One trace: what its calls cost together, and how they follow each other.

import { settings } from "./api.js";
import { copying, h } from "./dom.js";
import { compact, count, digits, duration, e18, money } from "./figures.js";
import { when } from "./time.js";

/** The card above the calls of a trace; `more`: there are others beside `rows`. */
export function trace(id, rows, more, totals, zone) {
  const { from, to } = extent(rows);
  const amount = e18(totals.cost.total);
  const unknown = totals.cost.unknown_rows;
  const took = more ? [] : [`${duration((to - from) * 1e6)} from the first to the last`];
  const tools = h("p", { class: "actions" });
  settings().then(({ trace_url }) => trace_url && tools.append(h("a", { class: "button", href: trace_url.replace("{trace_id}", encodeURIComponent(id)), target: "_blank", rel: "noopener noreferrer" }, "Open the trace")), () => {});
  return h(
    "section",
    { class: "card", id: "trace", "aria-label": "The trace" },
    h("div", { class: "card-head" }, h("p", { class: "big" }, money(amount, totals.cost.currency)), tools),
    h("p", { class: "soft exact" }, amount === null ? "" : `${digits(amount)} ${totals.cost.currency}`, unknown > 0 && ` + ${count(unknown)} of unknown cost`),
    h("p", { class: "soft" }, [`${count(totals.calls)} calls`, `${compact(totals.tokens.total)} tokens`, ...took, when(new Date(from).toISOString(), zone)].join(" · ")),
    h("p", { class: "command" }, h("code", {}, id), copying(id)),
  );
}

/** A column that shows when in the trace each call ran. */
export function course(rows) {
  const { from, to } = extent(rows);
  const length = Math.max(to - from, 1);
  const share = (ms) => `${((ms / length) * 100).toFixed(2)}%`;
  return {
    head: "Course",
    minor: true,
    of: (call) => {
      const begins = Date.parse(call.start_time) - from;
      const label = `after ${duration(begins * 1e6)}, for ${duration(call.duration_ns)}`;
      return h("span", { class: "course", title: label }, h("span", { class: "unseen" }, label), h("span", { class: call.status === "ok" ? "" : "failing", style: { left: share(begins), width: share(call.duration_ns / 1e6) } }));
    },
  };
}

/** When the calls begin and end, ms. */
function extent(rows) {
  const begins = rows.map((call) => Date.parse(call.start_time));
  return { from: Math.min(...begins), to: Math.max(...rows.map((call, i) => begins[i] + call.duration_ns / 1e6)) };
}
