// The worker in which the model runs, so that the page stays responsive. Messages in:
//   {kind: "open", folder, backend, threads}  a model; forgets the video
//   {kind: "restart"}                      forgets the video
//   {kind: "confidence", value}            lowest score of an instance
//   {kind: "frame", picture, generation}   an ImageBitmap or an ImageData; both come back
// and out: "progress" {bytes}, "ready" {manifest}, "instances" {picture, generation, frame, size,
// instances, milliseconds}, "failed" {message}. Messages are answered in the order they came in.

import { anchor, contours } from "./contours.js";
import { Graphs } from "./graphs.js";
import { Stream } from "./stream.js";

let graphs = null, stream = null, confidence = null;
let done = Promise.resolve();
const opened = new Map(); // folder to graphs

function restart() {
  if (!graphs) return;
  stream = new Stream(graphs);
  if (confidence !== null) stream.confidence = confidence;
}

async function open({ folder, backend, threads }) {
  if (!opened.has(folder)) {
    const progress = (bytes) => postMessage({ kind: "progress", bytes });
    const address = new URL(folder, import.meta.url);
    opened.set(folder, await Graphs.open(address, backend, threads, progress));
  }
  graphs = opened.get(folder);
  restart();
  postMessage({ kind: "ready", manifest: graphs.manifest });
}

let canvas = null;

function pixels(picture) {
  if (picture instanceof ImageData) return picture;
  const { width, height } = picture;
  if (canvas?.width !== width || canvas?.height !== height) {
    canvas = new OffscreenCanvas(width, height);
  }
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, width, height);
}

async function track({ picture, generation }) {
  const result = await stream.step(pixels(picture));
  const [height, width] = graphs.inputSize;
  for (const each of result.instances) {
    each.outline = contours(each.mask, height, width);
    each.anchor = anchor(each.outline);
  }
  const transferred = result.instances.flatMap(({ mask, outline }) => [mask, ...outline]);
  const owned = transferred.map(({ buffer }) => buffer);
  if (picture instanceof ImageBitmap) owned.push(picture);
  postMessage({ kind: "instances", picture, generation, size: [height, width], ...result }, owned);
}

const actions = {
  open,
  restart,
  frame: track,
  confidence({ value }) {
    confidence = value;
    if (stream) stream.confidence = value;
  },
};

onmessage = ({ data }) => {
  done = done
    .then(() => actions[data.kind](data))
    .catch((error) => postMessage({ kind: "failed", message: String(error?.message ?? error) }));
};
