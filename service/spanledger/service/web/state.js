// What is shown is what the address says: every view can be sent to somebody, and the back button goes back.

import { RANGES, day, plusDays } from "./time.js";

/** Dimension -> what people call it. The first ones are offered as groups. */
export const DIMENSIONS = {
  model: "Model",
  provider: "Provider",
  service: "Service",
  tenant: "Tenant",
  feature: "Feature",
  key: "API key",
  user: "User",
  operation: "Operation",
  environment: "Environment",
  prompt: "Prompt",
  agent: "Agent",
  tier: "Service tier",
  status: "Status",
  error: "Error type",
  price_status: "Price status",
  usage_status: "Usage status",
  session: "Session",
  trace: "Trace",
  currency: "Currency",
};
export const GROUPS = Object.keys(DIMENSIONS).slice(0, 13);
export const METRICS = { cost: "Spend", tokens: "Tokens", calls: "Calls", errors: "Errors" };
export const BUCKETS = ["hour", "day", "week", "month"];

const DEFAULTS = { view: "overview", range: "30d", since: "", until: "", by: "model", bucket: "", metric: "cost", order: "", rows: "", sort: "-start_time", call: "", time_zone: "" };
const ALLOWED = { view: ["overview", "calls", "repricing"], range: Object.keys(RANGES), by: GROUPS, bucket: ["", ...BUCKETS], metric: Object.keys(METRICS), rows: ["", "all"] };
const here = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** The state that a query string says; what it says wrong is left at its default. */
export function read(search) {
  const given = new URLSearchParams(search);
  const state = { filters: [] };
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const wanted = given.get(name);
    state[name] = wanted !== null && (!ALLOWED[name] || ALLOWED[name].includes(wanted)) ? wanted : value;
  }
  for (const [name, value] of given) if (name in DIMENSIONS || name === "tag") state.filters.push([name, value]);
  return state;
}

/** The query string of a state. */
export function write(state) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(DEFAULTS)) if (state[name] !== value) found.set(name, state[name]);
  if (state.range !== "custom") for (const name of ["since", "until"]) found.delete(name);
  for (const [name, value] of state.filters) found.append(name, value);
  const text = found.toString();
  return text ? `?${text}` : location.pathname;
}

/** The zone that days are of. */
export function zoneOf(state) {
  try {
    if (state.time_zone) new Intl.DateTimeFormat(undefined, { timeZone: state.time_zone });
    return state.time_zone || here;
  } catch {
    return here;
  }
}

/** The filters with one more, in place of others of its dimension. */
export const filtered = (state, name, value) => [...state.filters.filter(([other]) => other !== name || name === "tag"), [name, value]];

/** Calls of one trace: of the days around `at`, the first one first. */
export function traced(state, trace, at, zone) {
  const on = day(Date.parse(at), zone);
  return { ...state, view: "calls", call: "", range: "custom", since: plusDays(on, -1), until: plusDays(on, 1), sort: "start_time", filters: [["trace", trace]] };
}

/** A value that may be empty. */
export const named = (value) => (value === "" ? "(none)" : value);
