// The service's API. A token, where one is needed, lives as long as the browser's tab.

const KEY = "spanledger-token";

export class ApiError extends Error {
  constructor(status, errors) {
    super(errors.map(({ field, message, allowed }) => `${field ? `${field}: ` : ""}${message}${allowed ? `; it may be ${allowed.join(", ")}` : ""}`).join("; "));
    this.status = status;
    this.errors = errors;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

/** The answer to a question: `parameters` are pairs; those whose value is undefined or empty by default are left out. */
export async function ask(path, parameters = [], signal) {
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
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, answer?.errors ?? [{ message: `HTTP ${response.status}` }]);
  return answer;
}
