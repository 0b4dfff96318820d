// One instance of a frame. Its mask and its outline are computed when they are first drawn: of a
// hidden instance, never.

import { anchor, contours } from "./web/model/contours.js";
import { decodeRuns } from "./wire.js";

export class Instance {
  #mask = null;
  #outline = null;
  #anchor;

  constructor({ trackId, classId, score, box, runs }, labels) {
    Object.assign(this, { trackId, classId, score, box, runs });
    this.trackLabel = labels[classId] ?? `class ${classId}`;
  }

  get size() {
    const [left, top, right, bottom] = this.box;
    return [bottom - top, right - left];
  }

  /** Uint8Array of zeros and ones, the pixels of the box row by row. */
  get mask() {
    const [height, width] = this.size;
    return (this.#mask ??= decodeRuns(this.runs, height * width));
  }

  /** Closed lines in pixels of the frame. */
  get outline() {
    if (!this.#outline) {
      const [left, top] = this.box;
      this.#outline = contours(this.mask, ...this.size);
      for (const line of this.#outline) {
        for (let at = 0; at < line.length; at += 2) {
          line[at] += left;
          line[at + 1] += top;
        }
      }
    }
    return this.#outline;
  }

  /** Where its label and its trail belong, in pixels of the frame; null for an empty mask. */
  get anchor() {
    if (this.#anchor === undefined) this.#anchor = anchor(this.outline);
    return this.#anchor;
  }

  /** Whether a pixel of the frame belongs to it. */
  covers(x, y) {
    const [left, top, right, bottom] = this.box;
    if (x < left || x >= right || y < top || y >= bottom) return false;
    return this.mask[(Math.floor(y) - top) * (right - left) + Math.floor(x) - left] === 1;
  }
}
