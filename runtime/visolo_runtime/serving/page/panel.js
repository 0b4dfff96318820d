// Beside the pictures: figures, the instances of the opened stream, and the one that was chosen.

import { trackColour } from "./web/view/overlay.js";

const SUMMARY_MS = 4000;

const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;
const milliseconds = (value) => (value === null ? "0" : value.toFixed(value < 10 ? 1 : 0));

export class Panel {
  #rows = new Map(); // track to its row
  #said = 0;

  /** @param {(trackId: number) => void} choose called when a row is clicked */
  constructor(find, choose) {
    this.find = find;
    this.choose = choose;
  }

  /** Figures of one stream, or of all together. */
  figures(tiles) {
    const shown = tiles.filter(({ figures }) => figures.percentile(0.5) !== null);
    const rates = tiles.map(({ figures }) => figures.rate);
    const rate = rates.reduce((sum, each) => sum + each, 0);
    this.find("rate").textContent = rate.toFixed(rate < 10 ? 1 : 0);
    for (const [name, share] of [["p50", 0.5], ["p99", 0.99]]) {
      const values = shown.map(({ figures }) => figures.percentile(share));
      this.find(name).textContent = milliseconds(values.length ? mean(values) : null);
    }
  }

  /** The instances of the picture that is seen.
   *  @param tile of the opened stream, or null */
  instances(tile) {
    const list = this.find("tracks");
    const visible = tile?.entry?.instances.filter((each) => tile.accepts(each)) ?? [];
    const wanted = new Set(visible.map(({ trackId }) => trackId));
    for (const [track, row] of this.#rows) {
      if (!wanted.has(track)) {
        row.item.remove();
        this.#rows.delete(track);
      }
    }
    const sorted = [...visible].sort((a, b) => a.trackId - b.trackId);
    sorted.forEach((each, place) => {
      const row = this.#rows.get(each.trackId) ?? this.#newRow(each.trackId);
      const name = tile.nameOf(each.trackId);
      const label = name || each.trackLabel;
      if (row.name.textContent !== label) row.name.textContent = label;
      row.score.textContent = each.score.toFixed(2);
      row.button.setAttribute("aria-pressed", String(tile.selected === each.trackId));
      if (list.children[place] !== row.item) list.insertBefore(row.item, list.children[place] ?? null);
    });
    this.find("nothing").hidden = sorted.length > 0;
    this.#summarise(sorted, tile);
  }

  #newRow(trackId) {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const chip = document.createElement("i");
    chip.style.background = `rgb(${trackColour(trackId).join(" ")})`;
    const number = Object.assign(document.createElement("b"), { textContent: trackId });
    const name = document.createElement("span");
    const score = Object.assign(document.createElement("span"), { className: "score" });
    button.append(chip, number, name, score);
    button.onclick = () => this.choose(trackId);
    item.append(button);
    const row = { item, button, name, score };
    this.#rows.set(trackId, row);
    return row;
  }

  /** The track that was chosen, with what can be done with it. */
  chosen(tile) {
    const track = tile?.selected ?? null;
    this.find("chosen").hidden = track === null;
    if (track === null) return;
    const colour = `rgb(${trackColour(track).join(" ")})`;
    this.find("chosen").style.setProperty("--track", colour);
    const isSeen = tile.entry.instances.some(({ trackId }) => trackId === track);
    this.find("chosen-title").textContent = `Number ${track}${isSeen ? "" : ", not in this picture"}`;
    if (document.activeElement !== this.find("chosen-name")) {
      this.find("chosen-name").value = tile.nameOf(track);
    }
    this.find("chosen-follow").setAttribute("aria-pressed", String(tile.followed === track));
    this.find("chosen-alone").setAttribute("aria-pressed", String(tile.alone === track));
  }

  #summarise(instances, tile) {
    const now = performance.now();
    if (!tile || now - this.#said < SUMMARY_MS) return;
    const words = instances.map(({ trackId, trackLabel }) => {
      return `${tile.nameOf(trackId) || trackLabel} ${trackId}`;
    });
    const summary = words.join(", ") || "nothing";
    if (summary === this.find("summary").textContent) return;
    this.find("summary").textContent = summary;
    this.#said = now;
  }
}
