// Names that a visitor gave to tracks. Numbers of tracks mean something only while a server runs, so
// the names of an earlier run are forgotten.

const KEY = "visolo names";

export class Names {
  #names = {};

  /** @param {string} run of the server */
  begin(run) {
    this.run = run;
    this.#names = {};
    try {
      const kept = JSON.parse(localStorage.getItem(KEY));
      if (kept.run === run) this.#names = kept.names;
    } catch {
      // nothing was kept, or this window keeps nothing
    }
  }

  get(stream, track) {
    return this.#names[`${stream} ${track}`] ?? "";
  }

  set(stream, track, name) {
    const key = `${stream} ${track}`;
    if (name) this.#names[key] = name;
    else delete this.#names[key];
    try {
      localStorage.setItem(KEY, JSON.stringify({ run: this.run, names: this.#names }));
    } catch {
      // a private window: the names last as long as the page
    }
  }
}
