// The last seconds of a stream: its messages, with the pictures still compressed, up to a number of
// bytes. Trails are read from it, so that they are right wherever one steps back to.

const TRAIL_FRAMES = 48;

export class History {
  #entries = [];
  #bytes = 0;
  most = 0; // bytes

  get length() {
    return this.#entries.length;
  }

  get bytes() {
    return this.#bytes;
  }

  /** @param entry with its `bytes`, and `anchors`: [track, x, y] as shares of the picture */
  push(entry) {
    this.#entries.push(entry);
    this.#bytes += entry.bytes;
    let first = 0;
    while (this.#bytes > this.most && first < this.#entries.length - 1) {
      this.#bytes -= this.#entries[first].bytes;
      first += 1;
    }
    if (first) this.#entries.splice(0, first);
  }

  at(index) {
    return this.#entries.at(index);
  }

  clear() {
    this.#entries = [];
    this.#bytes = 0;
  }

  /** Track to its points, the newest last, as they were when an entry was shown. */
  trails(index = this.#entries.length - 1) {
    const trails = new Map();
    for (let at = Math.max(0, index + 1 - TRAIL_FRAMES); at <= index; at++) {
      for (const [track, x, y] of this.#entries[at].anchors) {
        if (!trails.has(track)) trails.set(track, { points: [] });
        trails.get(track).points.push([x, y]);
      }
    }
    return trails;
  }
}
