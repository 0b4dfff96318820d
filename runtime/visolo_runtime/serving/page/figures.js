// Frames a second and how long frames took to reach the page.

const KEPT = 512; // frames
const RATE_MS = 5000;

export class Figures {
  count = 0;
  #spent = [];
  #shownAt = [];

  /** @param {number} spentMs from the frame's arrival at the server until it was drawn */
  add(spentMs) {
    const now = performance.now();
    this.count += 1;
    this.#spent = [...this.#spent, spentMs].slice(-KEPT);
    this.#shownAt = [...this.#shownAt, now].filter((each) => now - each < RATE_MS);
  }

  get rate() {
    const now = performance.now();
    const recent = this.#shownAt.filter((each) => now - each < RATE_MS);
    return recent.length > 1 ? ((recent.length - 1) / (now - recent[0])) * 1000 : 0;
  }

  /** Milliseconds that a share of the frames stayed under; null before the first. */
  percentile(share) {
    if (!this.#spent.length) return null;
    const sorted = [...this.#spent].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }
}
