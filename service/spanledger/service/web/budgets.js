// What is left of the budgets.

import { ApiError, ask, settings } from "./api.js";
import { copying, h, table } from "./dom.js";
import { count, e18, exactly, money, percent } from "./figures.js";
import { write } from "./state.js";
import { when } from "./time.js";

const FIRST = 5;
const EXAMPLE = "settings: {budgets: {everything: {amount: 500, window: month}}}";
const WINDOWS = { hour: "this hour", day: "today", month: "this month" };

/** The answer about budgets, those of one scope first; what is wrong with a setting of them is an answer too. */
export async function asked(signal) {
  try {
    const { budgets } = await ask("llm/budgets", [], signal);
    const { tenant } = budgets.length ? {} : await settings();
    const times = (name) => budgets.filter((each) => each.budget === name).length;
    const [single, shared] = [budgets.filter((each) => times(each.budget) === 1), budgets.filter((each) => times(each.budget) > 1)];
    return { budgets: [...single, ...shared], tenant };
  } catch (error) {
    if (error instanceof ApiError && error.status === 500) return { wrong: error.message };
    throw error;
  }
}

/** What the panel shows of an answer. */
export function budgets({ budgets, tenant, wrong }, state, zone) {
  if (wrong) return [h("p", { class: "failed" }, h("strong", {}, "A setting is wrong. "), wrong)];
  if (!budgets.length) {
    if (tenant) return [h("p", { class: "nothing" }, `No budget is set for ${tenant}.`)];
    return [
      h("p", { class: "nothing" }, "No budget is set. A line like this in config.yaml sets one, from the next start of the service on:"),
      h("p", { class: "command" }, h("code", {}, EXAMPLE), copying(EXAMPLE)),
    ];
  }
  const others = budgets.slice(FIRST);
  const over = others.filter((each) => each.exceeded).length;
  const columns = [
    { head: "Budget", of: (each) => [name(each, state), h("span", { class: "under" }, scope(each))] },
    { head: "Spent", number: true, of: (each) => [amount(each.spent, each), each.unpriced > 0 && h("span", { class: "under" }, `+ ${count(each.unpriced)} unknown`)] },
    { head: "Of", number: true, of: (each) => amount(each.amount, each) },
    { head: "Share", number: true, of: (each) => percent(Number(each.share)) },
  ];
  return [
    h("ul", { class: "budgets" }, budgets.slice(0, FIRST).map((each) => one(each, state, zone))),
    others.length > 0 && h("details", { class: "behind", "data-keep": "budgets" }, h("summary", {}, `${count(others.length)} more${over ? `, ${count(over)} over budget` : ""}`), table("More budgets", columns, others)),
  ].filter(Boolean);
}

function one(each, state, zone) {
  const share = Number(each.share);
  const kind = each.exceeded ? "bad" : each.crossed.length ? "warn" : "good";
  const ticks = each.thresholds.map(Number).filter((at) => at > 0 && at < 1);
  return h(
    "li",
    {},
    h("p", { class: "budget-head" }, name(each, state), h("span", { class: "soft" }, scope(each)), h("span", { class: `mark ${kind}` }, stateOf(each))),
    h(
      "div",
      { class: `meter ${kind}`, "aria-hidden": "true" },
      h("span", { style: { width: percentage(Math.min(share, 1)) } }),
      ticks.map((at) => h("i", { style: { left: percentage(at) } })),
    ),
    h("p", { class: "budget-foot" }, h("span", {}, amount(each.spent, each), " of ", amount(each.amount, each), ` · ${percent(share)}`, each.unpriced > 0 && ` · ${count(each.unpriced)} of unknown cost`), h("span", { class: "soft" }, ending(each, zone))),
  );
}

const percentage = (share) => `${(share * 100).toFixed(2)}%`;
const scope = (each) => Object.entries(each.scope).map(([dimension, value]) => `${dimension} ${value}`).join(", ") || "all calls";
const amount = (text, { currency }) => h("span", { title: exactly(e18(text), currency) }, money(e18(text), currency));

/** The word of `spanledger budgets list`, and the threshold that was reached. */
function stateOf(each) {
  if (each.exceeded) return "over budget";
  return each.crossed.length ? `${percent(Number(each.crossed.at(-1)))} reached` : "ok";
}

/** A link to what was spent: the same calls in the same time. */
function name(each, state) {
  const filters = Object.entries(each.scope).map(([dimension, value]) => (dimension.startsWith("tag:") ? ["tag", `${dimension.slice(4)}=${value}`] : [dimension, value]));
  return h("a", { class: "name", href: write({ ...state, range: "custom", since: each.since, until: "", bucket: "", filters }), "data-focus": `budget ${each.budget} ${scope(each)}` }, each.budget);
}

function ending(each, zone) {
  const window = WINDOWS[each.window];
  return window ? `${window}, until ${when(each.until, zone, "short")}` : each.window;
}
