// The page: what the stream brings is kept here and drawn by the other modules.

import { drawAges, drawGap, drawQuality, leader, setUpQuality } from "./quality.js";
import { drawStream, drawTiles, noteRates } from "./stream.js";
import { drawSnapshots } from "./snapshots.js";
import { askAgain, setUpAsking } from "./ask.js";
import { bars, lines } from "./charts.js";
import { follow } from "./feed.js";
import { byId, count } from "./format.js";

const state = { trainers: {}, now: null, rates: [], metric: 1, age: "all", cursor: null, hidden: new Set() };

function drawItems() {
  const name = leader(state), points = state.trainers[name] ?? [];
  const grown = points.map((point, at) => ({
    x: point.targets,
    up: point.born - (at ? points[at - 1].born : 0),
    down: point.died - (at ? points[at - 1].died : 0),
  }));
  const last = points.at(-1);
  const known = last ? `${count(last.items)} items known, ${count(last.born)} born, ${count(last.died)} dead` : "";
  byId("items-caption").textContent = last ? `Per window, by ${name}: ${known}` : "";
  bars(byId("items"), { points: grown, xTitle: "targets tested", label: known, none: "No window is full yet." });
  const series = Object.values(state.trainers).map((own, at) => ({
    color: `var(--c${at % 4})`, points: own.filter((point) => point.loss != null).map((p) => ({ x: p.targets, y: p.loss })),
  }));
  byId("loss-caption").textContent = "Of the last micro-batch of each window, by trainer";
  lines(byId("loss"), { series, height: 110, fromZero: false, xTitle: "targets tested", label: "Training loss", none: "No loss yet." });
}

function drawCharts() {
  drawQuality(state);
  drawAges(state);
  drawGap(state);
  drawItems();
}

let due = false;
function redrawSoon() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    drawCharts();
    drawTiles(state);
  });
}

// Forgets trainers whose folder is gone.
function keepOnly(names) {
  const kept = Object.entries(state.trainers).filter(([name]) => names.includes(name));
  if (kept.length === Object.keys(state.trainers).length) return;
  state.trainers = Object.fromEntries(kept);
  redrawSoon();
}

const on = {
  points({ trainer, from, points }) {
    state.trainers[trainer] = (state.trainers[trainer] ?? []).slice(0, from).concat(points);
    state.trainers = Object.fromEntries(Object.entries(state.trainers).sort(([a], [b]) => (a < b ? -1 : 1)));
    redrawSoon();
  },
  now(now) {
    const first = now.serving && !state.now?.serving;
    state.now = now;
    if (first) askAgain();
    keepOnly(now.trainers);
    noteRates(state);
    drawTiles(state);
    drawStream(state);
    drawSnapshots(state);
  },
  state(name, words) {
    const node = byId("state");
    const text = words ?? { live: "live, every 2 s", lost: "no connection; trying again" }[name];
    node.className = `state ${name}`;
    if (node.textContent !== text) node.textContent = text;
  },
};

setUpQuality(state, redrawSoon);
setUpAsking();
new ResizeObserver(redrawSoon).observe(document.querySelector("main"));
drawCharts();
follow("dashboard/stream", on);
