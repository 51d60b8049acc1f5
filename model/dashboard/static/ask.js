// The box that asks for a user: history, answer, and why each item is in it.

import { ask } from "./feed.js";
import { byId, count, el, rate, signed, span, stamp, svg, when } from "./format.js";

const K = 10;
const SHOWN_EVENTS = 6;
const PARTS = {
  encoder: "encoder", hours: "popular, an hour", quarter_days: "popular, 6 hours", days: "popular, a day", weeks: "popular, a week",
  months: "popular, a month", ever: "popular, ever", together: "goes with the history", following: "follows the last item",
  own: "the user's own", own_following: "follows, for this user", popularity: "popularity",
};

export function setUpAsking() {
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    answer(byId("user").value.trim());
  });
  const user = new URLSearchParams(location.search).get("user");
  if (!user) return;
  byId("user").value = user;
  answer(user);
}

let turn = 0; // of the last question; answers to those before it come too late
let unanswered = null; // the user who was asked for before there was a snapshot

// Asks for the user of a page that was opened before the first snapshot.
export function askAgain() {
  if (unanswered != null) answer(unanswered);
}

async function answer(user) {
  const own = ++turn;
  const note = byId("ask-note"), box = byId("answer");
  const seen = byId("seen").checked, diversity = byId("diversity").value || 0;
  const query = new URLSearchParams({ user, k: K, include_seen: seen, diversity });
  unanswered = null;
  note.textContent = `Asking for ${user} …`;
  try {
    const [top, history] = await Promise.all([ask(`topk?${query}`), ask(`history?${new URLSearchParams({ user, last: 50 })}`)]);
    const ids = top.items.map((item) => item.item_id);
    const why = ids.length ? await ask("explain", { user, items: ids, include_seen: seen, newest: 50, now_ms: top.now_ms }) : { items: [], events: [] };
    if (own !== turn) return;
    note.textContent = sentence(top);
    box.replaceChildren(historyList(history), answerList(top, why));
  } catch (error) {
    if (own !== turn) return;
    if (error.status === 503) unanswered = user;
    note.textContent = error.message;
    box.replaceChildren();
  }
}

function sentence(top) {
  const by = top.source === "model" ? `the model read ${count(top.tokens)} tokens` : `by popularity: ${top.reason}`;
  const few = top.missing ? ` Fewer than ${K}: ${top.missing}.` : "";
  return `User ${top.user}, asked at ${when(top.now_ms)}; ${by}.${few} Snapshot ${top.snapshot.id}, ${span(top.snapshot.age_s)} old.`;
}

const named = (one) => one.title ?? one.item_id ?? one.id;

function what(event) {
  if (event.kind === "impression") return "shown";
  return event.kind === "action" ? event.action ?? "acted" : "attribute";
}

function historyList(history) {
  const rows = history.events.map((event) => el("li", { class: "row event" },
    el("time", { datetime: new Date(event.ts_ms).toISOString() }, stamp(event.ts_ms)), el("span", {}, named(event)), el("span", { class: "tag" }, what(event))));
  const list = rows.length ? el("ol", { tabindex: 0, "aria-label": "Events, newest first" }, ...rows) : el("p", { class: "empty" }, "No event of this user is stored.");
  return el("div", {}, el("h3", {}, "History, newest first (UTC)"), list);
}

function answerList(top, why) {
  const explained = new Map(why.items.map((item) => [item.item_id, item]));
  const rows = top.items.map((item, place) => {
    const reason = explained.get(item.item_id);
    return el("li", {}, el("details", { open: place === 0 },
      el("summary", { class: "row" }, el("span", { class: "num" }, String(place + 1)), el("span", {}, named(item)),
        el("span", { class: "num" }, rate(item.score, 2), " ", el("span", { class: "mark", "aria-hidden": "true" }))),
      reason ? whyOf(reason, why.events) : el("p", { class: "note" }, "There is no explanation.")));
  });
  return el("div", {}, el("h3", {}, `Top ${rows.length}, with the score; open one to see why`), el("ol", {}, ...rows));
}

function part(label, value, most) {
  const length = (40 * Math.abs(value)) / most;
  const bar = svg("svg", { viewBox: "0 0 90 10", "aria-hidden": "true" },
    svg("line", { x1: 45, x2: 45, y1: 0, y2: 10, stroke: "var(--edge)" }),
    svg("rect", { x: value < 0 ? 45 - length : 45, width: length, y: 1.5, height: 7, fill: value < 0 ? "var(--bad)" : "var(--good)" }));
  return el("div", { class: "part" }, el("span", {}, label), bar, el("span", { class: "num" }, signed(value)));
}

function bars(title, rows, none) {
  const most = Math.max(1e-9, ...rows.map(([, value]) => Math.abs(value)));
  return el("div", {}, el("h3", {}, title), ...(rows.length ? rows.map(([label, value]) => part(label, value, most)) : [el("p", { class: "note" }, none)]));
}

function whyOf(item, events) {
  const byLength = ([, a], [, b]) => Math.abs(b) - Math.abs(a);
  const parts = [["encoder", item.encoder], ...Object.entries(item.counts)].filter(([, value]) => Math.abs(value) >= 0.005).sort(byLength);
  const moved = events.map((event, at) => [`${named(event)} (${what(event)})`, item.changes[at]]).filter(([, value]) => Math.abs(value) >= 0.005).sort(byLength);
  return el("div", { class: "why" },
    bars(`The score ${rate(item.score, 2)} is the sum of`, parts.map(([name, value]) => [PARTS[name] ?? name.replaceAll("_", " "), value]), "nothing"),
    bars("Without this event the score would lose", moved.slice(0, SHOWN_EVENTS), "No event moves it."));
}
