// The service worker keeps the page for when there is no network, and adds the headers that a
// browser asks for before it lets WebAssembly use several threads. A page that was loaded without
// them is loaded once more, before anything large is.

const TRIED = "visolo-isolation-tried";

/** Whether the page goes on; false if it is about to be loaded once more. */
export async function isolated() {
  if (!("serviceWorker" in navigator)) return true;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    if (crossOriginIsolated || sessionStorage.getItem(TRIED)) return true;
    await navigator.serviceWorker.ready;
    sessionStorage.setItem(TRIED, "yes");
    location.reload();
    return false;
  } catch {
    return true; // a private window without storage: one thread, and no page without a network
  }
}

/** Threads for the model: all processors but one, which draws; at most four. */
export function threadCount() {
  if (!crossOriginIsolated) return 1;
  return Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));
}

/** Whether models can be tried on the graphics processor. */
export function hasWebGpu() {
  return "gpu" in navigator && "Suspending" in WebAssembly;
}
