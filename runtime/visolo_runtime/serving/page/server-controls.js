// What is changed on the server: recordings, and streams that begin and end.

import { api } from "./api.js";

const REMOVE_MS = 4000; // in which a second click removes

export class ServerControls {
  #problem = "";
  #armed = { tile: null, until: 0 }; // the stream that one more click removes

  constructor(app, find) {
    this.app = app;
    this.find = find;
  }

  listen() {
    this.find("record").onclick = () => this.#record();
    this.find("remove").onclick = () => this.#remove();
    this.#listenToAdding();
  }

  /** Show what the server says about the opened stream, and what it allows. */
  refresh(tile, model) {
    const { find } = this;
    const { recording, notices } = tile.info;
    find("record").hidden = tile.own || !model?.recordings;
    find("record").setAttribute("aria-pressed", String(Boolean(recording?.active)));
    find("record").textContent = recording?.active ? "Stop recording" : "Record";
    let words = "";
    if (recording?.failure) words = recording.failure;
    else if (recording?.active) words = `${recording.frames} frames so far`;
    else if (recording) words = `On the server: ${recording.files.join(", ")}`;
    if (!this.#problem) find("recorded").textContent = words;
    if (!this.#isArmed(tile)) {
      find("remove").textContent = tile.own ? "Stop" : "Remove";
    }
    find("remove").hidden = !tile.own && !model?.may_add;
    const said = notices.slice(-3).reverse();
    if (find("notices").dataset.said !== said.join("\n")) {
      find("notices").dataset.said = said.join("\n");
      find("notices").replaceChildren(
        ...said.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
      );
    }
    find("stream").hidden = !(tile.own || model?.recordings || model?.may_add || said.length);
  }

  async #ask(work) {
    this.#problem = "";
    try {
      await work();
      await this.app.poll();
    } catch (error) {
      this.#problem = error.message;
      this.find("recorded").textContent = error.message;
    }
  }

  #record() {
    const { number, info } = this.app.opened;
    const method = info.recording?.active ? "DELETE" : "POST";
    return this.#ask(() => api(`streams/${number}/recording`, method));
  }

  #remove() {
    const tile = this.app.opened;
    if (tile.own) {
      this.app.drop(tile);
    } else if (!this.#isArmed(tile)) {
      this.#armed = { tile, until: Date.now() + REMOVE_MS };
      this.find("remove").textContent = "Remove for everybody?";
    } else {
      this.#ask(() => api(`streams/${tile.number}`, "DELETE"));
    }
  }

  #isArmed(tile) {
    return this.#armed.tile === tile && Date.now() < this.#armed.until;
  }

  #listenToAdding() {
    const { find } = this;
    find("add").onclick = () => {
      find("adding-error").textContent = "";
      find("adding").showModal();
      find("address").focus();
    };
    find("adding-cancel").onclick = () => find("adding").close();
    find("adding-form").onsubmit = async (event) => {
      event.preventDefault();
      find("adding-error").textContent = "Opening";
      try {
        await api("streams", "POST", { source: find("address").value.trim() });
        find("adding").close();
        find("address").value = "";
        this.app.poll();
      } catch (error) {
        find("adding-error").textContent = error.message;
      }
    };
  }
}
