// One call: what it was, and how its price came about, part by part.

import { ask } from "./api.js";
import { modelOf } from "./calls.js";
import { $, copying, h, table } from "./dom.js";
import { count, digits, duration, e18, isTokens, money, perMillion, words } from "./figures.js";
import { named, traced, write } from "./state.js";
import { when } from "./time.js";

/** Open the sheet with a call; `leave` is called when it is closed. */
export async function openCall({ state, zone, signal, leave }) {
  const sheet = $("call");
  sheet.oncancel = (event) => {
    event.preventDefault();
    leave();
  };
  sheet.onclick = (event) => {
    if (event.target === sheet) leave(); // and return nothing: false would stop the links
  };
  const close = h("button", { type: "button", class: "close", "aria-label": "Close", onclick: leave }, "×");
  const fill = (...content) => sheet.replaceChildren(h("div", { class: "sheet" }, close, content));
  if (!sheet.open) {
    fill(h("h2", { id: "call-title" }, "Call"), h("p", { class: "soft" }, "Loading …"));
    sheet.showModal();
  }
  try {
    const found = await ask(`llm/calls/${encodeURIComponent(state.call)}`, [], signal);
    fill(...found.rows.flatMap((row, i) => one(row, i, found.trace_url, state, zone)));
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(h("h2", { id: "call-title" }, "Call"), h("p", {}, error.message), error.status === 404 && h("p", { class: "soft" }, "It may be older than what the ledger keeps, or of another ledger."));
  }
}

function one(row, i, trace, state, zone) {
  const proof = row.explanation;
  const amount = e18(row.cost);
  const title = i ? h("h3", {}, `Share of ${modelOf(row)}`) : h("h2", { id: "call-title" }, named(modelOf(row)));
  return [
    title,
    !i && h("p", { class: "soft" }, `${row.provider} · ${row.operation} · ${when(row.start_time, zone)}`),
    h("p", { class: "big" }, amount === null ? "Cost unknown" : `${row.price_status === "estimated" ? "≈ " : ""}${money(amount, row.currency)}`),
    amount !== null && h("p", { class: "soft exact" }, `${digits(amount)} ${row.currency}`, row.base_currency !== row.currency && row.cost_base !== null ? ` = ${digits(e18(row.cost_base))} ${row.base_currency}` : ""),
    h("p", { class: "marks" }, mark(row.status, row.status === "ok" ? "good" : "bad"), mark(`usage ${row.usage_status}`, row.usage_status === "reported" ? "good" : "warn"), mark(words(row.price_status), ["priced", "free", "not_billed"].includes(row.price_status) ? "good" : "warn")),
    row.status !== "ok" && h("p", { class: "failed" }, h("strong", {}, row.error_type || "error"), " ", row.error_message),
    proof.reasons.length > 0 && h("ul", { class: "reasons" }, proof.reasons.map((reason) => h("li", {}, reason))),
    price(proof),
    provenance(proof),
    !i && facts(row, state),
    !i && h("p", { class: "actions" }, trace && h("a", { class: "button", href: trace, target: "_blank", rel: "noopener noreferrer" }, "Open the trace"), row.trace_id && h("a", { href: write(traced(state, row.trace_id, row.start_time, zone)) }, "Calls and cost of this trace")),
    !i && h("p", { class: "command" }, h("code", {}, `spanledger prices explain ${row.entry_id}`), copying(`spanledger prices explain ${row.entry_id}`)),
  ].filter(Boolean);
}

const mark = (text, kind) => h("span", { class: `mark ${kind}` }, text);

function price(proof) {
  const parts = proof.parts.filter((part) => Number(part.quantity));
  if (!parts.length) return h("p", { class: "soft" }, "The provider reported no usage.");
  const rate = ({ part, rate }) => {
    if (rate === null) return h("span", { class: "mark warn" }, "no rate");
    const million = isTokens(part) ? perMillion(rate) : null;
    return million === null ? rate : [million, h("span", { class: "under" }, "per 1M")];
  };
  const columns = [
    { head: "Part", of: (part) => words(part.part) },
    { head: "Quantity", number: true, of: (part) => (part.quantity === undefined ? "" : /^\d+$/.test(String(part.quantity)) ? count(Number(part.quantity)) : String(part.quantity)) },
    { head: `Rate, ${proof.currency}`, number: true, of: (part) => ("rate" in part ? rate(part) : "") },
    { head: `Amount, ${proof.currency}`, number: true, of: (part) => (part.amount === null ? "–" : digits(e18(part.amount))) },
  ];
  const sum = proof.sum === null ? null : { part: "sum", amount: proof.sum };
  const verdict = { true: ["good", "The sum equals the stored cost to the last digit."], false: ["bad", "The sum is NOT the stored cost: spanledger verify"] }[proof.equal];
  return h("div", {}, table("How the price came about", columns, parts, sum), verdict && h("p", { class: `verdict ${verdict[0]}` }, verdict[1]));
}

function provenance({ price, priced_model }) {
  if (!price) return null;
  const row = price.price ?? {};
  const [, url, rest] = /^(https:\/\/[^\s,;]+)?(.*)$/s.exec(row.source ?? "");
  const source = row.source && [url && h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, url.replace("https://", "")), rest];
  const modes = Object.entries(price.modes ?? {}).map(([dimension, mode]) => `${words(dimension)} ${mode}`);
  const more = [price.over !== undefined && `prompt over ${count(price.over)} tokens`, ...modes, price.region && `region ${price.region}`, ...(price.overlays ?? []).map((name) => `overlay ${name}`), price.fx && `in ${price.base}: × ${price.fx.rate}, rate of ${price.fx.from}`].filter(Boolean);
  return h("p", { class: "soft provenance" }, `Priced as ${priced_model} by ${price.file}`, row.from && `, from ${row.from}`, more.length ? `; ${more.join(", ")}` : "", ". ", source && ["Source: ", source, row.checked ? `, checked ${row.checked}.` : "."]);
}

function facts(row, state) {
  const link = (name, value) => h("a", { href: write({ ...state, call: "", filters: [[name, value]] }) }, value);
  const pairs = [
    ["Service", row.service_name && link("service", row.service_name)],
    ["Environment", row.environment && link("environment", row.environment)],
    ["Tenant", row.tenant && link("tenant", row.tenant)],
    ["User", row.user_id && link("user", row.user_id)],
    ["Session", row.session_id && link("session", row.session_id)],
    ["Feature", row.feature && link("feature", row.feature)],
    ["Prompt", row.prompt_name && link("prompt", row.prompt_name)],
    ["Agent", row.agent_name && link("agent", row.agent_name)],
    ["API key", (row.api_key_alias || row.api_key_hash) && link("key", row.api_key_alias || row.api_key_hash)],
    ["Tags", Object.entries(row.tags ?? {}).map(([name, value]) => `${name}=${value}`).join(", ")],
    ["Asked for", row.request_model !== row.response_model && row.request_model],
    ["Tier", row.service_tier],
    ["Took", duration(row.duration_ns) + (row.time_to_first_token_ns === null ? "" : `, first token after ${duration(row.time_to_first_token_ns)}`)],
    ["Response", row.response_id],
    ["Entry", row.entry_id],
    ["Trace", row.trace_id],
  ];
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
