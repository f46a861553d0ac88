// Talking to the server. A request that fails throws a Refusal, which says what to show.

const KEY = "sightrank-key";
const HEADINGS = {
  0: "The server cannot be reached",
  400: "The server cannot do this",
  401: "The server needs a valid key",
  403: "This key may not ask",
  404: "Not found",
  408: "The upload took too long",
  413: "Too large",
  422: "Something cannot be read",
  429: "Too many requests",
  503: "The server is busy",
  504: "Not answered in time",
  507: "The server has no room for this",
};

export class Refusal extends Error {
  constructor(status, detail, wait = null, request = null) {
    super(detail);
    this.status = status;
    this.heading = HEADINGS[status] ?? (status < 500 ? "The server refused" : "The server failed");
    this.wait = wait;
    this.request = request;
  }
}

/** The key of this tab; never kept longer. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** JSON of a path. */
export function get(path) {
  return answered(fetch(path));
}

/** The answer to a JSON body, and the seconds until it was there. */
export async function post(path, body, most, signal) {
  const content = JSON.stringify(body);
  const size = new Blob([content]).size;
  if (most && size > most) {
    const detail = `The request has ${megabytes(size)}, this server takes ${megabytes(most)}. Remove some documents.`;
    throw new Refusal(413, detail);
  }
  const headers = { "Content-Type": "application/json" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  const start = performance.now();
  const answer = await answered(fetch(path, { method: "POST", headers, body: content, signal }));
  return { answer, seconds: (performance.now() - start) / 1000 };
}

async function answered(asking) {
  let reply;
  try {
    reply = await asking;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "It may have stopped, or the connection broke off. Try again.");
  }
  const body = await reply.json().catch(() => ({}));
  if (reply.ok) return body;
  const detail = typeof body.detail === "string" ? body.detail : reply.statusText;
  throw new Refusal(reply.status, detail, reply.headers.get("retry-after"), body.request_id);
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;
}
