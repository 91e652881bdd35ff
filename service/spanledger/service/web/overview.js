// The first view: what was spent, on what, and what wants attention.

import { BRIEF, NO_PARTS, ask, save } from "./api.js";
import { asked as askedBudgets, budgets } from "./budgets.js";
import { columns as callColumns } from "./calls.js";
import { chart } from "./chart.js";
import { copying, h, show, table } from "./dom.js";
import { compact, count, duration, e18, exactly, height, isTokens, money, percent, ratio, sum, words } from "./figures.js";
import { BUCKETS, DIMENSIONS, GROUPS, METRICS, filtered, named, write } from "./state.js";
import { begins, buckets as bucketsOf, day, keyOf, plusDays, plusMonths } from "./time.js";

const SERIES = 7;
const ROWS = 50;
const SORT = { cost: "-cost", tokens: "-total_tokens", calls: "-calls", errors: "-errors" };

const pick = {
  cost: (each) => e18(each.cost.total),
  tokens: (each) => BigInt(each.tokens.total ?? 0),
  calls: (each) => BigInt(each.calls),
  errors: (each) => BigInt(each.errors),
};

/** Show the overview in `main`; each panel as its answer comes. */
export async function overview(page) {
  const { main, state, span } = page;
  if (!main.querySelector("#tiles")) main.replaceChildren(...frame());
  const card = (id) => main.querySelector(`#${id}`);
  const stats = (...parameters) => ask("llm/stats", [...page.range, ...parameters], page.signal);

  const order = SORT[state.metric];
  const totals = stats();
  const table = stats(["group_by", state.by], ["limit", state.rows ? 1000 : ROWS], ["sort", state.order || order], ...NO_PARTS);
  const groups = state.order && state.order !== order ? stats(["group_by", state.by], ["limit", SERIES], ["sort", order], ...BRIEF) : table;
  const days = everyDay(page);
  const byTime = days.ofRange ? days.answer : stats(["group_by", span.bucket], ["limit", 10000], ...BRIEF);
  const above = [
    tiles(page, card("tiles"), totals, days.answer),
    overTime(page, card("time"), groups, byTime, stats),
    breakdown(page, card("groups"), table, groups, totals),
  ];
  const below = () => [
    spending(page, card("budgets")),
    errors(page, card("errors"), totals),
    parts(page, card("parts"), totals),
    caching(page, card("caching"), totals),
    latency(page, card("latency"), stats, totals),
    slowest(page, card("slowest"), stats, table),
    dearest(page, card("dearest")),
    ranking(page, card("users"), stats, "user"),
    ranking(page, card("prompts"), stats, "prompt"),
    attention(page, card("attention"), totals),
  ];
  totals.then(({ totals: [all] }) => main.classList.toggle("none", !all.rows)).catch(() => {});
  for (const panels of [() => above, below]) {
    // what is seen first, first
    const failed = (await Promise.allSettled(panels())).find((each) => each.status === "rejected");
    if (failed) throw failed.reason;
  }
}

/** What each day cost since the month before, for the tiles; where the range is one of days up to now, of all its days too. */
function everyDay({ span, zone, now, where, signal }) {
  const month = plusMonths(day(now, zone), -1);
  const ofRange = span.bucket === "day" && !span.until && /^\d{4}-\d{2}-\d{2}$/.test(span.since);
  const since = ofRange && span.since < month ? span.since : month;
  return { ofRange, answer: ask("llm/stats", [["since", since], ["time_zone", zone], ...where, ["group_by", "day"], ["limit", 10000], ...BRIEF], signal) };
}

function frame() {
  const card = (id, kind = "") => h("section", { class: `card ${kind}`, id, "aria-busy": "true" }, h("p", { class: "waiting" }));
  return [
    h("h1", { class: "unseen", tabindex: "-1" }, "Overview"),
    h("div", { class: "tiles", id: "tiles" }),
    card("time", "wide"),
    card("groups", "wide"),
    card("budgets"),
    card("errors"),
    card("parts"),
    card("caching"),
    card("latency"),
    card("slowest"),
    card("dearest", "wide"),
    card("users"),
    card("prompts"),
    card("attention", "wide"),
  ];
}

function fill(place, data, make) {
  place.removeAttribute("aria-busy");
  show(place, data, make);
}

const head = (title, ...tools) => h("div", { class: "card-head" }, h("h2", {}, title), ...tools);
const nothing = (text) => h("p", { class: "nothing" }, text);

// ---- tiles

async function tiles(page, place, totals, everyDay) {
  const { zone, now, span, where, signal } = page;
  const today = day(now, zone);
  const month = `${today.slice(0, 7)}-01`;
  const before = [["since", span.before.since], ["until", span.before.until], ["time_zone", zone], ...where, ...BRIEF];
  const [days, all, past] = await Promise.all([everyDay, totals, ask("llm/stats", before, signal)]);
  const currency = all.totals[0].cost.currency;
  const spent = new Map(days.groups.map((each) => [each.group.day.slice(0, 10), e18(each.cost.total)]));
  const within = (from, to) => sum([...spent].filter(([date]) => date >= from && date <= to).map(([, amount]) => amount)) ?? 0n;
  const lastMonth = within(plusMonths(month, -1), plusDays(month, -1));
  const soFar = within(month, today);
  const coming = forecast(within, zone, now, today, month);
  const [total, former] = [all.totals[0], past.totals[0]];
  const [cost, formerCost] = [e18(total.cost.total), e18(former.cost.total)];
  const change = cost !== null && formerCost ? ratio(cost - formerCost, formerCost) : null;
  const unknown = total.cost.unknown_rows;
  const whole_amount = (amount) => h("span", { title: exactly(amount, currency) }, money(amount, currency));
  fill(place, [days.groups, total, former, today], () => [
    tile("Today", whole_amount(within(today, today)), "yesterday ", whole_amount(within(plusDays(today, -1), plusDays(today, -1)))),
    tile("This month", whole_amount(soFar), "last month ", whole_amount(lastMonth)),
    tile("Forecast", `≈ ${money(soFar + coming, currency)}`, "this month, at the last 7 days' pace"),
    tile("In this range", whole_amount(cost), [change === null ? "nothing to compare with" : h("span", { class: "change" }, `${change > 0 ? "▲" : change < 0 ? "▼" : ""} ${percent(Math.abs(change))} on the range before`), unknown ? h("a", { class: "aside warn", href: write({ ...page.state, view: "calls", filters: [...filtered(page.state, "price_status", "unpriced"), ["price_status", "usage_missing"]] }) }, `${count(unknown)} of unknown cost`) : null]),
    tile("Calls", compact(total.calls), total.calls ? `${percent(total.error_rate)} failed` : ""),
    tile("Latency, p95", duration(total.duration_ns.p95), total.duration_ns.p50 === null ? "" : `half within ${duration(total.duration_ns.p50)}`),
  ]);
}

/** What the rest of the month will cost at the pace of the last 7 whole days, or of the days that there are. */
function forecast(within, zone, now, today, month) {
  const from = plusDays(today, -7);
  const left = BigInt(Math.max(0, begins(plusMonths(month, 1), zone) - now));
  const length = BigInt(now - begins(from, zone));
  return (within(from, today) * left) / length;
}

const tile = (title, figure, ...under) => h("div", { class: "tile" }, h("h2", {}, title), h("p", { class: "figure" }, figure), h("p", { class: "soft" }, ...under));

// ---- over time

async function overTime(page, place, groups, byTime, stats) {
  const { state, span, zone, go } = page;
  const [found, whole] = await Promise.all([groups, byTime]);
  const first = shownOf(found.groups, state);
  const names = first.map((each) => each.group[state.by]);
  const series = names.length ? await stats(["group_by", `${span.bucket},${state.by}`], ["limit", 10000], ["sort", "time"], ...BRIEF, ...filter(state, names)) : { groups: [] };
  const buckets = bucketsOf(span, zone);
  const index = new Map(buckets.map((each, i) => [each.key, i]));
  const value = pick[state.metric];
  const currency = whole.totals[0].cost.currency;
  const text = (amount) => (state.metric === "cost" ? money(amount, currency) : count(Number(amount)));
  const row = () => new Array(buckets.length).fill(null);
  const amounts = names.map(row);
  const totals = row();
  for (const each of whole.groups) {
    const i = index.get(keyOf(each.group[span.bucket], span.bucket));
    if (i !== undefined) totals[i] = value(each); // days before the range are there for the tiles
  }
  for (const each of series.groups) {
    const of = amounts[names.indexOf(each.group[state.by])];
    if (of) of[index.get(keyOf(each.group[span.bucket], span.bucket))] = value(each); // a filter may let through more groups
  }
  const others = totals.map((total, i) => (total === null ? null : total - (sum(amounts.map((of) => of[i])) ?? 0n)));
  if (others.some((other) => other > 0n)) amounts.push(others);
  const labels = [...names.map(named), "Others"];
  const target = (bucket, which) => {
    const { since, until } = buckets[bucket];
    const filters = which !== null && which < names.length ? filtered(state, state.by, names[which]) : state.filters;
    return { ...state, view: "calls", range: "custom", since, until, bucket: "", filters, sort: "-cost" };
  };
  fill(place, [state, names, amounts.map((of) => of.map(String)), buckets], () => {
    const by = h("select", { id: "by", "aria-label": "Stacked by", onchange: (event) => go({ ...state, by: event.target.value }) }, GROUPS.map((name) => h("option", { value: name, selected: name === state.by }, DIMENSIONS[name])));
    const each = h("select", { id: "bucket", "aria-label": "A bar for each", onchange: (event) => go({ ...state, bucket: event.target.value }) }, BUCKETS.map((name) => h("option", { value: name, selected: name === span.bucket }, `by ${name}`)));
    const metrics = h("div", { class: "choice", role: "group", "aria-label": "Figure" }, Object.entries(METRICS).map(([name, label]) => h("button", { type: "button", "aria-pressed": String(name === state.metric), "data-focus": `metric ${name}`, onclick: () => go({ ...state, metric: name }) }, label)));
    const title = `${METRICS[state.metric]} by ${DIMENSIONS[state.by].toLowerCase()}`;
    const tools = h("div", { class: "tools" }, metrics, by, each);
    if (!totals.some((total) => total !== null)) return [head(title, tools), page.empty()];
    return [
      head(title, tools),
      chart({
        label: title,
        buckets,
        stacked: true,
        series: amounts.map((of, i) => ({
          name: labels[i],
          colour: i < names.length ? `s${i + 1}` : "s0",
          values: of.map((amount) => (amount === null ? null : state.metric === "cost" ? height(amount) : Number(amount))),
          texts: of.map((amount) => (amount === null ? "" : text(amount))),
        })),
        total: (i) => (totals[i] === null ? "" : text(totals[i])),
        whole: state.metric !== "cost",
        axis: (number) => (state.metric === "cost" ? axisMoney(number, currency) : compact(number)),
        pick: (bucket, which) => go(target(bucket, which)),
        href: (bucket, which) => write(target(bucket, which)),
        legend: h("ul", { class: "legend" }, amounts.map((_, i) => h("li", {}, h("span", { class: `swatch ${i < names.length ? `s${i + 1}` : "s0"}` }), labels[i]))),
      }),
    ];
  });
}

/** The groups that have a series of their own. */
const shownOf = (groups, { metric }) => groups.slice(0, SERIES).filter((each) => pick[metric](each) > 0n);

const filter = (state, names) => {
  const set = state.filters.some(([name]) => name === state.by);
  return set ? [] : names.map((name) => [state.by, name]);
};

const axisMoney = (number, currency) => new Intl.NumberFormat(undefined, { style: "currency", currencyDisplay: "narrowSymbol", currency, notation: "compact", maximumSignificantDigits: 3, minimumFractionDigits: 0 }).format(number);

// ---- tables

async function breakdown(page, place, groups, series, totals) {
  const { state, go, range } = page;
  const [found, drawn, { totals: [all] }] = await Promise.all([groups, series, totals]);
  const whole = e18(all.cost.total);
  fill(place, [state, found.groups, drawn === found || drawn.groups.map((each) => each.group), all.cost.total], () => {
    const name = DIMENSIONS[state.by];
    const title = `By ${name.toLowerCase()}`;
    if (!found.groups.length) return [head(title), nothing("Nothing to show.")];
    const colours = new Map(shownOf(drawn.groups, state).map((each, i) => [each.group[state.by], `s${i + 1}`]));
    const now = state.order || SORT[state.metric];
    const sort = (by) => ({
      now: now === `-${by}` ? "descending" : now === by ? "ascending" : null,
      by: () => go({ ...state, order: now === `-${by}` ? by : `-${by}` }),
    });
    const columns = [
      {
        head: name,
        of: (each) => {
          const i = found.groups.indexOf(each);
          return [h("span", { class: `swatch ${colours.get(each.group[state.by]) ?? "s0"}`, "aria-hidden": "true" }), h("a", { class: "name", href: write({ ...state, filters: filtered(state, state.by, each.group[state.by]) }), "data-focus": `group ${i}` }, named(each.group[state.by]))];
        },
      },
      { head: "Spend", number: true, sort: sort("cost"), of: (each) => amount(each.cost) },
      { head: "Share", number: true, of: (each) => share(e18(each.cost.total), whole) },
      { head: "Calls", number: true, sort: sort("calls"), of: (each) => h("a", { href: write({ ...state, view: "calls", sort: "-cost", filters: filtered(state, state.by, each.group[state.by]) }) }, count(each.calls)) },
      { head: "Per call", number: true, minor: true, of: (each) => (each.calls && each.cost.total !== null ? money(e18(each.cost.total) / BigInt(each.calls), each.cost.currency) : "–") },
      { head: "Input", number: true, minor: true, sort: sort("input_tokens"), of: (each) => h("span", { title: count(each.tokens.input) }, compact(each.tokens.input)) },
      { head: "Cached", number: true, minor: true, of: (each) => percent(ratio(each.tokens.cache_read, each.tokens.input)) },
      { head: "Output", number: true, minor: true, sort: sort("output_tokens"), of: (each) => h("span", { title: count(each.tokens.output) }, compact(each.tokens.output)) },
      { head: "p95", number: true, minor: !now.endsWith("duration_p95"), sort: sort("duration_p95"), of: (each) => took(each.duration_ns.p95) },
      { head: "Failed", number: true, sort: sort("error_rate"), of: (each) => percent(each.error_rate) },
    ];
    const csv = h("button", { type: "button", onclick: () => save("llm/stats", [...range, ["group_by", state.by], ["sort", now], ["limit", 10000]], `llm-stats-by-${state.by}.csv`) }, "CSV");
    const more = found.more && h("p", { class: "more" }, state.rows ? "These are the first 1,000; CSV has the others." : h("button", { type: "button", onclick: () => go({ ...state, rows: "all" }), "data-focus": "all rows" }, "Show all"));
    return [head(title, csv), table(`Figures by ${name.toLowerCase()}`, columns, found.groups), more].filter(Boolean);
  });
}

/** A duration with its milliseconds behind it. */
const took = (ns) => (ns === null ? "–" : h("span", { title: `${ns / 1e6} ms` }, duration(ns)));

const amount = (cost) => [h("span", { title: exactly(e18(cost.total), cost.currency) }, money(e18(cost.total), cost.currency)), cost.unknown_rows > 0 && h("span", { class: "under" }, `+ ${count(cost.unknown_rows)} unknown`)];

function share(some, whole) {
  const part = ratio(some, whole);
  return part === null ? "–" : [h("span", { class: "share", "aria-hidden": "true" }, h("span", { style: { width: `${(part * 100).toFixed(1)}%` } })), percent(part)];
}

async function parts(page, place, totals) {
  const all = (await totals).totals[0];
  fill(place, [all.usage, all.cost], () => {
    const found = Object.keys({ ...all.usage, ...all.cost.parts });
    const tokens = found.filter(isTokens).sort((a, b) => Number(all.usage[b] ?? 0) - Number(all.usage[a] ?? 0));
    const rest = found.filter((name) => !isTokens(name));
    if (!found.length) return [head("Tokens by part"), nothing("No call reported usage.")];
    const whole = tokens.reduce((so, name) => so + Number(all.usage[name] ?? 0), 0);
    const kind = (name) => (name.startsWith("cache_read") ? "s3" : name.startsWith("cache_write") ? "s6" : name.startsWith("output_reasoning") ? "s5" : name.startsWith("output") ? "s2" : "s1");
    const columns = [
      { head: "Part", of: (name) => [isTokens(name) && h("span", { class: `swatch ${kind(name)}`, "aria-hidden": "true" }), words(name)] },
      { head: "Quantity", number: true, of: (name) => h("span", { title: all.usage[name] }, compact(Number(all.usage[name] ?? 0))) },
      { head: "Share", number: true, of: (name) => (isTokens(name) ? percent(Number(all.usage[name] ?? 0) / whole) : "") },
      { head: "Spend", number: true, of: (name) => (all.cost.parts[name] === undefined ? "–" : money(e18(all.cost.parts[name]), all.cost.currency)) },
    ];
    return [
      head("Tokens by part"),
      h("div", { class: "strip", "aria-hidden": "true" }, tokens.map((name) => h("span", { class: kind(name), style: { width: `${((Number(all.usage[name] ?? 0) / whole) * 100).toFixed(2)}%` } }))),
      table("Usage by part", columns, [...tokens, ...rest]),
    ];
  });
}

async function spending(page, place) {
  const found = await askedBudgets(page.signal);
  fill(place, [found, page.state], () => [head("Budgets"), ...budgets(found, page.state, page.zone)]);
}

async function caching(page, place, totals) {
  const { tokens } = (await totals).totals[0];
  if (!tokens.cache_read && !tokens.cache_write) return fill(place, null, () => [head("Cache savings"), nothing("No call read from a prompt cache or wrote to one.")]);
  const saved = await ask("llm/savings", [...page.range, ["group_by", "provider,model"], ["limit", 100]], page.signal);
  const all = saved.totals[0];
  const models = saved.groups.filter((each) => each.cache_read_tokens || each.cache_write_tokens);
  fill(place, [all, models], () => {
    const columns = [
      { head: "Model", of: (each) => [h("span", { class: "name" }, named(each.group.model)), h("span", { class: "under" }, each.group.provider)] },
      { head: "Read", number: true, of: (each) => compact(each.cache_read_tokens) },
      { head: "Written", number: true, minor: true, of: (each) => compact(each.cache_write_tokens) },
      { head: "Of input", number: true, of: (each) => percent(each.cache_read_share) },
      { head: "Saved", number: true, of: (each) => h("span", { title: exactly(e18(each.saved), each.currency) }, money(e18(each.saved), each.currency)) },
    ];
    return [
      head("Cache savings"),
      h("p", { class: "figure" }, h("span", { title: exactly(e18(all.saved), all.currency) }, money(e18(all.saved), all.currency))),
      h("p", { class: "soft" }, "less than without a cache; ", h("span", { title: `${count(all.cache_read_tokens)} of ${count(all.input_tokens)} tokens` }, percent(all.cache_read_share)), " of the input came from one. ", all.unknown_tokens > 0 && `Of ${compact(all.unknown_tokens)} cached tokens the saving is unknown: they have no price.`),
      table("Cache savings by model", columns, models.slice(0, 8)),
    ];
  });
}

async function latency(page, place, stats, totals) {
  const { span, zone, state } = page;
  const [found, { totals: [all] }] = await Promise.all([stats(["group_by", span.bucket], ["limit", 10000], ...NO_PARTS), totals]);
  const buckets = bucketsOf(span, zone);
  fill(place, [found.groups.map((each) => [each.group, each.duration_ns]), all.duration_ns, all.time_to_first_token_ns, buckets.length], () => {
    if (all.duration_ns.p50 === null) return [head("Latency"), nothing("No call went well.")];
    const index = new Map(buckets.map((each, i) => [each.key, i]));
    const series = [["p50", "s3"], ["p95", "s1"], ["p99", "s5"]].map(([name, colour]) => ({ name, colour, values: new Array(buckets.length).fill(null), texts: [] }));
    for (const each of found.groups) {
      const i = index.get(keyOf(each.group[span.bucket], span.bucket));
      for (const line of series) {
        line.values[i] = each.duration_ns[line.name];
        line.texts[i] = duration(each.duration_ns[line.name]);
      }
    }
    const first = all.time_to_first_token_ns;
    return [
      head("Latency", h("ul", { class: "legend" }, series.map((each) => h("li", {}, h("span", { class: `swatch ${each.colour}` }), each.name)))),
      chart({ label: "Latency", buckets, series, height: 170, axis: (ns) => (ns < 1e9 ? `${Math.round(ns / 1e6)} ms` : `${Number((ns / 1e9).toFixed(1))} s`), pick: (bucket) => page.go({ ...state, view: "calls", range: "custom", since: buckets[bucket].since, until: buckets[bucket].until, bucket: "", sort: "-duration" }) }),
      h("p", { class: "soft" }, `Of calls that went well: p50 ${duration(all.duration_ns.p50)}, p95 ${duration(all.duration_ns.p95)}, p99 ${duration(all.duration_ns.p99)}.`, first.p50 !== null && ` First token of streams: p50 ${duration(first.p50)}, p95 ${duration(first.p95)}.`),
    ];
  });
}

async function slowest(page, place, stats, ofTable) {
  const { state } = page;
  const known = await ofTable;
  const all = state.by === "model" && !known.more ? known : await stats(["group_by", "model"], ["sort", "-duration_p95"], ["limit", 7], ...NO_PARTS);
  const models = all.groups.filter((each) => each.duration_ns.p95 !== null).sort((a, b) => b.duration_ns.p95 - a.duration_ns.p95).slice(0, 7);
  fill(place, [models.map((each) => [each.group, each.duration_ns, each.time_to_first_token_ns]), state], () => {
    if (!models.length) return [head("Slowest models"), nothing("No call went well.")];
    const columns = [
      { head: "Model", of: (each) => h("a", { class: "name", href: write({ ...state, view: "calls", sort: "-duration", filters: filtered(state, "model", each.group.model) }) }, named(each.group.model)) },
      { head: "p50", number: true, of: (each) => took(each.duration_ns.p50) },
      { head: "p95", number: true, of: (each) => took(each.duration_ns.p95) },
      { head: "p99", number: true, of: (each) => took(each.duration_ns.p99) },
      { head: "First token, p50", number: true, minor: true, of: (each) => took(each.time_to_first_token_ns.p50) },
    ];
    return [head("Slowest models", h("a", { class: "quiet", href: write({ ...state, by: "model", order: "-duration_p95" }) }, "All models")), table("Slowest models at p95", columns, models)];
  });
}

async function errors(page, place, totals) {
  const all = (await totals).totals[0];
  fill(place, [all.error_types, all.calls], () => {
    const types = Object.entries(all.error_types).sort(([, a], [, b]) => b - a);
    if (!types.length) return [head("Errors"), nothing(all.calls ? "No call failed." : "No calls.")];
    const columns = [
      { head: "Error", of: ([type]) => h("a", { class: "name", href: write({ ...page.state, view: "calls", filters: filtered({ filters: filtered(page.state, "status", "error") }, "error", type) }) }, named(type)) },
      { head: "Calls", number: true, of: ([, calls]) => count(calls) },
      { head: "Of all calls", number: true, of: ([, calls]) => percent(calls / all.calls) },
    ];
    return [head("Errors"), h("p", { class: "soft" }, `${count(all.errors)} of ${count(all.calls)} calls failed, ${percent(all.error_rate)}.`), table("Errors by type", columns, types.slice(0, 8))];
  });
}

async function dearest(page, place) {
  const { state, zone } = page;
  const found = await ask("llm/calls", [...page.range, ["sort", "-cost"], ["limit", 8]], page.signal);
  const known = found.calls.filter((call) => call.cost_base !== null);
  fill(place, known, () => [
    head("Most expensive calls", h("a", { class: "quiet", href: write({ ...state, view: "calls", sort: "-cost" }) }, "All calls")),
    known.length ? table("Most expensive calls", callColumns(state, zone, false), known) : nothing("No call with a known cost."),
  ]);
}

async function ranking(page, place, stats, dimension) {
  const { state } = page;
  const found = await stats(["group_by", dimension], ["limit", 8], ...BRIEF);
  const title = `Most expensive ${dimension}s`;
  const rows = found.groups.filter((each) => each.group[dimension] !== "");
  const how = dimension === "user" ? "spanledger.user_id or the provider's user field names them" : "a prompt name on the span names them";
  fill(place, [rows, state], () => {
    if (!rows.length) return [head(title), nothing(`No call has a ${dimension}: ${how}.`)];
    const columns = [
      { head: DIMENSIONS[dimension], of: (each) => h("a", { class: "name", href: write({ ...state, filters: filtered(state, dimension, each.group[dimension]) }) }, each.group[dimension]) },
      { head: "Calls", number: true, of: (each) => count(each.calls) },
      { head: "Tokens", number: true, minor: true, of: (each) => h("span", { title: count(each.tokens.total) }, compact(each.tokens.total)) },
      { head: "Spend", number: true, of: (each) => amount(each.cost) },
    ];
    return [head(title, h("a", { class: "quiet", href: write({ ...state, by: dimension, order: "" }) }, "Over time")), table(title, columns, rows)];
  });
}

async function attention(page, place, totals) {
  const { state } = page;
  const { price_status: rowsOf } = (await totals).totals[0];
  const inexact = ["estimated", "usage_missing"].filter((status) => rowsOf[status]);
  const asked = page.range.filter(([name]) => name !== "price_status");
  const [unpriced, others] = await Promise.all([
    rowsOf.unpriced ? ask("llm/unpriced", page.range, page.signal) : { unpriced: [] },
    inexact.length ? ask("llm/stats", [...asked, ...inexact.map((status) => ["price_status", status]), ["group_by", "model,price_status"], ["sort", "-calls"], ["limit", 20], ...BRIEF], page.signal) : { groups: [] },
  ]);
  const calls = (each) => write({ ...state, view: "calls", filters: each.filters.reduce((filters, [name, value]) => filtered({ filters }, name, value), state.filters) });
  const reasons = {
    estimated: "The cost is an estimate; each call says why.",
    usage_missing: "The provider reported no usage, so the cost is unknown; each call says why.",
  };
  const rows = [
    ...unpriced.unpriced.map((each) => ({ ...each, status: "unpriced", filters: [["price_status", "unpriced"], ["provider", each.provider], ["model", each.model]] })),
    ...others.groups.map(({ group, calls }) => ({ model: group.model, status: group.price_status, calls, reason: reasons[group.price_status], filters: [["price_status", group.price_status], ["model", group.model]] })),
  ];
  fill(place, [rows, state], () => {
    const title = "Unpriced and estimated";
    if (!rows.length) return [head(title), nothing("Every call has its exact price.")];
    const columns = [
      { head: "Model", of: (each) => [h("a", { class: "name", href: calls(each) }, named(each.model)), h("span", { class: "under" }, each.provider && `${each.provider}: `, each.reason), each.line && h("p", { class: "command" }, h("code", {}, each.line), copying(each.line))] },
      { head: "Price", number: true, of: (each) => h("span", { class: "mark warn" }, words(each.status)) },
      { head: "Calls", number: true, of: (each) => count(Number(each.calls)) },
    ];
    return [
      head(title),
      unpriced.unpriced.length > 0 && h("p", { class: "soft" }, "Put the lines into a file of settings.price_files, then run spanledger reprice for the calls that are stored."),
      table(title, columns, rows),
    ].filter(Boolean);
  });
}
