// Which frames stay in memory: visolo_core/memory_policy.py in JavaScript. The paper's rule until
// the slots are full; from then on the kept frames are thinned, and never the last two.

export const EMPTY = -1;

/** The slot in which `frame` is stored.
 *  @param {number[]} slots the frame number in each slot, EMPTY if there is none */
export function slotToWrite(slots, frame, keepEvery) {
  const previous = frame - 1;
  const unneeded = slots.findIndex(
    (stored) => stored !== EMPTY && stored < previous && stored % keepEvery !== 0,
  );
  if (unneeded >= 0) return unneeded;
  if (slots.includes(EMPTY)) return slots.indexOf(EMPTY);
  const kept = slots.filter((stored) => stored !== previous).sort((a, b) => a - b);
  return slots.indexOf(kept.length ? frameToDrop(kept, frame) : previous);
}

// The kept frame whose removal leaves the smallest gap relative to its age.
function frameToDrop(kept, now) {
  if (kept.length === 1) return kept[0];
  let best = Infinity, drop = -1;
  for (let at = 1; at < kept.length; at++) {
    const after = at + 1 < kept.length ? kept[at + 1] : now;
    const gap = (after - kept[at - 1]) / (now - kept[at]);
    if (gap < best) [best, drop] = [gap, kept[at]];
  }
  return drop;
}
