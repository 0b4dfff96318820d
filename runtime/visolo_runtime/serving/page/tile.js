// One stream on the page: its picture with the overlay, what the server says about it, and its last
// seconds.

import { Figures } from "./figures.js";
import { History } from "./history.js";
import { Instance } from "./instance.js";
import { Overlay } from "./web/view/overlay.js";

const MOST_ZOOM = 4;
const FOLLOW = 0.12; // of the way to where the view should be, each frame
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

const make = (tag, className) => Object.assign(document.createElement(tag), { className });

export class Tile {
  history = new History();
  figures = new Figures();
  info = { state: "waiting", reason: "", dropped: 0, fps: 0, notices: [], recording: null };
  /** Index in the history that is looked at; null shows what arrives. */
  stoppedAt = null;
  /** Tracks: the one that was chosen, the one that the view follows, the one that is alone. */
  selected = null;
  followed = null;
  alone = null;
  #newest = -1;
  #drawing = 0;

  /** @param {string} key in the page's address
   *  @param {boolean} own whether its pictures come from this browser
   *  @param page labels, names and what is shown, shared by all tiles */
  constructor(key, name, own, page) {
    Object.assign(this, { key, name, own, page });
    this.element = make("li", "tile");
    this.canvas = make("canvas", "picture");
    this.canvas.setAttribute("role", "img");
    this.button = make("button", "open");
    this.button.type = "button";
    this.sentence = make("p", "sentence");
    this.caption = make("p", "caption");
    this.dot = make("i", "dot");
    this.title = make("b", "");
    this.title.textContent = name;
    this.stateText = make("span", "state");
    this.numbers = make("span", "numbers");
    this.caption.append(this.dot, this.title, this.stateText, this.numbers);
    this.element.append(this.canvas, this.sentence, this.caption, this.button);
    this.overlay = new Overlay(this.canvas);
    this.overlay.accepts = (instance) => this.accepts(instance);
    this.overlay.words = (instance) => this.words(instance);
    this.update(this.info);
  }

  close() {
    this.#newest = Infinity;
    this.element.remove();
  }

  // ------------------------------------------------------------------------------- the picture

  /** Draw a message.
   *  @param message from decodeFrame
   *  @param {Blob} jpeg its picture
   *  @param {number | null} arrivedMs when it arrived at the server, in the page's time; null does
   *    not count how long it took
   *  @param {ImageBitmap} picture already decoded, for one's own */
  async show(message, jpeg, arrivedMs, picture = null) {
    picture ??= await createImageBitmap(jpeg);
    if (message.frame <= this.#newest) {
      picture.close();
      return;
    }
    this.#newest = message.frame;
    if (this.stoppedAt !== null) {
      picture.close();
      return;
    }
    const entry = this.#entry(message, jpeg);
    this.history.push(entry);
    this.#follow(entry);
    this.#draw(entry, picture, this.history.trails());
    if (arrivedMs !== null) this.figures.add(performance.now() - arrivedMs);
  }

  /** Look at an entry of the history; null goes on with the newest and what arrives. */
  async stop(index) {
    this.stoppedAt = index;
    const entry = this.history.at(index ?? -1);
    if (!entry) return;
    const drawing = ++this.#drawing;
    const trails = this.history.trails(index ?? undefined);
    const picture = await createImageBitmap(entry.jpeg);
    const isLate = drawing !== this.#drawing || (index === null && this.entry.frame > entry.frame);
    if (isLate) picture.close();
    else this.#draw(entry, picture, trails);
  }

  /** The tracks begin anew, with other numbers. */
  restart() {
    this.history.clear();
    this.stoppedAt = null;
    this.selected = this.followed = this.alone = null;
    this.#newest = -1;
  }

  #entry(message, jpeg) {
    const { frame, timeS, height, width } = message;
    const instances = message.instances.map((each) => new Instance(each, this.page.labels));
    const anchors = [];
    for (const each of instances) {
      if (this.accepts(each) && each.anchor) {
        anchors.push([each.trackId, each.anchor.x / width, each.anchor.y / height]);
      }
    }
    const runs = instances.reduce((sum, each) => sum + each.runs.length, 0);
    const bytes = jpeg.size + runs;
    return { frame, timeS, size: [height, width], instances, anchors, jpeg, bytes };
  }

  #draw(entry, picture, trails) {
    this.entry = entry;
    this.overlay.selected = this.selected;
    this.overlay.set({ picture, size: entry.size, instances: entry.instances }, trails);
    this.element.classList.add("seen");
    this.page.onDrawn(this, entry);
  }

  draw() {
    this.overlay.selected = this.selected;
    this.overlay.draw();
  }

  #follow({ instances, size: [height, width] }) {
    const { view } = this.overlay;
    const goal = { scale: 1, x: 0.5, y: 0.5 };
    const found = instances.find(({ trackId }) => trackId === this.followed);
    if (this.followed !== null && !found) return; // until it comes back, where it was last
    if (found && !STILL.matches) {
      const [left, top, right, bottom] = found.box;
      const share = Math.max((right - left) / width, (bottom - top) / height);
      goal.scale = Math.max(1, Math.min(MOST_ZOOM, 0.55 / share));
      const half = 0.5 / goal.scale;
      const within = (place) => Math.max(half, Math.min(1 - half, place));
      goal.x = within((left + right) / 2 / width);
      goal.y = within((top + bottom) / 2 / height);
    }
    for (const name of Object.keys(goal)) view[name] += FOLLOW * (goal[name] - view[name]);
    if (this.followed === null && Math.abs(view.scale - 1) < 0.01) Object.assign(view, goal);
  }

  // ----------------------------------------------------------------------------- what is drawn

  accepts({ trackId, classId, score }) {
    const { leastScore, hiddenClasses } = this.page.settings;
    if (this.alone !== null) return trackId === this.alone;
    return score >= leastScore && !hiddenClasses.has(this.page.labels[classId]);
  }

  nameOf(trackId) {
    return this.page.names.get(this.key, trackId);
  }

  words({ trackId, trackLabel, score }) {
    const name = this.nameOf(trackId);
    return name ? `${trackId} ${name}` : `${trackId} ${trackLabel} ${score.toFixed(2)}`;
  }

  /** The visible instance under the pointer, the best one first; null if there is none. */
  under(event) {
    if (!this.entry) return null;
    const [x, y] = this.overlay.share(event);
    const [height, width] = this.entry.size;
    const hit = (each) => this.accepts(each) && each.covers(x * width, y * height);
    return this.entry.instances.find(hit) ?? null;
  }

  // --------------------------------------------------------------------------- what is said

  /** What the server says about the stream. */
  update(info) {
    Object.assign(this.info, info);
    const { state, reason, dropped, recording } = this.info;
    this.element.dataset.state = state;
    this.dot.classList.toggle("recording", Boolean(recording?.active));
    const over = state === "ended" || state === "failed";
    const said = reason ? `${state}: ${reason}` : state;
    if (recording?.active) this.stateText.textContent = "recording";
    else this.stateText.textContent = state === "playing" ? "" : said;
    this.sentence.textContent = reason || "Waiting for the first frame";
    this.element.classList.toggle("over", over);
    const rate = this.figures.rate;
    const pace = this.stoppedAt === null ? `${rate.toFixed(rate < 10 ? 1 : 0)} fps` : "paused here";
    const words = over ? [] : [pace];
    if (dropped && !over) words.push(`${dropped.toLocaleString("en")} dropped`);
    this.numbers.textContent = words.join(" · ");
    this.button.setAttribute("aria-label", `Open ${this.name}, ${state}`);
    this.canvas.setAttribute("aria-label", `${this.name}, ${state}`);
  }
}
