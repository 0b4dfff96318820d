// The outline of a mask as smooth closed lines, so that it is sharp at whatever size it is drawn.

const SMOOTHING = 2; // edges of pixels on either side that a point is the mean of

/** @param {Uint8Array} mask [h, w] of zeros and ones
 *  @returns {Float32Array[]} one closed line each, as x, y, x, y, ... in pixels of the mask */
export function contours(mask, height, width) {
  const edges = boundaryEdges(mask, height, width);
  const lines = [];
  for (const start of edges.keys()) {
    while (edges.get(start).length) lines.push(smoothed(walk(edges, start, width + 1)));
  }
  return lines;
}

/** Where a label and a trail belong: the middle and the top of the longest line, x, y and top in
 *  pixels of the mask, so that stray pixels elsewhere do not move them; null without a line. */
export function anchor(lines) {
  if (!lines.length) return null;
  const longest = lines.reduce((best, line) => (line.length > best.length ? line : best));
  const points = longest.length / 2;
  let x = 0, y = 0, top = Infinity;
  for (let at = 0; at < points; at++) {
    x += longest[2 * at] / points;
    y += longest[2 * at + 1] / points;
    top = Math.min(top, longest[2 * at + 1]);
  }
  return { x, y, top };
}

// Corner of a pixel to the corners that edges lead to, with the mask on the right-hand side.
function boundaryEdges(mask, height, width) {
  const edges = new Map();
  const add = (from, to) => {
    const ends = edges.get(from);
    if (ends) ends.push(to);
    else edges.set(from, [to]);
  };
  const corners = width + 1;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!mask[at]) continue;
      const corner = y * corners + x;
      if (y === 0 || !mask[at - width]) add(corner, corner + 1);
      if (x === width - 1 || !mask[at + 1]) add(corner + 1, corner + 1 + corners);
      if (y === height - 1 || !mask[at + width]) add(corner + 1 + corners, corner + corners);
      if (x === 0 || !mask[at - 1]) add(corner + corners, corner);
    }
  }
  return edges;
}

// The middles of the edges of one closed line, which is taken out of the edges.
function walk(edges, start, corners) {
  const points = [];
  let from = start;
  do {
    const to = edges.get(from).pop();
    points.push([
      ((from % corners) + (to % corners)) / 2,
      (Math.floor(from / corners) + Math.floor(to / corners)) / 2,
    ]);
    from = to;
  } while (from !== start);
  return points;
}

function smoothed(points) {
  const count = points.length;
  const line = new Float32Array(count * 2);
  const window = 2 * SMOOTHING + 1;
  for (let at = 0; at < count; at++) {
    for (let step = -SMOOTHING; step <= SMOOTHING; step++) {
      const [x, y] = points[(at + step + count * SMOOTHING) % count];
      line[2 * at] += x / window;
      line[2 * at + 1] += y / window;
    }
  }
  return line;
}
