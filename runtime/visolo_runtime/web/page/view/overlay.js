// The picture, and over it the masks, labels and trails of exactly this picture.

const GOLDEN_RATIO = 0.618033988749895;
const TRAIL_FRAMES = 48;
const MOST_PIXELS = 2560; // of the canvas's longer side

/** The colour of a track, the same as in videos that `visolo run` draws: red, green, blue. */
export function trackColour(trackId) {
  const hue = ((trackId * GOLDEN_RATIO) % 1) * 6;
  const channel = (shift) => {
    const place = (shift + hue) % 6;
    return Math.round(255 * (1 - 0.75 * Math.max(0, Math.min(place, 4 - place, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

const css = ([red, green, blue], alpha = 1) => `rgb(${red} ${green} ${blue} / ${alpha})`;

export class Overlay {
  show = { masks: true, outlines: true, labels: true, trails: true };
  opacity = 0.3;
  /** Whether an instance is drawn. */
  accepts = () => true;
  /** What an instance's label says. */
  words = ({ trackId, trackLabel, score }) => `${trackId} ${trackLabel} ${score.toFixed(2)}`;
  /** A track that is drawn with a second, white line. */
  selected = null;
  /** What part of the picture is seen: how many times larger, around which point of it. */
  view = { scale: 1, x: 0.5, y: 0.5 };
  #result = null;
  #trails = new Map(); // track to where it was, as shares of the picture

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Forget the video. */
  clear() {
    this.#trails.clear();
  }

  /** What is shown: null before the first picture. */
  get result() {
    return this.#result;
  }

  /** Show a picture with its instances; the picture is closed when the next one is shown.
   *  @param result the picture, the `size` that outlines refer to, and the instances
   *  @param trails track to its points; by default those of the pictures so far */
  set(result, trails = null) {
    this.#result?.picture.close();
    this.#result = result;
    if (trails) this.#trails = trails;
    else this.#continueTrails(result);
    this.draw();
  }

  #continueTrails(result) {
    const [height, width] = result.size;
    for (const [id, trail] of this.#trails) {
      trail.age += 1;
      if (trail.age > TRAIL_FRAMES) this.#trails.delete(id);
    }
    for (const { trackId, anchor } of result.instances) {
      if (!anchor) continue;
      const trail = this.#trails.get(trackId) ?? { points: [] };
      trail.points.push([anchor.x / width, anchor.y / height]);
      trail.points = trail.points.slice(-TRAIL_FRAMES);
      trail.age = 0;
      this.#trails.set(trackId, trail);
    }
  }

  /** A point of the page as a share of the picture: x, y; outside of it below 0 or above 1. */
  share(event) {
    const edges = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / edges.width;
    const [left, top, width, height] = this.#frame();
    return [
      ((event.clientX - edges.left) * scale - left) / width,
      ((event.clientY - edges.top) * scale - top) / height,
    ];
  }

  draw() {
    const { canvas, context } = this;
    const ratio = Math.min(
      devicePixelRatio,
      MOST_PIXELS / Math.max(canvas.clientWidth, canvas.clientHeight, 1),
    );
    const size = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.#result) return;
    const [left, top, width, height] = this.#frame();
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#result.picture, left, top, width, height);
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.translate(left, top);
    const unit = Math.max(1, (Math.min(width, height) / this.view.scale / 360) ** 0.8);
    // The best instance is drawn last, on top.
    const instances = this.#result.instances
      .filter((each) => this.accepts(each) && each.anchor)
      .reverse();
    for (const each of instances) this.#drawMask(each, width, height, unit);
    if (this.show.trails) for (const each of instances) this.#drawTrail(each, width, height, unit);
    if (this.show.labels) this.#drawLabels(instances.reverse(), width, height, unit);
    context.restore();
  }

  // Left, top, width and height of the picture on the canvas.
  #frame() {
    const { canvas } = this;
    if (!this.#result) return [0, 0, canvas.width, canvas.height];
    const { width, height } = this.#result.picture;
    const scale = Math.min(canvas.width / width, canvas.height / height);
    const { scale: larger, x, y } = this.view;
    const shown = [width * scale * larger, height * scale * larger];
    return [canvas.width / 2 - x * shown[0], canvas.height / 2 - y * shown[1], ...shown];
  }

  #drawMask({ outline, trackId }, width, height, unit) {
    const { context } = this;
    const [rows, columns] = this.#result.size;
    const path = new Path2D();
    for (const line of outline) addClosedLine(path, line, width / columns, height / rows);
    const colour = trackColour(trackId);
    if (this.show.masks) {
      context.fillStyle = css(colour, this.opacity);
      context.fill(path, "evenodd");
    }
    context.lineJoin = "round";
    if (trackId === this.selected) {
      context.lineWidth = 4.5 * unit;
      context.strokeStyle = "#fff";
      context.stroke(path);
    }
    if (this.show.outlines || trackId === this.selected) {
      context.lineWidth = 1.6 * unit;
      context.strokeStyle = css(colour);
      context.stroke(path);
    }
  }

  #drawTrail({ trackId }, width, height, unit) {
    const { context } = this;
    const { points } = this.#trails.get(trackId) ?? { points: [] };
    context.lineCap = "round";
    context.lineWidth = 2 * unit;
    for (let at = 1; at < points.length; at++) {
      context.strokeStyle = css(trackColour(trackId), 0.9 * (at / points.length) ** 2);
      context.beginPath();
      context.moveTo(points[at - 1][0] * width, points[at - 1][1] * height);
      context.lineTo(points[at][0] * width, points[at][1] * height);
      context.stroke();
    }
  }

  // The best instance's label is placed first; others move down until they are free.
  #drawLabels(instances, width, height, unit) {
    const { context } = this;
    const [rows, columns] = this.#result.size;
    const text = 12.5 * unit, pad = 5 * unit, tall = text + 1.1 * pad;
    const placed = [];
    // What is seen of the picture: a label stays in it.
    const [left, top] = this.#frame();
    const edges = {
      left: Math.max(0, -left), right: Math.min(width, this.canvas.width - left),
      top: Math.max(0, -top), bottom: Math.min(height, this.canvas.height - top),
    };
    const within = (place, first, last) => Math.max(first, Math.min(place, last));
    context.font = `600 ${text}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    for (const instance of instances) {
      const { trackId, anchor } = instance;
      const words = this.words(instance);
      const wide = context.measureText(words).width + 2 * pad;
      const middle = (anchor.x / columns) * width;
      const x = within(middle - wide / 2, edges.left, edges.right - wide);
      let y = within((anchor.top / rows) * height - 0.7 * tall, edges.top, edges.bottom - tall);
      const meets = ([left, top, length]) =>
        left < x + wide && x < left + length && top < y + tall && y < top + tall;
      for (let other; (other = placed.find(meets)); ) y = other[1] + tall + unit;
      placed.push([x, y, wide]);
      const colour = trackColour(trackId);
      context.fillStyle = css(colour);
      context.beginPath();
      context.roundRect(x, y, wide, tall, tall / 2);
      context.fill();
      const [red, green, blue] = colour;
      context.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#10121c" : "#fff";
      context.fillText(words, x + pad, y + tall / 2 + 0.5 * unit);
    }
  }
}

// A smooth curve through the middles between the points of a closed line.
function addClosedLine(path, line, scaleX, scaleY) {
  const count = line.length / 2;
  const x = (at) => line[2 * (at % count)] * scaleX;
  const y = (at) => line[2 * (at % count) + 1] * scaleY;
  path.moveTo((x(0) + x(1)) / 2, (y(0) + y(1)) / 2);
  for (let at = 1; at <= count; at++) {
    path.quadraticCurveTo(x(at), y(at), (x(at) + x(at + 1)) / 2, (y(at) + y(at + 1)) / 2);
  }
  path.closePath();
}
