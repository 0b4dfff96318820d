// How long to wait before the next try: longer each time, and not the same for every visitor.

const FIRST_MS = 400, MOST_MS = 8000;

export class Backoff {
  #tries = 0;

  next() {
    const wait = Math.min(MOST_MS, FIRST_MS * 2 ** this.#tries);
    this.#tries += 1;
    return wait * (0.75 + 0.5 * Math.random());
  }

  reset() {
    this.#tries = 0;
  }
}
