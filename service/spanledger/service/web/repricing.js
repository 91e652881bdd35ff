// What today's prices would have made of the calls of a range.

import { ApiError, BRIEF, ask } from "./api.js";
import { copying, h, say, show, table } from "./dom.js";
import { count, e18, exactly, money, percent, ratio, sum } from "./figures.js";
import { named } from "./state.js";

/** Show what would change in `main`. */
export async function repricing(page) {
  const { main, range, signal, load } = page;
  if (!main.querySelector("#repricing")) {
    main.replaceChildren(
      h("h1", { tabindex: "-1" }, "Repricing"),
      h("p", { class: "lead soft" }, "What the calls of this range would cost by today's price book, each priced as of its own time. To try a price, put it into a file of settings.price_files, and ask again: nothing is written."),
      h("div", { class: "tiles three", id: "repriced" }),
      h("section", { class: "card", id: "repricing" }),
    );
  }
  const [tiles, card] = [main.querySelector("#repriced"), main.querySelector("#repricing")];
  const again = h("button", { type: "button", "data-focus": "again", onclick: () => ((again.textContent = "Asking …"), load()) }, "Ask again");
  card.setAttribute("aria-busy", "true");
  if (card.of !== range.join()) show(card, "waiting", () => [h("p", { class: "soft" }, "Pricing these calls again …"), h("p", { class: "waiting" })]);
  card.of = range.join();
  try {
    const [found, all] = await Promise.all([ask("llm/repricing", range, signal), ask("llm/stats", [...range, ...BRIEF], signal)]);
    const changes = found.changes.map((each) => ({ ...each, before: e18(each.before), after: e18(each.after) }));
    const now = e18(all.totals[0].cost.total) ?? 0n;
    const currency = all.totals[0].cost.currency;
    const more = (sum(changes.map((each) => each.after)) ?? 0n) - (sum(changes.map((each) => each.before)) ?? 0n);
    const share = ratio(more, now);
    show(tiles, [all.totals[0].cost, found], () => [
      tile("Stored costs", amount(now, currency), `${count(found.looked_at)} rows`),
      tile("By today's prices", amount(now + more, currency), `${count(found.changed)} rows would change`),
      tile("Difference", amount(more, currency, true), !share ? "" : `${more < 0n ? "−" : "+"}${percent(Math.abs(share))}`),
    ]);
    for (const waiting of card.querySelectorAll("[data-focus=again]")) waiting.textContent = "Ask again";
    say(`${count(found.changed)} rows would change`);
    show(card, [found, range], () => [
      h("div", { class: "card-head" }, h("h2", {}, "What would change"), again),
      changes.length ? table("What would change", columns, changes) : h("p", { class: "nothing" }, found.looked_at ? "Nothing: every call has the price that today's price book gives it." : "There are no calls in this range."),
      changes.length > 0 && h("p", { class: "soft more" }, "To write the new costs, and keep the former ones in price_history:"),
      changes.length > 0 && command(page),
    ].filter(Boolean));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 422) throw error;
    show(tiles, error.message, () => []);
    show(card, error.message, () => [h("p", { class: "failed" }, h("strong", {}, "This cannot be asked: "), error.message)]);
  }
  card.removeAttribute("aria-busy");
}

const tile = (title, figure, under) => h("div", { class: "tile" }, h("h2", {}, title), h("p", { class: "figure" }, figure), h("p", { class: "soft" }, under));

function amount(value, currency, signed = false) {
  if (value === null) return "unknown";
  return h("span", { title: exactly(value, currency) }, signed && value > 0n ? "+" : "", money(value, currency));
}

const columns = [
  { head: "Model", of: (each) => [h("span", { class: "name" }, named(each.model)), h("span", { class: "under" }, each.provider)] },
  { head: "Why", minor: true, of: (each) => each.reason.replace("->", "→").replaceAll("_", " ") },
  { head: "Rows", number: true, of: (each) => count(each.rows) },
  { head: "Stored", number: true, of: (each) => amount(each.before, each.currency) },
  { head: "Today", number: true, of: (each) => amount(each.after, each.currency) },
  { head: "Difference", number: true, of: (each) => (each.before === null || each.after === null ? "–" : amount(each.after - each.before, each.currency, true)) },
];

/** The command that writes what is shown; none where it cannot say these filters. */
function command({ span, where }) {
  const names = where.map(([name]) => name).filter((name) => name !== "tag");
  if (new Set(names).size < names.length) return null;
  const quoted = (text) => (/^[\w.:@=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const second = (ms) => `${new Date(ms).toISOString().slice(0, 19)}Z`;
  const options = [["since", second(span.from)], ...(span.until ? [["until", second(span.to)]] : []), ...where];
  const text = ["spanledger reprice", ...options.map(([name, value]) => `--${name.replaceAll("_", "-")} ${quoted(value)}`)].join(" ");
  return h("p", { class: "command" }, h("code", {}, text), copying(text));
}
