// The four graphs of a bundle over onnxruntime-web, and the tensors that a stream keeps for them.

import { download, unpacked } from "./download.js";

const DECODE_LIMIT = 32; // masks that are decoded at once
const ARRAYS = { float32: Float32Array, uint8: Uint8Array, bool: Uint8Array };
const KEPT = ["memory_key", "memory_value", "recent_key"];
// Each backend has a build of onnxruntime of its own: its code, and its packed WebAssembly file.
const BUILDS = { wasm: "ort.wasm", webgpu: "ort.jspi" };
// What stays on the graphics processor, since only graphs read it.
const STAY = {
  frame: ["features", "res2", "res3", "res4"],
  mask: ["mask_features"],
};
let ort = null;

// The WebAssembly file is served packed, since few static servers compress.
async function prepareRuntime(backend, threads, onBytes) {
  if (ort) return;
  const build = BUILDS[backend];
  const packed = download(new URL(`../runtime/${build}.packed`, import.meta.url), onBytes);
  const code = await import(`../runtime/${build}.bundle.min.mjs`);
  code.env.logLevel = "error"; // it warns of nodes that are quicker on the CPU
  code.env.wasm.wasmBinary = await unpacked(await packed);
  code.env.wasm.numThreads = threads;
  ort = code;
}

function sessionOptions(backend, graph) {
  const options = { executionProviders: [backend], graphOptimizationLevel: "all" };
  if (backend === "webgpu" && graph in STAY) {
    options.preferredOutputLocation = Object.fromEntries(
      STAY[graph].map((name) => [name, "gpu-buffer"]),
    );
  }
  return options;
}

export class Graphs {
  /** @param {URL} folder of the model, with its manifest.json
   *  @param {"wasm" | "webgpu"} backend the same for every model that is opened
   *  @param {number} threads for WebAssembly
   *  @param {(bytes: number) => void} onBytes called as files arrive */
  static async open(folder, backend, threads, onBytes = () => {}) {
    const manifest = JSON.parse(
      new TextDecoder().decode(await download(new URL("manifest.json", folder), onBytes)),
    );
    const names = Object.keys(manifest.graphs);
    const [files] = await Promise.all([
      Promise.all(names.map(async (name) =>
        unpacked(await download(new URL(manifest.graphs[name], folder), onBytes)))),
      prepareRuntime(backend, threads, onBytes),
    ]);
    const sessions = {};
    for (const [at, name] of names.entries()) {
      const options = sessionOptions(backend, name);
      sessions[name] = await ort.InferenceSession.create(files[at], options);
    }
    return new Graphs(manifest, sessions);
  }

  constructor(manifest, sessions) {
    this.manifest = manifest;
    this.sessions = sessions;
    this.outputs = {}; // of the frame graph
    this.tensors = {};
    for (const { name, dtype, shape } of manifest.contract.frame.inputs) {
      const sides = shape.map((side) => (side === "B" ? 1 : side));
      const length = sides.reduce((product, side) => product * side, 1);
      this.tensors[name] = new ort.Tensor(dtype, new ARRAYS[dtype](length), sides);
    }
    this.inputSize = manifest.model.input_size;
    this.slots = manifest.slots;
    this.cells = manifest.model.grid[0] * manifest.model.grid[1];
    this.classes = manifest.model.classes;
  }

  /** An input of the frame graph, to be written before `frame`. */
  input(name) {
    return this.tensors[name].data;
  }

  /** Forget every frame. */
  clear() {
    for (const name of KEPT) this.input(name).fill(0);
  }

  /** Run the frame graph; returns its outputs by name, as arrays. */
  async frame() {
    for (const each of Object.values(this.outputs)) each.dispose();
    this.outputs = await this.sessions.frame.run(this.tensors);
    const here = Object.entries(this.outputs).filter(([, { location }]) => location === "cpu");
    return Object.fromEntries(here.map(([name, tensor]) => [name, tensor.data]));
  }

  /** Run the mask graph, and the decode graph for some cells.
   *  @returns {{masks: Uint8Array[], area: number[], probabilitySum: number[],
   *    intersection: (left: number, right: number) => number}} */
  async masks(cells) {
    const { res2, res3, res4, kernels } = this.outputs;
    const { mask_features } = await this.sessions.mask.run({ res2, res3, res4 });
    const depth = kernels.data.length / this.cells;
    const masks = [], area = [], probabilitySum = [], parts = [];
    for (let begin = 0; begin < cells.length; begin += DECODE_LIMIT) {
      const some = cells.slice(begin, begin + DECODE_LIMIT);
      const chosen = new Float32Array(some.length * depth);
      some.forEach((cell, row) => {
        for (let d = 0; d < depth; d++) {
          chosen[row * depth + d] = kernels.data[d * this.cells + cell];
        }
      });
      const part = await this.sessions.decode.run({
        mask_features,
        kernels: new ort.Tensor("float32", chosen, [some.length, depth]),
      });
      const size = part.masks.data.length / some.length;
      some.forEach((_, row) => masks.push(part.masks.data.subarray(row * size, (row + 1) * size)));
      area.push(...part.area.data);
      probabilitySum.push(...part.probability_sum.data);
      parts.push(part.intersection.data);
    }
    mask_features.dispose();
    const partSize = (part) => Math.min(DECODE_LIMIT, cells.length - part * DECODE_LIMIT);
    const intersection = (left, right) => {
      const part = Math.floor(left / DECODE_LIMIT);
      if (part === Math.floor(right / DECODE_LIMIT)) {
        return parts[part][(left % DECODE_LIMIT) * partSize(part) + (right % DECODE_LIMIT)];
      }
      return commonPixels(masks[left], masks[right]);
    };
    return { masks, area, probabilitySum, intersection };
  }

  /** Run the memory graph and store the frame.
   *  @param {number} slot of the memory, or -1 without a memory
   *  @param {boolean} keepsPrevious whether the previous frame is the newest kept one from now on */
  async store(slot, keepsPrevious) {
    const { key, features } = this.outputs;
    if (slot >= 0) {
      const { value } = await this.sessions.memory.run({ features });
      this.input("memory_value").set(value.data, slot * value.data.length);
      this.input("memory_key").set(key.data, slot * key.data.length);
    }
    const recent = this.input("recent_key");
    if (keepsPrevious) recent.copyWithin(key.data.length, 0, key.data.length);
    recent.set(key.data, 0);
  }
}

function commonPixels(left, right) {
  let common = 0;
  for (let at = 0; at < left.length; at++) common += left[at] & right[at];
  return common;
}
