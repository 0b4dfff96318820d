// One video: frames in, instances with identity out. The order of the calls is that of
// visolo_runtime/session/step.py and stream.py.

import { Associator } from "./association.js";
import { chooseFromAll, selectInstances } from "./decoding.js";
import { EMPTY, slotToWrite } from "./memory-policy.js";
import { Resizer } from "./resizing.js";

export class Stream {
  #computed = 0; // frames that the network has seen
  #resizer = null;

  /** @param graphs of one model; a stream has them for itself */
  constructor(graphs) {
    this.graphs = graphs;
    this.inference = { ...graphs.manifest.inference };
    this.slots = Array(this.inference.memory_slots).fill(EMPTY);
    this.associator = new Associator(this.inference);
    graphs.clear();
  }

  /** Lowest score of an instance in a frame, 0 to 1: what --conf of the command line is. */
  set confidence(value) {
    this.inference.score_threshold = value;
    this.inference.update_threshold = value;
  }

  /** The instances of the next frame.
   *  @param {ImageData} picture
   *  @returns instances, best first; masks are uint8 [h, w] at the network's input size */
  async step(picture) {
    const begin = performance.now();
    this.#resize(picture);
    const resized = performance.now();
    const candidates = await this.#candidates();
    const decoded = candidates.length
      ? await this.graphs.masks(candidates.map(({ cell }) => cell))
      : null;
    const number = this.#computed;
    await this.#remember();
    const computed = performance.now();
    const instances = this.#follow(candidates, decoded);
    const milliseconds = {
      resize: resized - begin,
      graphs: computed - resized,
      host: performance.now() - computed,
    };
    return { frame: number, instances, milliseconds };
  }

  #resize(picture) {
    const { width, height, data } = picture;
    const size = this.graphs.inputSize;
    if (!this.#resizer?.fits(height, width)) this.#resizer = new Resizer([height, width], size);
    this.#resizer.resize(data, this.graphs.input("image"));
  }

  async #candidates() {
    const { graphs, inference } = this;
    const valid = graphs.input("memory_valid").fill(0);
    this.slots.forEach((stored, slot) => { valid[slot] = Number(stored !== EMPTY); });
    valid[valid.length - 1] = Number(this.slots.every((stored) => stored === EMPTY));
    graphs.input("recent_valid").set([Number(this.#computed > 0), Number(this.#computed > 1)]);
    graphs.input("score_threshold")[0] = inference.score_threshold;
    const outputs = await graphs.frame();
    const [count] = outputs.count;
    const keyWidth = outputs.query.length / graphs.cells;
    if (count > outputs.cell.length) {
      const recent = graphs.input("recent_key");
      const keys = [0, 1]
        .filter((at) => this.#computed > at)
        .map((at) => recent.subarray(at * outputs.key.length, (at + 1) * outputs.key.length));
      const sizes = { classes: graphs.classes, cells: graphs.cells, keyWidth };
      return chooseFromAll(outputs, keys, inference.score_threshold, sizes);
    }
    // Copies: tracks keep queries for longer than the outputs live.
    const row = (values, width, at) => values.slice(at * width, (at + 1) * width);
    return Array.from({ length: count }, (_, at) => ({
      cell: outputs.cell[at],
      score: outputs.cell_score[at],
      classes: row(outputs.cell_classes, graphs.classes, at),
      query: row(outputs.cell_query, keyWidth, at),
      key: row(outputs.cell_key, keyWidth, at),
    }));
  }

  async #remember() {
    const frame = this.#computed++;
    const every = this.inference.keep_every;
    let slot = -1;
    if (this.slots.length) {
      slot = slotToWrite(this.slots, frame, every);
      this.slots[slot] = frame;
    }
    // Seen from the next frame, the previous frame is two back: the newest kept one.
    await this.graphs.store(slot, frame > 0 && (frame - 1) % every === 0);
  }

  #follow(candidates, decoded) {
    const chosen = decoded ? selectInstances(candidates, decoded, this.inference) : [];
    const tracks = this.associator.step(chosen.map(({ index }) => candidates[index]));
    const { names } = this.graphs.manifest.labels;
    return chosen.map(({ index, score, label }, at) => {
      const track = tracks[at].classify();
      return {
        trackId: tracks[at].id,
        label: names[label],
        score,
        trackLabel: names[track.label],
        trackScore: track.score,
        cell: candidates[index].cell,
        mask: decoded.masks[index].slice(),
      };
    });
  }
}
