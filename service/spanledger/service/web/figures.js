// Figures for people. Amounts come as decimal text and are added as whole numbers of 1e-18: no float touches a cost.

const PLACES = 18;
const ONE = 10n ** BigInt(PLACES);
const plain = new Intl.NumberFormat(undefined);
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Decimal text as a whole number of 1e-18; null stays null. */
export function e18(text) {
  if (text === null || text === undefined) return null;
  const [, sign, whole, part = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  const value = BigInt(whole) * ONE + BigInt(part.padEnd(PLACES, "0").slice(0, PLACES));
  return sign ? -value : value;
}

/** The sum of amounts; null where all are unknown. */
export function sum(amounts) {
  const known = amounts.filter((amount) => amount !== null);
  return known.length ? known.reduce((a, b) => a + b, 0n) : null;
}

/** For the height of a bar. */
export const height = (amount) => (amount === null ? 0 : Number(amount) / Number(ONE));

/** All digits of an amount that are not trailing zeros. */
export function digits(amount) {
  const size = amount < 0n ? -amount : amount;
  const part = String(size % ONE).padStart(PLACES, "0").replace(/0+$/, "");
  return `${amount < 0n ? "-" : ""}${size / ONE}${part && `.${part}`}`;
}

/** An amount, rounded for reading: cents from 1 on, else three significant digits. */
export function money(amount, currency) {
  if (amount === null) return "unknown";
  const size = amount < 0n ? -amount : amount;
  const rule =
    size >= 100_000n * ONE
      ? { maximumFractionDigits: 0 }
      : size >= ONE || size === 0n
        ? { minimumFractionDigits: 2, maximumFractionDigits: 2 }
        : { minimumSignificantDigits: 3, maximumSignificantDigits: 3 };
  return new Intl.NumberFormat(undefined, { style: "currency", currencyDisplay: "narrowSymbol", currency: currency || "USD", ...rule }).format(digits(amount));
}

export const count = (number) => (number === null || number === undefined ? "–" : plain.format(number));
export const compact = (number) => (number === null || number === undefined ? "–" : short.format(number));

const percentFormat = (places) => new Intl.NumberFormat(undefined, { style: "percent", minimumFractionDigits: places, maximumFractionDigits: places });

export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const size = Math.abs(share);
  if (size > 0 && size < 0.0005) return `< ${percentFormat(1).format(0.001)}`;
  return percentFormat(size > 0 && size < 0.0995 ? 1 : 0).format(share);
}

/** An amount with all its digits, for a pointer on it. */
export const exactly = (amount, currency) => (amount === null ? null : `${digits(amount)} ${currency}`);

/** Nanoseconds for reading. */
export function duration(ns) {
  if (ns === null || ns === undefined) return "–";
  const ms = ns / 1e6;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

/** Share of two amounts, or of two numbers. */
export function ratio(some, all) {
  if (some === null || all === null || !Number(all)) return null;
  return typeof some === "bigint" ? Number((some * 1_000_000n) / all) / 1e6 : some / all;
}

/** A rate a unit as decimal text, a million times it. */
export function perMillion(text) {
  if (!/^\d+(\.\d+)?$/.test(text)) return null;
  const [whole, part = ""] = text.split(".");
  const shifted = (whole + part.padEnd(6, "0").slice(0, 6)).replace(/^0+(?=\d)/, "");
  const rest = part.slice(6).replace(/0+$/, "");
  return rest ? `${shifted}.${rest}` : shifted;
}

const TOKENS = /^(input|output|cache_read|cache_write)(_|$)/;
export const isTokens = (part) => TOKENS.test(part);

/** `cache_read` as words. */
export const words = (name) => name.replaceAll("_", " ");
