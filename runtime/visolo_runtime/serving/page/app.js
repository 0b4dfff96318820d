// The page: the server's streams and the visitor's own, in a grid or one of them alone.

import { api, halfTrip, serverMemory } from "./api.js";
import { Controls } from "./controls.js";
import { Names } from "./names.js";
import { PageSettings } from "./page-settings.js";
import { Panel } from "./panel.js";
import { Tile } from "./tile.js";
import { Visit } from "./visiting.js";
import { Watch } from "./watching.js";
import { CameraSource, FileSource } from "./web/view/sources.js";
import { decodeFrame } from "./wire.js";

const POLL_MS = 1000, MEASURE_MS = 5000, PANEL_MS = 200;
const HISTORY_BYTES = 96e6; // of all streams together
const PICTURE_SHAPE = 16 / 9;

const find = (id) => document.getElementById(id);

class App {
  /** What all tiles share. */
  page = {
    labels: [],
    names: new Names(),
    settings: new PageSettings(),
    onDrawn: () => this.refreshPanel(),
  };
  tiles = new Map(); // key to tile, in the order of the grid
  visits = new Map(); // key of an own tile to its visit
  watch = new Watch(
    (...message) => this.show(...message),
    (lost) => this.lost(lost),
  );
  panel = new Panel(find, (track) => this.controls.choose(track));
  controls = new Controls(this, find);
  model = null;
  halfTripMs = 0;
  #panelAt = 0;
  #isLost = false;
  #met = false; // whether the server is the one that was asked about its model

  async start() {
    if (location.search) history.replaceState(null, "", location.pathname + location.hash);
    this.controls.listen();
    addEventListener("hashchange", () => this.route());
    new ResizeObserver(() => this.layout()).observe(find("grid"));
    for (;;) {
      await this.poll();
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  }

  /** The opened tile; null in the grid. */
  get opened() {
    const key = location.hash.slice(1);
    const isNamed = ({ name }) => key === `stream/${encodeURIComponent(name)}`;
    return this.tiles.get(key) ?? [...this.tiles.values()].find(isNamed) ?? null;
  }

  // ---------------------------------------------------------------------------- what the server has

  async poll() {
    try {
      if (!this.#met) await this.meet();
      this.update(await api("streams"));
      if (performance.now() - (this.measuredAt ?? -Infinity) > MEASURE_MS) await this.measure();
      this.lost(false);
    } catch (error) {
      console.warn(error.message);
      this.lost(true);
    }
    this.refreshPanel();
  }

  /** Ask what the model is. After another start of the server, its streams are others. */
  async meet() {
    const model = await api("model");
    if (this.model?.run !== model.run) {
      for (const tile of [...this.tiles.values()]) if (!tile.own) this.drop(tile);
      this.watch.set([]);
      this.page.names.begin(model.run);
    }
    this.#met = true;
    this.model = model;
    this.page.labels = model.labels;
    this.controls.meet(model);
  }

  update(streams) {
    const own = new Map([...this.visits].map(([key, { number }]) => [number, key]));
    for (const info of streams) {
      if (info.visitor) {
        const tile = this.tiles.get(own.get(info.stream));
        tile?.update({ dropped: info.dropped, notices: info.notices });
        continue;
      }
      const key = `stream/${info.stream}`;
      if (!this.tiles.has(key)) this.add(new Tile(key, info.name, false, this.page));
      const tile = this.tiles.get(key);
      tile.number = info.stream;
      tile.update(info);
    }
    const known = new Set(streams.map(({ stream }) => `stream/${stream}`));
    for (const tile of [...this.tiles.values()]) {
      if (!tile.own && !known.has(tile.key)) this.drop(tile);
      else if (tile.own) tile.update({});
    }
    this.route();
  }

  async measure() {
    this.measuredAt = performance.now();
    this.halfTripMs = await halfTrip();
    const server = await serverMemory();
    const page = performance.memory?.usedJSHeapSize;
    const kept = [...this.tiles.values()].reduce((sum, { history }) => sum + history.bytes, 0);
    this.controls.memory(server, page, kept);
  }

  lost(lost) {
    if (lost === this.#isLost) return;
    this.#isLost = lost;
    find("lost").hidden = !lost;
    if (lost) this.#met = false;
    else this.poll();
  }

  // -------------------------------------------------------------------------------------- tiles

  add(tile) {
    tile.button.onclick = () => this.open(tile.key);
    tile.canvas.onclick = (event) => {
      if (this.opened === tile) this.controls.choose(tile.under(event)?.trackId ?? null);
    };
    this.tiles.set(tile.key, tile);
    this.controls.apply(tile);
    find("grid").append(tile.element);
    for (const each of this.tiles.values()) each.history.most = HISTORY_BYTES / this.tiles.size;
  }

  drop(tile) {
    if (this.opened === tile) location.hash = "";
    this.visits.get(tile.key)?.close();
    this.visits.delete(tile.key);
    this.tiles.delete(tile.key);
    tile.close();
    this.route();
  }

  /** A message of the server: drawn, unless its stream is not watched any more. */
  async show(data, received, fresh) {
    const message = decodeFrame(data);
    const tile = this.tiles.get(`stream/${message.stream}`);
    if (!tile || !message.picture.length) return;
    const jpeg = new Blob([message.picture], { type: "image/jpeg" });
    const arrived = received - message.ageMs - this.halfTripMs;
    await tile.show(message, jpeg, fresh.has(message.stream) ? arrived : null);
    fresh.add(message.stream);
  }

  // ------------------------------------------------------------------------- grid or one stream

  open(key) {
    location.hash = key;
    this.route();
    find("pause").focus();
  }

  back() {
    const { opened } = this;
    location.hash = "";
    this.route();
    opened?.button.focus();
  }

  /** Show what the page's address names. */
  route() {
    const { opened } = this;
    document.body.dataset.view = opened ? "single" : "grid";
    for (const tile of this.tiles.values()) {
      tile.element.hidden = opened !== null && tile !== opened;
      tile.button.hidden = opened !== null;
      if (tile !== opened && tile.stoppedAt !== null) this.controls.goOn(tile);
    }
    find("empty").hidden = this.tiles.size > 0 || !this.model;
    for (const name of ["player", "single", "stream"]) find(name).hidden = !opened;
    find("all").setAttribute("aria-pressed", String(!opened));
    find("camera").setAttribute("aria-pressed", String(opened?.key === "camera"));
    find("video").setAttribute("aria-pressed", String(opened?.key === "file"));
    document.title = opened ? `${opened.name}, visolo live` : "visolo live";
    this.rewatch();
    this.layout();
    this.refreshPanel(true);
  }

  /** Watch what is seen and still moves. */
  rewatch() {
    const seen = [...this.tiles.values()].filter(
      (tile) => !tile.own && !tile.element.hidden && tile.stoppedAt === null,
    );
    this.watch.set(seen.map(({ number }) => number));
  }

  /** As many columns as make the pictures largest. */
  layout() {
    const grid = find("grid");
    const count = this.tiles.size;
    const { clientWidth, clientHeight } = grid;
    const gap = parseFloat(getComputedStyle(grid).columnGap);
    const caption = this.tiles.values().next().value?.caption.offsetHeight ?? 0;
    let best = 0, columns = 1;
    for (let each = 1; each <= count; each++) {
      const rows = Math.ceil(count / each);
      const wide = (clientWidth - gap * (each - 1)) / each;
      const tall = (clientHeight - gap * (rows - 1)) / rows - caption;
      const size = Math.min(wide, tall * PICTURE_SHAPE);
      if (size > best) [best, columns] = [size, each];
    }
    grid.style.setProperty("--columns", columns);
    grid.style.setProperty("--wide", `${Math.floor(best)}px`);
  }

  refreshPanel(atOnce = false) {
    const now = performance.now();
    if (!atOnce && now - this.#panelAt < PANEL_MS) return;
    this.#panelAt = now;
    const { opened } = this;
    this.panel.figures(opened ? [opened] : [...this.tiles.values()]);
    this.panel.instances(opened);
    this.panel.chosen(opened);
    this.controls.refresh(opened);
  }

  // --------------------------------------------------------------------------- a visitor's own

  /** Track what the visitor shows. */
  async visit(key, name, source) {
    const former = this.tiles.get(key);
    if (former) this.drop(former);
    const tile = new Tile(key, name, true, this.page);
    tile.update({ state: "waiting", reason: "Opening" });
    this.add(tile);
    this.open(key);
    try {
      await source.open();
    } catch (error) {
      source.close();
      tile.update({ state: "failed", reason: error.message });
      return;
    }
    if (this.tiles.get(key) !== tile) {
      source.close(); // it was left meanwhile
      return;
    }
    source.onLost = (sentence) => {
      this.visits.get(key)?.close();
      tile.update({ state: "failed", reason: sentence });
    };
    tile.update({ state: "waiting", reason: "" });
    const visit = new Visit(source, name, {
      show: (data, { picture, jpeg, grabbed }) =>
        tile.show(decodeFrame(data), jpeg, grabbed, picture),
      state: (state, reason, number) => {
        if (visit.number !== number) tile.restart();
        visit.number = number;
        tile.update({ state, reason });
      },
    });
    this.visits.set(key, visit);
  }

  watchCamera() {
    this.visit("camera", "My camera", new CameraSource());
  }

  watchFile(file) {
    const source = new FileSource(file, () => this.visits.get("file")?.restart());
    this.visit("file", file.name, source);
  }
}

window.visolo = new App(); // for the curious, and for tests
window.visolo.start();
