// Files of the page's own folder, with the bytes counted as they arrive.

/** @param {URL} address
 *  @param {(bytes: number) => void} onBytes
 *  @returns {Promise<Uint8Array>} */
export async function download(address, onBytes) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname} is missing (status ${response.status})`);
  const chunks = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    onBytes(value.length);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** The content of a gzip file; one that the server has unpacked already is returned as it is. */
export async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
