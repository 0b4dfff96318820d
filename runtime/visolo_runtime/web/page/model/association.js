// From instances to tracks: visolo_core/association.py in JavaScript. An instance continues the
// best matching track of the previous frame, otherwise a lost one, otherwise it begins a track.

import { argmax, innerProduct, sigmoid } from "./decoding.js";

class Track {
  constructor(id, query, scores) {
    this.id = id;
    this.query = query;
    this.scoreSum = Float64Array.from(scores);
    this.framesSeen = 1;
  }

  see(query, scores) {
    this.query = query;
    scores.forEach((score, index) => { this.scoreSum[index] += score; });
    this.framesSeen += 1;
  }

  /** Class index and score of the whole track: the best mean of its raw class scores. */
  classify() {
    const mean = this.scoreSum.map((sum) => sum / this.framesSeen);
    const label = argmax(mean);
    return { label, score: mean[label] };
  }
}

/** Assigns the instances of each frame to tracks; its state is bounded. */
export class Associator {
  #current = [];
  #lost = []; // groups of tracks, the most recently lost first
  #begun = 0;

  /** @param inference of the manifest */
  constructor(inference) {
    this.matchThreshold = Math.fround(inference.match_threshold);
    const returnThreshold = Math.fround(inference.return_threshold ?? 0);
    this.returnThreshold = Math.max(this.matchThreshold, returnThreshold);
    this.lostLimit = inference.lost_limit;
    this.trackScorePower = inference.track_score_power ?? 0;
  }

  get tracksBegun() {
    return this.#begun;
  }

  /** @param instances [{query, key, classes}], best first
   *  @returns {Track[]} in the order of the instances */
  step(instances) {
    const claimed = new Map(); // instance to track
    const newlyLost = this.#claim(this.#current, instances, claimed, this.matchThreshold);
    for (let at = 0; at < this.#lost.length && claimed.size < instances.length; at++) {
      this.#lost[at] = this.#claim(this.#lost[at], instances, claimed, this.returnThreshold);
    }
    this.#current = instances.map(({ query, classes }, index) => {
      const track = claimed.get(index);
      if (!track) return new Track(++this.#begun, query, classes);
      track.see(query, classes);
      return track;
    });
    this.#keepLost(newlyLost);
    return this.#current;
  }

  // Assign tracks to unmatched instances, in score order; returns the tracks that are left over.
  #claim(tracks, instances, claimed, threshold) {
    const free = [...tracks];
    instances.forEach(({ key }, index) => {
      if (claimed.has(index) || !free.length) return;
      const match = free.map(({ query }) => sigmoid(innerProduct(query, key)));
      const best = argmax(match.map((value, at) => this.#preference(value, free[at], threshold)));
      if (match[best] >= threshold) claimed.set(index, free.splice(best, 1)[0]);
    });
    return free;
  }

  // How much an instance prefers a track, by its match value and the track's score.
  #preference(match, track, threshold) {
    if (!this.trackScorePower) return match;
    if (match < threshold) return -1;
    return match * Math.fround(track.classify().score) ** this.trackScorePower;
  }

  #keepLost(newlyLost) {
    this.#lost = [newlyLost, ...this.#lost].filter((group) => group.length);
    let excess = this.#lost.reduce((sum, group) => sum + group.length, 0) - this.lostLimit;
    while (excess > 0) {
      const oldest = this.#lost.pop();
      if (oldest.length > excess) this.#lost.push(oldest.slice(0, oldest.length - excess));
      excess -= oldest.length;
    }
  }
}
