// Times of a zone: which days and hours a range has, and when they begin.

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const formats = new Map();

function parts(ms, zone) {
  if (!formats.has(zone)) {
    const fields = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };
    formats.set(zone, new Intl.DateTimeFormat("en-CA", { timeZone: zone, hourCycle: "h23", ...fields }));
  }
  return Object.fromEntries(formats.get(zone).formatToParts(ms).map(({ type, value }) => [type, value]));
}

/** ms that the zone is ahead of UTC then. */
function offset(ms, zone) {
  const at = parts(ms, zone);
  return Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) - Math.floor(ms / 1000) * 1000;
}

/** The day, YYYY-MM-DD. */
export function day(ms, zone) {
  const at = parts(ms, zone);
  return `${at.year}-${at.month}-${at.day}`;
}

/** When a day begins, ms since the epoch. */
export function begins(date, zone) {
  const guess = Date.parse(`${date}T00:00:00Z`);
  const first = guess - offset(guess, zone);
  return guess - offset(first, zone);
}

export const plusDays = (date, days) => new Date(Date.parse(`${date}T00:00:00Z`) + days * DAY).toISOString().slice(0, 10);

export function plusMonths(date, months) {
  const at = new Date(`${date.slice(0, 7)}-01T00:00:00Z`);
  at.setUTCMonth(at.getUTCMonth() + months);
  return at.toISOString().slice(0, 10);
}

const monday = (date) => plusDays(date, -((new Date(`${date}T00:00:00Z`).getUTCDay() + 6) % 7));

/** Where a text of `since` or `until` lies; days and months are of the zone, the end of `until` is the end of its day. */
function instant(text, zone, end) {
  if (/^\d{4}-\d{2}$/.test(text)) return begins(end ? plusMonths(`${text}-01`, 1) : `${text}-01`, zone);
  if (/^\d{4}-\d{2}-\d{2}$/.test(text)) return begins(end ? plusDays(text, 1) : text, zone);
  return Date.parse(text);
}

export const RANGES = {
  today: "Today",
  yesterday: "Yesterday",
  "24h": "Last 24 hours",
  "7d": "Last 7 days",
  "30d": "Last 30 days",
  "90d": "Last 90 days",
  month: "This month",
  lastmonth: "Last month",
  "12m": "Last 12 months",
  custom: "From … to …",
};

/** What a range is now: `since` and `until` for the API, both ends in ms, the bucket that suits it, the range before. */
export function span(state, now, zone) {
  const today = day(now, zone);
  const month = `${today.slice(0, 7)}-01`;
  const last = plusMonths(month, -1);
  const days = (number) => ({ since: plusDays(today, 1 - number) });
  const found = {
    today: () => ({ since: today }),
    yesterday: () => ({ since: plusDays(today, -1), until: plusDays(today, -1) }),
    "24h": () => ({ since: new Date(Math.floor(now / HOUR) * HOUR - 23 * HOUR).toISOString() }),
    "7d": () => days(7),
    "30d": () => days(30),
    "90d": () => days(90),
    month: () => ({ since: month }),
    lastmonth: () => ({ since: last.slice(0, 7), until: last.slice(0, 7) }),
    "12m": () => ({ since: plusMonths(month, -11) }),
    custom: () => ({ since: state.since || plusDays(today, -29), until: state.until || undefined }),
  }[state.range]();
  const from = instant(found.since, zone, false);
  const to = found.until ? instant(found.until, zone, true) : now;
  const length = Math.max(to - from, HOUR);
  const bucket = state.bucket || (length <= 2.1 * DAY ? "hour" : length <= 100 * DAY ? "day" : length <= 400 * DAY ? (state.range === "12m" ? "month" : "week") : "month");
  return { ...found, from, to, bucket, before: { since: new Date(from - Math.floor(length / HOUR) * HOUR).toISOString(), until: new Date(from).toISOString() } };
}

/** The buckets of a span: {key, since, until, label, long}; `key` is what `keyOf` makes of an answer's value. */
export function buckets({ from, to, bucket }, zone) {
  const found = [];
  if (bucket === "hour") {
    const ahead = offset(from, zone);
    for (let at = Math.floor((from + ahead) / HOUR) * HOUR - ahead; at < to && found.length < 2000; at += HOUR) {
      const wall = parts(at, zone);
      found.push({
        key: String(at),
        since: new Date(at).toISOString(),
        until: new Date(at + HOUR).toISOString(),
        label: wall.hour === "00" ? dayLabel(day(at, zone)) : `${wall.hour}:00`,
        long: `${dayLabel(day(at, zone))}, ${wall.hour}:00`,
      });
    }
    return found;
  }
  const first = day(from, zone);
  let date = bucket === "week" ? monday(first) : bucket === "month" ? `${first.slice(0, 7)}-01` : first;
  while (begins(date, zone) < to && found.length < 2000) {
    const next = bucket === "month" ? plusMonths(date, 1) : plusDays(date, bucket === "week" ? 7 : 1);
    const label = bucket === "month" ? monthLabel(date) : dayLabel(date);
    found.push({ key: date, since: date, until: plusDays(next, -1), label, long: bucket === "week" ? `Week of ${label}` : label });
    date = next;
  }
  return found;
}

/** The bucket that a value of an answer is of. */
export const keyOf = (value, bucket) => (bucket === "hour" ? String(Date.parse(value)) : value.slice(0, 10));

const utc = (options) => new Intl.DateTimeFormat(undefined, { timeZone: "UTC", ...options });
const dayFormat = utc({ weekday: "short", day: "numeric", month: "short" });
const monthFormat = utc({ month: "short", year: "numeric" });
const dayLabel = (date) => dayFormat.format(Date.parse(`${date}T00:00:00Z`));
const monthLabel = (date) => monthFormat.format(Date.parse(`${date}T00:00:00Z`));

export function when(text, zone, timeStyle = "medium") {
  return new Intl.DateTimeFormat(undefined, { timeZone: zone, dateStyle: "medium", timeStyle }).format(Date.parse(text));
}

/** For lists: without the year where it is this one. */
export function briefly(text, zone) {
  const at = Date.parse(text);
  const year = day(at, zone).slice(0, 4) === day(Date.now(), zone).slice(0, 4) ? {} : { year: "numeric" };
  return new Intl.DateTimeFormat(undefined, { timeZone: zone, day: "numeric", month: "short", ...year, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(at);
}

export function clock(ms, zone) {
  return new Intl.DateTimeFormat(undefined, { timeZone: zone, timeStyle: "medium" }).format(ms);
}
