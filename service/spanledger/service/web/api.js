// The service's API. A token, where one is needed, lives as long as the browser's tab.

const KEY = "spanledger-token";

export class ApiError extends Error {
  constructor(status, errors) {
    super(errors.map(({ field, message, allowed }) => `${field ? `${field}: ` : ""}${message}${allowed ? `; it may be ${allowed.join(", ")}` : ""}`).join("; "));
    this.status = status;
    this.errors = errors;
  }
}

/** Parameters of a question that shows no parts, or neither parts nor durations: these are the dearest to add up. */
export const NO_PARTS = [["parts", "false"]];
export const BRIEF = [...NO_PARTS, ["latency", "false"]];

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => {
    told = null;
    sessionStorage.setItem(KEY, text);
  },
};

/** The answer to a question: `parameters` are pairs; those whose value is undefined are left out. */
export const ask = async (path, parameters = [], signal) => (await request(path, parameters, signal)).json();

let told = null;

/** The service's settings, asked once. */
export function settings() {
  told ??= ask("settings").catch((error) => {
    told = null;
    throw error;
  });
  return told;
}

/** Save an answer as CSV; by fetch, so that a token goes with it. */
export async function save(path, parameters, name) {
  const response = await request(path, [...parameters, ["format", "csv"]]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function request(path, parameters, signal) {
  const query = new URLSearchParams(parameters.filter(([, value]) => value !== undefined));
  const text = query.toString();
  const headers = token.get() ? { authorization: `Bearer ${token.get()}` } : {};
  let response;
  try {
    response = await fetch(`api/v1/${path}${text && `?${text}`}`, { headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, [{ message: "The service does not answer." }]);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new ApiError(response.status, answer?.errors ?? [{ message: `HTTP ${response.status}` }]);
}
