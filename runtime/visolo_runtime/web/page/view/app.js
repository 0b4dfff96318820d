// The page: sources, the worker with the model, the picture and the panel, tied together.

import { hasWebGpu, isolated, threadCount } from "./isolation.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { CameraSource, FileSource, SceneSource } from "./sources.js";

const find = (id) => document.getElementById(id);
const NUDGE = 14; // pixels of the scene

class App {
  overlay = new Overlay(find("picture"));
  panel = new Panel(find);
  source = null;
  model = "";
  paused = false;
  busy = false; // whether the worker has a picture
  ready = false; // whether the worker has the source's model
  expected = 0; // bytes of what is being loaded
  arrived = 0;
  runtimeLoaded = false;
  generation = 0; // of the video; pictures of earlier ones are not shown

  async start() {
    this.settings = await (await fetch("settings.json")).json();
    this.threads = threadCount();
    find("webgpu-choice").hidden = !hasWebGpu();
    this.employ("wasm");
    this.listen();
    await this.watch(new SceneSource(), "scene");
    this.loop();
  }

  /** Begin a worker that runs models with a backend, "wasm" or "webgpu". */
  employ(backend) {
    this.worker?.terminate();
    this.backend = backend;
    this.runtimeLoaded = false;
    this.busy = this.ready = false;
    this.worker = new Worker("model/worker.js", { type: "module" });
    this.worker.onmessage = ({ data }) => this.answers[data.kind](data);
    this.worker.onerror = () => this.answers.failed({ message: "its code does not load" });
    this.confidence();
    if (this.model) this.open(this.model);
  }

  // ------------------------------------------------------------------------- sources and models

  /** Watch a source, with the model for it. */
  async watch(source, name) {
    this.source?.close();
    this.source = null;
    this.setPaused(false);
    for (const each of ["scene", "camera", "file"]) {
      find(`source-${each}`).setAttribute("aria-pressed", String(each === name));
    }
    this.generation += 1;
    const { generation } = this;
    this.curtain(name === "camera" ? "Waiting for the camera" : "Opening", null);
    let refusal = "";
    await source.open().catch((error) => { refusal = error.message; });
    if (generation !== this.generation || refusal) {
      source.close();
      if (generation === this.generation) this.curtain(refusal, null);
      return; // what is watched by now was chosen later
    }
    source.onLost = (sentence) => { if (this.source === source) this.curtain(sentence, null); };
    this.source = source;
    find("hint").textContent = source.hint;
    find("stage").classList.toggle("draggable", source.draggable);
    this.open(name === "scene" ? this.settings.scene_model : this.settings.video_model);
  }

  open(model) {
    this.ready = false;
    this.forget();
    this.arrived = 0;
    this.expected = this.settings.model_bytes[model];
    if (!this.runtimeLoaded) this.expected += this.settings.runtime_bytes[this.backend];
    this.curtain(`Loading the model, ${(this.expected / 1e6).toFixed(0)} MB`, 0);
    this.model = model;
    this.worker.postMessage({
      kind: "open",
      folder: `../models/${model}/`,
      backend: this.backend,
      threads: this.threads,
    });
  }

  /** The video begins anew: so do the numbers. */
  restart() {
    this.worker.postMessage({ kind: "restart" });
    this.forget();
  }

  forget() {
    this.generation += 1;
    this.overlay.clear();
    this.panel.clear();
  }

  // ------------------------------------------------------------------- what the worker answers

  answers = {
    progress: ({ bytes }) => {
      this.arrived += bytes;
      find("curtain-progress").value = Math.min(1, this.arrived / this.expected);
    },
    ready: ({ manifest }) => {
      const threads = this.threads === 1 ? "one thread" : `${this.threads} threads`;
      find("model").textContent =
        `Model ${this.model}: ${manifest.labels.names.join(", ")}. ` +
        (this.backend === "webgpu" ? "WebGPU." : `WebAssembly, ${threads}.`);
      find("curtain-text").textContent = "Computing the first picture";
      find("curtain-progress").hidden = true;
      this.runtimeLoaded = true;
      this.ready = true;
    },
    instances: (data) => {
      this.busy = false;
      if (data.generation !== this.generation || !this.ready) {
        data.picture.close();
        return;
      }
      find("curtain").hidden = true;
      this.overlay.set(data);
      this.panel.set(data);
    },
    failed: ({ message }) => {
      this.busy = false;
      this.ready = false;
      this.curtain(`The model does not run here: ${message}`, null);
    },
  };

  // ----------------------------------------------------------------------------------- the loop

  /** Give the newest picture to the worker whenever it has none. */
  async loop() {
    if (this.ready && this.source && !this.busy && !this.paused) {
      this.busy = true;
      const { generation } = this;
      const picture = await Promise.resolve(this.source.grab()).catch(() => null);
      if (picture && generation === this.generation) {
        this.worker.postMessage({ kind: "frame", picture, generation }, [picture]);
      } else {
        picture?.close(); // of a video that was left meanwhile
        this.busy = false;
      }
    }
    requestAnimationFrame(() => this.loop());
  }

  // ----------------------------------------------------------------------------------- controls

  listen() {
    find("source-scene").onclick = () => this.watch(new SceneSource(), "scene");
    find("source-camera").onclick = () => this.watch(new CameraSource(), "camera");
    find("source-file").onclick = () => find("file").click();
    find("file").onchange = ({ target }) => {
      if (target.files.length) this.file(target.files[0]);
      target.value = "";
    };
    find("pause").onclick = () => this.setPaused(!this.paused);
    find("full").onclick = () => this.toggleFull();
    find("theme").onclick = () => this.toggleTheme();
    for (const name of Object.keys(this.overlay.show)) {
      find(`show-${name}`).onchange = ({ target }) => {
        this.overlay.show[name] = target.checked;
        this.overlay.draw();
      };
    }
    find("webgpu").onchange = ({ target }) => this.employ(target.checked ? "webgpu" : "wasm");
    find("confidence").oninput = () => this.confidence();
    find("opacity").oninput = () => this.opacity();
    this.opacity();
    this.listenToPointer();
    document.addEventListener("keydown", (event) => this.key(event));
    this.listenToDrops();
  }

  file(file) {
    this.watch(new FileSource(file, () => this.restart()), "file");
  }

  confidence() {
    const value = Number(find("confidence").value);
    find("confidence-value").textContent = value.toFixed(2);
    this.worker.postMessage({ kind: "confidence", value });
  }

  opacity() {
    this.overlay.opacity = Number(find("opacity").value);
    find("opacity-value").textContent = `${Math.round(this.overlay.opacity * 100)} %`;
    this.overlay.draw();
  }

  setPaused(paused) {
    this.paused = paused;
    find("pause").setAttribute("aria-pressed", String(paused));
    find("pause").textContent = paused ? "Go on" : "Pause";
    if (paused) this.source?.pause();
    else this.source?.resume();
  }

  toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else find("stage").requestFullscreen?.();
  }

  toggleTheme() {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  }

  listenToPointer() {
    const canvas = find("picture");
    const place = (event) => {
      const [height, width] = this.source.scene.size;
      const [x, y] = this.overlay.share(event);
      return [x * width, y * height];
    };
    canvas.onpointerdown = (event) => {
      if (!this.source?.draggable || !this.source.scene.hold(...place(event))) return;
      canvas.setPointerCapture(event.pointerId);
      find("stage").classList.add("dragging");
    };
    canvas.onpointermove = (event) => {
      if (this.source?.draggable) this.source.scene.drag(...place(event));
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
      this.source?.scene?.release();
      find("stage").classList.remove("dragging");
    };
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inControl = event.target.closest("button, input");
    const scene = this.source?.draggable ? this.source.scene : null;
    const arrows = {
      ArrowLeft: [-NUDGE, 0], ArrowRight: [NUDGE, 0], ArrowUp: [0, -NUDGE], ArrowDown: [0, NUDGE],
    };
    const actions = {
      1: () => find("source-scene").click(),
      2: () => find("source-camera").click(),
      3: () => find("source-file").click(),
      f: () => this.toggleFull(),
      t: () => this.toggleTheme(),
      n: () => scene?.next(),
    };
    if (event.key === " " && !inControl) find("pause").click();
    else if (arrows[event.key] && scene && !inControl) scene.nudge(...arrows[event.key]);
    else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
  }

  listenToDrops() {
    const drop = find("drop");
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.hidden = false;
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) drop.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.hidden = true;
      const [file] = event.dataTransfer.files;
      if (file) this.file(file);
    });
  }

  /** Cover the picture with a sentence, and with how much is loaded: 0 to 1, or null. */
  curtain(text, loaded) {
    find("curtain").hidden = false;
    find("curtain-text").textContent = text;
    find("curtain-progress").hidden = loaded === null;
    if (loaded !== null) find("curtain-progress").value = loaded;
  }
}

if (await isolated()) {
  const app = new App();
  await app.start();
}
