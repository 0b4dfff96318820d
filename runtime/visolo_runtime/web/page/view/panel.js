// The side panel: figures, the tracks of this picture, and a summary for screen readers.

import { trackColour } from "./overlay.js";

const RATE_FRAMES = 20;
const SUMMARY_MS = 4000;

export class Panel {
  #times = [];
  #spent = [];
  #said = 0;
  #begun = 0;

  constructor(find) {
    this.rate = find("rate");
    this.latency = find("latency");
    this.begun = find("begun");
    this.list = find("tracks");
    this.summary = find("summary");
  }

  /** Forget the video. */
  clear() {
    this.#times = [];
    this.#spent = [];
    this.#begun = 0;
    this.list.replaceChildren();
    for (const figure of [this.rate, this.latency, this.begun]) figure.textContent = "0";
  }

  set({ instances, milliseconds }) {
    const now = performance.now();
    this.#times = [...this.#times, now].slice(-RATE_FRAMES);
    const sum = milliseconds.resize + milliseconds.graphs + milliseconds.host;
    this.#spent = [...this.#spent, sum].slice(-RATE_FRAMES);
    const seconds = (now - this.#times[0]) / 1000;
    if (seconds > 0) this.rate.textContent = ((this.#times.length - 1) / seconds).toFixed(1);
    const middle = [...this.#spent].sort((a, b) => a - b)[this.#spent.length >> 1];
    this.latency.textContent = middle.toFixed(0);
    for (const { trackId } of instances) this.#begun = Math.max(this.#begun, trackId);
    this.begun.textContent = this.#begun;
    this.#list(instances);
    this.#summarise(instances, now);
  }

  #list(instances) {
    const items = [...instances]
      .sort((a, b) => a.trackId - b.trackId)
      .map(({ trackId, trackLabel, score }) => {
        const item = document.createElement("li");
        const chip = document.createElement("i");
        chip.style.background = `rgb(${trackColour(trackId).join(" ")})`;
        const name = document.createElement("span");
        const number = document.createElement("b");
        number.textContent = trackId;
        name.append(number, ` ${trackLabel}`);
        const value = document.createElement("span");
        value.className = "score";
        value.textContent = score.toFixed(2);
        item.append(chip, name, value);
        return item;
      });
    if (!items.length) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "nothing that the model knows";
      items.push(none);
    }
    this.list.replaceChildren(...items);
  }

  #summarise(instances, now) {
    if (now - this.#said < SUMMARY_MS) return;
    const words = instances.map(({ trackId, trackLabel }) => `${trackLabel} ${trackId}`).join(", ");
    const summary = words || "nothing";
    if (summary === this.summary.textContent) return;
    this.summary.textContent = summary;
    this.#said = now;
  }
}
