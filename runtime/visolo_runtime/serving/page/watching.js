// The socket that brings frames of the server's streams. It comes back by itself.

import { socketAddress } from "./api.js";
import { Backoff } from "./backoff.js";

const OVER = 1000; // the code with which a server closes when all streams have ended

export class Watch {
  #numbers = [];
  #socket = null;
  #timer = 0;
  #backoff = new Backoff();

  /** @param {(message: ArrayBuffer, received: number, fresh: Set) => Promise} show draws a message;
   *    `fresh` has the streams of which this connection brought a frame before: their first one may
   *    be older
   *  @param {(lost: boolean) => void} onLost called when the connection is lost or back */
  constructor(show, onLost) {
    this.show = show;
    this.onLost = onLost;
  }

  /** Watch these streams, and no others. */
  set(numbers) {
    if (numbers.join() === this.#numbers.join()) return;
    this.#numbers = numbers;
    this.#backoff.reset();
    this.#open();
  }

  #open() {
    clearTimeout(this.#timer);
    const former = this.#socket;
    this.#socket = null;
    former?.close();
    if (!this.#numbers.length) return;
    const query = this.#numbers.map((number) => ["stream", number]);
    const socket = new WebSocket(socketAddress("watch", query));
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    const fresh = new Set();
    socket.onmessage = async ({ data }) => {
      this.#backoff.reset();
      this.onLost(false);
      const received = performance.now();
      try {
        await this.show(data, received, fresh);
      } catch (error) {
        console.error(error);
      }
      if (socket.readyState === WebSocket.OPEN) socket.send("shown");
    };
    socket.onclose = ({ code }) => {
      if (this.#socket !== socket || code === OVER) return;
      this.onLost(true);
      this.#timer = setTimeout(() => this.#open(), this.#backoff.next());
    };
  }
}
