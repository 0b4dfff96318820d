// Buttons, sliders and keys.

import { ServerControls } from "./server-controls.js";

const megabytes = (bytes) => `${Math.round(bytes / 1e6).toLocaleString("en")} MB`;
const percent = (share) => `${Math.round(share * 100)} %`;

export class Controls {
  constructor(app, find) {
    this.app = app;
    this.find = find;
    this.server = new ServerControls(app, find);
  }

  listen() {
    const { app, find } = this;
    find("all").onclick = () => app.back();
    find("back").onclick = () => app.back();
    find("camera").onclick = () => app.tiles.has("camera") && !this.#failed("camera")
      ? app.open("camera")
      : app.watchCamera();
    find("video").onclick = () => find("file").click();
    find("file").onchange = ({ target }) => {
      if (target.files.length) app.watchFile(target.files[0]);
      target.value = "";
    };
    find("theme").onclick = () => this.#toggleTheme();
    find("full").onclick = () => this.#toggleFull();
    find("pause").onclick = () => this.#togglePause();
    find("earlier").onclick = () => this.#step(-1);
    find("later").onclick = () => this.#step(1);
    find("moment").oninput = ({ target }) => this.#stop(Number(target.value));
    this.server.listen();
    this.#listenToSettings();
    this.#listenToChosen();
    this.#listenToDrops();
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  // ------------------------------------------------------------------------------ what is drawn

  #listenToSettings() {
    const { find } = this;
    const { settings } = this.app.page;
    for (const name of Object.keys(settings.show)) {
      find(`show-${name}`).checked = settings.show[name];
      find(`show-${name}`).onchange = ({ target }) => {
        settings.show[name] = target.checked;
        this.#settingsChanged();
      };
    }
    find("score").value = settings.leastScore;
    find("score").oninput = ({ target }) => {
      settings.leastScore = Number(target.value);
      this.#settingsChanged();
    };
    find("opacity").value = settings.opacity;
    find("opacity").oninput = ({ target }) => {
      settings.opacity = Number(target.value);
      this.#settingsChanged();
    };
    this.#settingsChanged();
  }

  #settingsChanged() {
    const { find, app } = this;
    const { settings } = app.page;
    find("score-value").textContent = settings.leastScore.toFixed(2);
    find("opacity-value").textContent = percent(settings.opacity);
    settings.keep();
    for (const tile of app.tiles.values()) this.apply(tile);
    app.refreshPanel(true);
  }

  /** Draw a tile as the settings say. */
  apply(tile) {
    const { settings } = this.app.page;
    tile.overlay.show = settings.show;
    tile.overlay.opacity = settings.opacity;
    tile.draw();
  }

  /** Show what the server's model is and what the server allows. */
  meet(model) {
    const { find } = this;
    const { hiddenClasses } = this.app.page.settings;
    find("model").textContent = `${model.name} on ${model.backend}, ${model.precision}.`;
    find("add").hidden = !model.may_add;
    const chips = model.labels.map((label) => {
      const chip = Object.assign(document.createElement("button"), { type: "button" });
      chip.textContent = label;
      chip.setAttribute("aria-pressed", String(!hiddenClasses.has(label)));
      chip.onclick = () => {
        if (!hiddenClasses.delete(label)) hiddenClasses.add(label);
        chip.setAttribute("aria-pressed", String(!hiddenClasses.has(label)));
        this.#settingsChanged();
      };
      return chip;
    });
    find("classes").replaceChildren(...chips);
  }

  memory(server, page, kept) {
    const parts = [];
    if (server) parts.push(`server ${megabytes(server)}`);
    if (page) parts.push(`page ${megabytes(page)}`);
    parts.push(`last seconds ${megabytes(kept)}`);
    this.find("memory").textContent = `Memory: ${parts.join(", ")}.`;
  }

  // ----------------------------------------------------------------------------------- instances

  #listenToChosen() {
    const { find, app } = this;
    const toggle = (name) => () => {
      const tile = app.opened;
      tile[name] = tile[name] === tile.selected ? null : tile.selected;
      tile.draw();
      app.refreshPanel(true);
    };
    find("chosen-follow").onclick = toggle("followed");
    find("chosen-alone").onclick = toggle("alone");
    find("chosen-done").onclick = () => {
      this.choose(null);
      find("pause").focus();
    };
    find("chosen-name").oninput = ({ target }) => {
      const tile = app.opened;
      app.page.names.set(tile.key, tile.selected, target.value.trim());
      tile.draw();
      app.refreshPanel(true);
    };
    find("chosen-name").onkeydown = (event) => {
      if (event.key === "Enter") find("chosen-name").blur();
    };
  }

  /** Choose a track of the opened stream, or none. */
  choose(track) {
    const tile = this.app.opened;
    if (!tile) return;
    tile.selected = track === tile.selected ? null : track;
    tile.draw();
    this.app.refreshPanel(true);
  }

  // ----------------------------------------------------------------------------- the last seconds

  #togglePause() {
    const tile = this.app.opened;
    if (!tile?.history.length) return;
    if (tile.stoppedAt === null) this.#stop(tile.history.length - 1);
    else this.goOn(tile);
    this.app.refreshPanel(true);
  }

  #step(frames) {
    const tile = this.app.opened;
    if (!tile?.history.length) return;
    const last = tile.history.length - 1;
    this.#stop(Math.max(0, Math.min(last, (tile.stoppedAt ?? last) + frames)));
  }

  async #stop(index) {
    const tile = this.app.opened;
    if (tile.stoppedAt === null) this.app.visits.get(tile.key)?.source.pause();
    const stopped = tile.stop(Math.min(index, tile.history.length - 1));
    this.app.rewatch();
    await stopped;
    this.app.refreshPanel(true);
  }

  /** Show what arrives again. */
  goOn(tile) {
    tile.stop(null);
    this.app.visits.get(tile.key)?.source.resume();
    this.app.rewatch();
  }

  /** Show where the opened stream is. */
  refresh(tile) {
    if (!tile) return;
    const { find, app } = this;
    const stopped = tile.stoppedAt !== null;
    const last = Math.max(0, tile.history.length - 1);
    const place = tile.stoppedAt ?? last;
    find("pause").setAttribute("aria-pressed", String(stopped));
    find("pause").textContent = stopped ? "Go on" : "Pause";
    find("moment").max = last;
    find("moment").value = place;
    const entry = tile.history.length ? tile.history.at(place) : null;
    const behind = entry ? entry.timeS - tile.history.at(last).timeS : 0;
    const words = stopped ? `${behind.toFixed(1)} s, frame ${entry.frame}` : "live";
    find("clock").textContent = words;
    find("moment").setAttribute("aria-valuetext", words);
    this.server.refresh(tile, app.model);
  }

  #failed(key) {
    return this.app.tiles.get(key).info.state === "failed";
  }

  // ------------------------------------------------------------------------------- the page's own

  #toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.find("stage").requestFullscreen?.();
  }

  #toggleTheme() {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  }

  #key(event) {
    const { find, app } = this;
    if (event.ctrlKey || event.metaKey || event.altKey || find("adding").open) return;
    const inText = event.target.closest("input[type=text]");
    const inControl = event.target.closest("button, input");
    if (event.key === "Escape" && app.opened) {
      if (inText) inText.blur();
      else if (app.opened.selected !== null) this.choose(null);
      else app.back();
      return;
    }
    if (inText) return;
    const actions = {
      a: () => find("add").hidden || find("add").click(),
      c: () => find("camera").click(),
      f: () => this.#toggleFull(),
      t: () => this.#toggleTheme(),
      v: () => find("video").click(),
    };
    const arrows = { ArrowLeft: -1, ArrowRight: 1 };
    const inSlider = event.target.closest("input[type=range]");
    if (event.key === " " && !inControl && app.opened) this.#togglePause();
    else if (arrows[event.key] && app.opened && !inSlider) this.#step(arrows[event.key]);
    else if (/^[1-9]$/.test(event.key)) [...app.tiles.values()][event.key - 1]?.button.onclick();
    else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
  }

  #listenToDrops() {
    const drop = this.find("drop");
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
      if (file) this.app.watchFile(file);
    });
  }
}
