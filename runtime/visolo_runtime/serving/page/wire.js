// The message of a frame, as docs/serve-protocol.md describes it.

const MAGIC = 0x31465356; // "VSF1"
const HEADER = 38, INSTANCE = 22; // bytes

/** What a message says. Pictures and runs are views of the message, not copies.
 *  @param {ArrayBuffer} message
 *  @throws {Error} if it is no whole message of this format */
export function decodeFrame(message) {
  const view = new DataView(message);
  const need = (bytes) => {
    if (message.byteLength < bytes) throw new Error("a message is cut short");
  };
  need(HEADER);
  if (view.getUint32(0, true) !== MAGIC) throw new Error("a message of another format came");
  const frame = {
    stream: view.getUint32(4, true),
    frame: view.getUint32(8, true),
    timeS: view.getFloat64(12, true),
    ageMs: view.getFloat32(20, true),
    height: view.getUint16(24, true),
    width: view.getUint16(26, true),
    dropped: view.getUint32(28, true),
    instances: [],
    picture: null,
  };
  const count = view.getUint16(32, true);
  let at = HEADER + count * INSTANCE;
  need(at);
  for (let index = 0; index < count; index++) {
    const place = HEADER + index * INSTANCE;
    const [left, top, right, bottom] = [10, 12, 14, 16].map((to) => view.getUint16(place + to, true));
    if (left > right || right > frame.width || top > bottom || bottom > frame.height) {
      throw new Error(`instance ${index} of a message lies outside of its frame`);
    }
    const length = view.getUint32(place + 18, true);
    need(at + length);
    frame.instances.push({
      trackId: view.getUint32(place, true),
      classId: view.getUint16(place + 4, true),
      score: view.getFloat32(place + 6, true),
      box: [left, top, right, bottom],
      runs: new Uint8Array(message, at, length),
    });
    at += length;
  }
  const picture = view.getUint32(34, true);
  if (message.byteLength !== at + picture) {
    throw new Error(`a message has ${message.byteLength} bytes instead of ${at + picture}`);
  }
  frame.picture = new Uint8Array(message, at, picture);
  return frame;
}

/** A mask from the lengths of its runs.
 *  @param {Uint8Array} runs varints: of zeros, of ones, and so on
 *  @returns {Uint8Array} zeros and ones [pixels], row by row
 *  @throws {Error} if the lengths do not fill it */
export function decodeRuns(runs, pixels) {
  const mask = new Uint8Array(pixels);
  let at = 0, value = 0, length = 0, shift = 0;
  for (const byte of runs) {
    length |= (byte & 127) << shift;
    if (byte & 128) {
      shift += 7;
      if (shift > 21) throw new Error("a run of a mask is longer than any frame");
      continue;
    }
    if (value) mask.fill(1, at, at + length);
    at += length;
    value ^= 1;
    length = shift = 0;
  }
  if (shift || at !== pixels) throw new Error("the runs of a mask do not fill its box");
  return mask;
}
