// A source of the visitor: frames go up as JPEG, and their instances come back. Each is drawn over
// the very picture that was sent.

import { socketAddress } from "./api.js";
import { Backoff } from "./backoff.js";

const WIDEST = 1280, TALLEST = 720; // larger pictures are sent smaller
const QUALITY = 0.9;
const IN_FLIGHT = 2; // one is computed while the next is on its way; more would only wait
const GOING_AWAY = new Set([1001, 1006, 1012]); // codes of a server that may come back

export class Visit {
  #socket = null;
  #pending = new Map(); // time to what was sent
  #limit = 0;
  #last = -1;
  #timer = 0;
  #closed = false;
  #busy = false;
  #begin = performance.now();
  #backoff = new Backoff();
  #canvas = new OffscreenCanvas(1, 1);

  /** @param source with `grab()`, see sources.js
   *  @param {string} name of the stream
   *  @param {{show: Function, state: Function}} page `show(message, sent)` draws an answer,
   *    `state(state, reason, stream)` is called when it changes */
  constructor(source, name, page) {
    Object.assign(this, { source, name, page });
    this.#open();
    this.#loop();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#drop();
    this.source.close();
  }

  /** The video begins anew: so do its tracks. */
  restart() {
    this.#drop();
    this.#open();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.#limit = 0;
    socket?.close();
    for (const { picture } of this.#pending.values()) picture.close();
    this.#pending.clear();
  }

  #open() {
    const socket = new WebSocket(socketAddress("visit", { name: this.name }));
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (this.#socket !== socket) return;
      if (typeof data === "string") this.#welcome(JSON.parse(data));
      else this.#answer(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.#socket !== socket) return;
      this.#drop();
      if (!GOING_AWAY.has(code)) {
        this.page.state("failed", reason || "The server ended it.", null);
        return;
      }
      this.page.state("waiting", "The server does not answer.", null);
      this.#timer = setTimeout(() => this.#open(), this.#backoff.next());
    };
  }

  #welcome({ stream, in_flight }) {
    this.#backoff.reset();
    this.#limit = Math.min(IN_FLIGHT, in_flight);
    this.page.state("playing", "", stream);
  }

  #answer(data) {
    const timeS = new DataView(data).getFloat64(12, true);
    const sent = this.#pending.get(timeS);
    if (!sent) return;
    this.#pending.delete(timeS);
    this.page.show(data, sent);
  }

  async #loop() {
    if (this.#closed) return;
    if (!this.#busy && this.#limit && this.#pending.size < this.#limit) {
      this.#busy = true;
      try {
        await this.#send();
      } catch (error) {
        console.error(error);
      }
      this.#busy = false;
    }
    requestAnimationFrame(() => this.#loop());
  }

  async #send() {
    const socket = this.#socket;
    const grabbed = performance.now();
    const picture = await this.source.grab();
    if (!picture) return;
    const scale = Math.min(1, WIDEST / picture.width, TALLEST / picture.height);
    const canvas = this.#canvas;
    canvas.width = Math.max(1, Math.round(picture.width * scale));
    canvas.height = Math.max(1, Math.round(picture.height * scale));
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
    if (this.#socket !== socket || socket?.readyState !== WebSocket.OPEN) {
      picture.close();
      return;
    }
    // In steps that are exact in binary, and never twice the same.
    const elapsed = Math.round((grabbed - this.#begin) / 1000 * 1024);
    this.#last = Math.max(this.#last + 1, elapsed);
    const time = new DataView(new ArrayBuffer(8));
    time.setFloat64(0, this.#last / 1024, true);
    this.#pending.set(this.#last / 1024, { picture, jpeg: blob, grabbed });
    socket.send(new Blob([time.buffer, blob]));
  }
}
