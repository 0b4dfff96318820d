// Keeps the page's own files, so that it opens without a network, and adds the headers under which
// browsers let WebAssembly use several threads. files.js names the state of the page; a new state
// replaces the kept files.

importScripts("files.js");
const OURS = `visolo ${self.registration.scope} `;
const KEPT = OURS + self.FILES.version;
const HEADERS = {
  // As in index.html: workers have the policy of their own file.
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; " +
    "style-src 'self'; img-src 'self'; media-src 'self' blob:; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
  const requests = ["./", ...self.FILES.small].map((name) => new Request(name, { cache: "reload" }));
  event.waitUntil(
    caches.open(KEPT).then((kept) => kept.addAll(requests)).then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) {
        if (name.startsWith(OURS) && name !== KEPT) await caches.delete(name);
      }
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  if (request.method !== "GET" || address.origin !== self.location.origin) return;
  const name = address.href.slice(self.registration.scope.length);
  if (isOurs(name)) event.respondWith(answer(request));
});

// Small files are kept at once, models and the runtime as soon as they were asked for.
function isOurs(name) {
  return name === "" || self.FILES.small.includes(name) || self.FILES.large.includes(name);
}

async function answer(request) {
  const kept = await caches.open(KEPT);
  let response = await kept.match(request, { ignoreSearch: true, ignoreVary: true });
  if (!response) {
    // The browser's own cache may still have the file of an earlier state.
    response = await fetch(request.url, { cache: "no-cache" });
    if (response.ok) await kept.put(request, response.clone()).catch(() => {}); // the disk is full
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, headers });
}
