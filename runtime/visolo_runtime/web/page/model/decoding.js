// From the cells of a frame to its instances: visolo_core/decoding.py in JavaScript. Numbers are
// rounded to float32 where the Python runtime has float32.

const f32 = Math.fround;

/** A cell whose mask is worth decoding.
 *  @typedef {{cell: number, score: number, classes: Float32Array, query: Float32Array,
 *    key: Float32Array}} Candidate */

export function sigmoid(logit) {
  return f32(0.5 + 0.5 * f32(Math.tanh(f32(0.5 * logit))));
}

export function argmax(values) {
  let best = 0;
  for (let at = 1; at < values.length; at++) if (values[at] > values[best]) best = at;
  return best;
}

export function innerProduct(left, right) {
  let sum = 0;
  for (let at = 0; at < left.length; at++) sum += left[at] * right[at];
  return f32(sum);
}

/** The candidates of a frame with more of them than the frame graph has places.
 *  @param outputs of the frame graph, name to array
 *  @param {Float32Array[]} recentKeys [D/2, S] each, of earlier frames
 *  @returns {Candidate[]} best first */
export function chooseFromAll(outputs, recentKeys, threshold, { classes, cells, keyWidth }) {
  const column = (values, cell) =>
    Float32Array.from({ length: values.length / cells }, (_, row) => values[row * cells + cell]);
  const keys = recentKeys.map((key) =>
    Array.from({ length: cells }, (_, cell) => column(key, cell)),
  );
  const chosen = [];
  for (let cell = 0; cell < cells; cell++) {
    const scores = column(outputs.scores.subarray(0, classes * cells), cell);
    const query = column(outputs.query.subarray(0, keyWidth * cells), cell);
    let weight = 1;
    if (keys.length) {
      const best = keys.map((each) =>
        sigmoid(each.reduce((most, key) => Math.max(most, innerProduct(query, key)), -Infinity)),
      );
      weight = f32(best.reduce((sum, each) => f32(sum + each), 0) / best.length);
    }
    const score = f32(scores[argmax(scores)] * weight);
    if (score >= f32(threshold)) {
      chosen.push({ cell, score, classes: scores, query, key: column(outputs.key, cell) });
    }
  }
  return chosen.sort((a, b) => b.score - a.score);
}

/** The candidates that are instances of the frame.
 *  @param {Candidate[]} candidates
 *  @param decoded {area, probabilitySum, intersection(i, j)} of the candidates' masks
 *  @param inference thresholds and limits, as in the bundle's manifest
 *  @returns {{index: number, score: number, label: number}[]} best first */
export function selectInstances(candidates, decoded, inference) {
  const { area, probabilitySum, intersection } = decoded;
  const descending = (a, b) => b.score - a.score; // Array.sort is stable
  let chosen = candidates
    .map(({ score, classes }, index) => ({
      index,
      label: argmax(classes),
      score: f32(score * f32(probabilitySum[index] / area[index])),
    }))
    .filter(({ index }) => area[index] > 0) // an empty mask would make every score NaN
    .sort(descending)
    .slice(0, inference.pre_nms_limit);
  const decayed = matrixNms(chosen, area, intersection, inference.nms_sigma);
  chosen = chosen
    .map((each, at) => ({ ...each, score: decayed[at] }))
    .filter(({ score }) => score >= f32(inference.update_threshold))
    .sort(descending)
    .slice(0, inference.max_instances);
  return dropCovered(chosen, area, intersection, inference.overlap_threshold);
}

// Scores decayed by better masks of the same class (SOLOv2, section 3.3).
function matrixNms(chosen, area, intersection, sigma) {
  const count = chosen.length;
  const iou = (left, right) => {
    if (chosen[left].label !== chosen[right].label) return 0;
    const common = intersection(chosen[left].index, chosen[right].index);
    return f32(common / (area[chosen[left].index] + area[chosen[right].index] - common));
  };
  const compensation = new Float32Array(count);
  for (let right = 0; right < count; right++) {
    for (let left = 0; left < right; left++) {
      compensation[right] = Math.max(compensation[right], iou(left, right));
    }
  }
  return chosen.map(({ score }, right) => {
    let decay = 1;
    for (let left = 0; left < count; left++) {
      const overlap = left < right ? iou(left, right) : 0;
      const excess = f32(f32(overlap * overlap) - f32(compensation[left] * compensation[left]));
      decay = Math.min(decay, f32(Math.exp(f32(-sigma * excess))));
    }
    return f32(score * decay);
  });
}

// A mask is dropped if a surviving better mask covers a larger share of it than the threshold.
function dropCovered(chosen, area, intersection, threshold) {
  const survivors = [];
  for (const each of chosen) {
    const most = f32(f32(threshold) * area[each.index]);
    if (!survivors.some((better) => intersection(better.index, each.index) > most)) {
      survivors.push(each);
    }
  }
  return survivors;
}
