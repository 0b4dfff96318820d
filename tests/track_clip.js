// What a test runs on the page: frames of the server go to the page's own worker one by one, and
// what comes back goes to the server, the masks as bytes. Settles with milliseconds a frame.
async (address, folder, frames, height, width, backend, confidence = null) => {
  const worker = new Worker(address, { type: "module" });
  let settle;
  worker.onmessage = ({ data }) => { if (data.kind !== "progress") settle(data); };
  worker.onerror = (event) => settle({ kind: "failed", message: event.message });
  const answer = async (message, owned = []) => {
    const settled = new Promise((resolve) => { settle = resolve; });
    worker.postMessage(message, owned);
    const data = await settled;
    if (data.kind === "failed") throw new Error(data.message);
    return data;
  };
  await answer({ kind: "open", folder, backend, threads: 1 });
  if (confidence !== null) worker.postMessage({ kind: "confidence", value: confidence });
  const spent = [];
  for (let number = 0; number < frames; number++) {
    const bytes = await (await fetch(`clip/${number}`)).arrayBuffer();
    const picture = new ImageData(new Uint8ClampedArray(bytes), width, height);
    const begin = performance.now();
    const { instances } = await answer({ kind: "frame", picture });
    spent.push(performance.now() - begin);
    const about = instances.map(({ mask, outline, anchor, ...rest }) => rest);
    const header = new TextEncoder().encode(`${JSON.stringify(about)}\n`);
    const body = new Blob([header, ...instances.map(({ mask }) => mask)]);
    await fetch(`result/${number}`, { method: "POST", body });
  }
  worker.terminate();
  return spent;
}
