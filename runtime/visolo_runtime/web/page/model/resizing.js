// Resizing to the network's input size, to the last bit like Pillow's bilinear filter, which the
// Python runtime uses: along the rows, rounded to grey levels, then along the columns. Weights are
// integers with 22 fractional bits, and their sums fit into 31 bits.

const WEIGHT_BITS = 22;
const HALF = 1 << (WEIGHT_BITS - 1);

/** Which pixels of a line make each pixel of the resized line: {first, count, weight, taps}. */
export function bilinearTaps(source, target) {
  const scale = source / target;
  const reach = Math.max(scale, 1); // half the width of the triangle
  const taps = 2 * Math.ceil(reach) + 1;
  const first = new Int32Array(target);
  const count = new Int32Array(target);
  const weight = new Int32Array(target * taps);
  for (let at = 0; at < target; at++) {
    const centre = (at + 0.5) * scale;
    first[at] = Math.max(Math.trunc(centre - reach + 0.5), 0);
    count[at] = Math.min(Math.trunc(centre + reach + 0.5), source) - first[at];
    const share = [];
    let total = 0;
    for (let tap = 0; tap < count[at]; tap++) {
      const distance = Math.abs((tap + first[at] - centre + 0.5) * (1 / reach));
      share.push(distance < 1 ? 1 - distance : 0);
      total += share[tap];
    }
    share.forEach((each, tap) => {
      weight[at * taps + tap] = Math.trunc((each / total) * (1 << WEIGHT_BITS) + 0.5);
    });
  }
  return { first, count, weight, taps };
}

/** Resizes pictures of one size to one size; keeps the weights and the memory between frames. */
export class Resizer {
  /** @param {[number, number]} source height and width of the pictures
   *  @param {[number, number]} target height and width of the network's input */
  constructor(source, target) {
    [this.height, this.width] = source;
    [this.targetHeight, this.targetWidth] = target;
    this.columns = bilinearTaps(this.width, this.targetWidth);
    this.rows = bilinearTaps(this.height, this.targetHeight);
    this.across = new Uint8Array(this.height * this.targetWidth * 3);
  }

  fits(height, width) {
    return this.height === height && this.width === width;
  }

  /** @param {Uint8ClampedArray} rgba [H, W, 4]
   *  @param {Uint8Array} output [h, w, 3] RGB, overwritten */
  resize(rgba, output) {
    this.#alongRows(rgba);
    this.#alongColumns(output);
  }

  #alongRows(rgba) {
    const { first, count, weight, taps } = this.columns;
    const { across, targetWidth, width, height } = this;
    let out = 0;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < targetWidth; x++) {
        let red = HALF, green = HALF, blue = HALF;
        let at = (y * width + first[x]) * 4;
        for (let tap = 0, place = x * taps; tap < count[x]; tap++, place++, at += 4) {
          const share = weight[place];
          red += rgba[at] * share;
          green += rgba[at + 1] * share;
          blue += rgba[at + 2] * share;
        }
        across[out++] = red >> WEIGHT_BITS;
        across[out++] = green >> WEIGHT_BITS;
        across[out++] = blue >> WEIGHT_BITS;
      }
    }
  }

  #alongColumns(output) {
    const { first, count, weight, taps } = this.rows;
    const { across, targetHeight } = this;
    const line = this.targetWidth * 3;
    const sums = new Int32Array(line);
    for (let y = 0; y < targetHeight; y++) {
      sums.fill(HALF);
      for (let tap = 0; tap < count[y]; tap++) {
        const share = weight[y * taps + tap];
        const begin = (first[y] + tap) * line;
        for (let x = 0; x < line; x++) sums[x] += across[begin + x] * share;
      }
      for (let x = 0; x < line; x++) output[y * line + x] = sums[x] >> WEIGHT_BITS;
    }
  }
}
