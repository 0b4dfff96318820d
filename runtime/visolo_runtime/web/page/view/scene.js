// A drawn scene that visitors can drag around: textured shapes like those that the model `shapes`
// was trained on, drifting over a soft background.

const WIDTH = 960, HEIGHT = 540;
const LONGEST_STEP_S = 0.1; // on a slow machine the shapes move less, and never jump

const TURN = 2 * Math.PI;
const polygon = (corners, radius, inner = radius) => {
  const path = new Path2D();
  const points = inner === radius ? corners : 2 * corners;
  for (let at = 0; at < points; at++) {
    const reach = at % 2 && inner !== radius ? inner : radius;
    const angle = (at / points) * TURN - TURN / 4;
    path.lineTo(reach * Math.cos(angle), reach * Math.sin(angle));
  }
  path.closePath();
  return path;
};
const OUTLINES = {
  disc(radius) {
    const path = new Path2D();
    path.arc(0, 0, radius, 0, TURN);
    return path;
  },
  square(radius) {
    const path = new Path2D();
    path.rect(-0.75 * radius, -0.75 * radius, 1.5 * radius, 1.5 * radius);
    return path;
  },
  triangle: (radius) => polygon(3, radius),
  star: (radius) => polygon(5, radius, 0.46 * radius),
  cross(radius) {
    const path = new Path2D();
    const long = 0.95 * radius, short = 0.31 * radius;
    path.rect(-short, -long, 2 * short, 2 * long);
    path.rect(-long, -short, 2 * long, 2 * short);
    return path;
  },
  ring(radius) {
    const path = OUTLINES.disc(radius);
    path.arc(0, 0, 0.6 * radius, 0, TURN, true);
    return path;
  },
};

// name, x, y, radius, velocity x and y in pixels a second, spin, colours, texture
const SHAPES = [
  ["star", 190, 165, 84, 26, 14, 0.2, "#ffd23f", "#e07a1f", "checks"],
  ["disc", 520, 130, 72, 22, -16, 0.1, "#f25f4c", "#fff1e0", "stripes"],
  ["ring", 790, 300, 80, -18, 24, 0.15, "#3ddc97", "#0b6b50", "checks"],
  ["square", 460, 400, 84, 28, 12, -0.15, "#4d7cff", "#cfe3ff", "checks"],
  ["cross", 150, 410, 78, 20, -18, 0.2, "#ff7ac6", "#8a1c6b", "plain"],
];

export class Scene {
  size = [HEIGHT, WIDTH];
  #shapes;
  #context;
  #held = null;
  #chosen = 0; // by the keyboard
  #before = 0;

  constructor() {
    this.canvas = new OffscreenCanvas(WIDTH, HEIGHT);
    this.#context = this.canvas.getContext("2d");
    this.background = drawBackground();
    this.#shapes = SHAPES.map(
      ([name, x, y, radius, dx, dy, spin, first, second, texture]) => ({
        x, y, radius, dx, dy, spin, angle: 0,
        path: OUTLINES[name](radius),
        fill: this.#context.createPattern(drawTexture(texture, first, second), "repeat"),
      }),
    );
  }

  /** Move on to a time in milliseconds and draw. */
  draw(now) {
    const step = Math.min((now - this.#before) / 1000, LONGEST_STEP_S);
    this.#before = now;
    const context = this.#context;
    context.drawImage(this.background, 0, 0);
    for (const shape of this.#shapes) {
      if (shape !== this.#held) drift(shape, step);
      context.save();
      context.translate(shape.x, shape.y);
      context.rotate(shape.angle);
      context.fillStyle = shape.fill;
      context.fill(shape.path);
      context.restore();
    }
  }

  /** Take hold of the shape at a point; whether there is one. */
  hold(x, y) {
    const context = this.#context;
    const at = this.#shapes.findLastIndex((shape) => {
      context.setTransform(1, 0, 0, 1, shape.x, shape.y);
      context.rotate(shape.angle);
      const hit = context.isPointInPath(shape.path, x, y);
      context.resetTransform();
      return hit;
    });
    if (at < 0) return false;
    this.#held = this.#shapes.splice(at, 1)[0];
    this.#shapes.push(this.#held); // in front of the others
    this.#held.grip = [this.#held.x - x, this.#held.y - y];
    return true;
  }

  drag(x, y) {
    if (!this.#held) return;
    this.#held.x = x + this.#held.grip[0];
    this.#held.y = y + this.#held.grip[1];
  }

  release() {
    this.#held = null;
  }

  /** Choose the next shape for `nudge`. */
  next() {
    this.#chosen = (this.#chosen + 1) % this.#shapes.length;
  }

  nudge(x, y) {
    const shape = this.#shapes[this.#chosen];
    shape.x += x;
    shape.y += y;
  }
}

function drift(shape, step) {
  shape.x += shape.dx * step;
  shape.y += shape.dy * step;
  shape.angle += shape.spin * step;
  const margin = 0.5 * shape.radius;
  if (shape.x < margin) shape.dx = Math.abs(shape.dx);
  if (shape.x > WIDTH - margin) shape.dx = -Math.abs(shape.dx);
  if (shape.y < margin) shape.dy = Math.abs(shape.dy);
  if (shape.y > HEIGHT - margin) shape.dy = -Math.abs(shape.dy);
}

function drawTexture(kind, first, second) {
  const side = 44;
  const tile = new OffscreenCanvas(side, side);
  const context = tile.getContext("2d");
  context.fillStyle = first;
  context.fillRect(0, 0, side, side);
  context.fillStyle = second;
  if (kind === "stripes") context.fillRect(0, 0, side / 2, side);
  if (kind === "checks") {
    context.fillRect(0, 0, side / 2, side / 2);
    context.fillRect(side / 2, side / 2, side / 2, side / 2);
  }
  if (kind === "dots") {
    context.arc(side / 2, side / 2, 0.32 * side, 0, TURN);
    context.fill();
  }
  return tile;
}

// Soft clouds: a few random colours, blended into each other.
function drawBackground() {
  const columns = 12, rows = 7;
  const coarse = new OffscreenCanvas(columns, rows);
  const paint = coarse.getContext("2d");
  let seed = 7;
  const random = () => {
    seed = (seed * 16807) % 2147483647;
    return seed / 2147483647;
  };
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const grey = 48 + 44 * random();
      const [red, green] = [grey * (0.72 + 0.2 * random()), grey * (0.85 + 0.2 * random())];
      paint.fillStyle = `rgb(${red} ${green} ${grey * 1.15})`;
      paint.fillRect(x, y, 1, 1);
    }
  }
  const background = new OffscreenCanvas(WIDTH, HEIGHT);
  const context = background.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(coarse, 0, 0, WIDTH, HEIGHT);
  return background;
}
