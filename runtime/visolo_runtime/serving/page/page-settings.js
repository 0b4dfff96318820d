// What is drawn on all pictures. Kept by the browser; nobody else's view changes.

const KEY = "visolo settings";
const SHOWN = ["masks", "outlines", "labels", "trails"];

export class PageSettings {
  show = { masks: true, outlines: true, labels: true, trails: true };
  leastScore = 0.2;
  opacity = 0.35;
  hiddenClasses = new Set();

  constructor() {
    try {
      const { show, leastScore, opacity, hidden } = JSON.parse(localStorage.getItem(KEY));
      for (const name of SHOWN) this.show[name] = Boolean(show[name]);
      this.leastScore = Math.max(0, Math.min(1, Number(leastScore) || 0));
      this.opacity = Math.max(0, Math.min(1, Number(opacity) || 0));
      this.hiddenClasses = new Set(hidden.map(String));
    } catch {
      // nothing was kept, or something that is not ours
    }
  }

  keep() {
    const { show, leastScore, opacity } = this;
    const kept = { show, leastScore, opacity, hidden: [...this.hiddenClasses] };
    try {
      localStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      // a private window: the settings last as long as the page
    }
  }
}
