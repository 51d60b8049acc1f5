// The server's events and answers. EventSource cannot send a token, so the stream is read by fetch.

import { byId } from "./format.js";

const KEY = "hstu-token";
const RETRY_MS = 3000;
const SILENT_MS = 15000; // the server sends something every two seconds
let asking = null;

function headers(more) {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}`, ...more } : { ...more };
}

function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, byId("token").value.trim());
      byId("token").value = "";
      asking = null;
      resolve();
    }, { once: true });
    byId("token-title").textContent = sessionStorage.getItem(KEY) ? "The server refuses this token" : "This server wants a token";
    dialog.showModal();
  });
  return asking;
}

// Returns what has come of a request; throws an Error with a sentence, where the browser's own would be "Failed to fetch".
async function arrived(promise, otherwise) {
  try {
    return await promise;
  } catch {
    throw new Error(otherwise);
  }
}

// Returns the JSON of an answer; throws an Error with the server's sentence.
export async function ask(path, body) {
  const options = body
    ? { method: "POST", body: JSON.stringify(body), headers: headers({ "Content-Type": "application/json" }) }
    : { headers: headers() };
  const response = await arrived(fetch(path, options), "The server does not answer. Is it running?");
  if (response.status === 401) {
    await askForToken();
    return ask(path, body);
  }
  const answer = await arrived(response.json(), `The server's answer, status ${response.status}, cannot be read.`);
  if (!response.ok) throw Object.assign(new Error(answer.detail ?? `The server answers ${response.status}.`), { status: response.status });
  return answer;
}

// Calls on[event](data) for each event, on.state(name, words) as the connection comes and goes; never ends.
export async function follow(path, on) {
  for (;;) {
    const dog = watchdog();
    let why;
    try {
      const response = await fetch(path, { headers: headers(), signal: dog.signal });
      if (response.status === 401) {
        dog.stop();
        await askForToken();
        continue;
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      why = await read(response.body.getReader(), on, dog.heard);
    } catch {
      // the connection is gone, or silent, or there is none yet
    }
    dog.stop();
    on.state("lost", why);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

// Cuts a connection on which nothing is heard for long: a server that hangs, or a network that has gone, closes none.
function watchdog() {
  const cut = new AbortController();
  let timer;
  const stop = () => clearTimeout(timer);
  const heard = () => { stop(); timer = setTimeout(() => cut.abort(), SILENT_MS); };
  heard();
  return { signal: cut.signal, heard, stop };
}

// Returns why the server has ended the stream, if it said so.
async function read(reader, on, heard) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return undefined;
    heard();
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const name = /^event: (.*)$/m.exec(event)?.[1];
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (name === "full") return `${data} pages watch already; this one tries again`;
      on.state("live");
      if (name in on) on[name](JSON.parse(data));
    }
  }
}
