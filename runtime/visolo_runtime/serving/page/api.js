// The server's API. An error's message is the server's own sentence.

/** The answer's json; null if it has none. */
export async function api(path, method = "GET", body = undefined) {
  let answer;
  try {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    answer = await fetch(`api/${path}`, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => ({ error: `The server answers ${answer.status}.` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

/** A socket's address. */
export function socketAddress(path, query) {
  const address = new URL(`api/${path}?${new URLSearchParams(query)}`, document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  return address;
}

/** Half of the time that a small question and its answer take, in milliseconds. */
export async function halfTrip() {
  const begin = performance.now();
  await fetch("api/health");
  return (performance.now() - begin) / 2;
}

/** The server's memory in bytes; null if it does not say. */
export async function serverMemory() {
  const text = await (await fetch("metrics")).text();
  const found = text.match(/^visolo_resident_bytes (\d+)/m);
  return found && Number(found[1]);
}
