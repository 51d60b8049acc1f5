// How good the scorers are: over time, by age of the item, and the trainers' difference.

import { dots, interval, lines } from "./charts.js";
import { brief, byId, count, el, rate, render, signed, svg, when } from "./format.js";

const AGES = { all: "all", old: "7 d and older", "<7d": "under 7 d", "<1d": "under 1 d", "<1h": "under 1 h", unseen: "never seen" };
const METRICS = { 1: "HR@10", 2: "NDCG@10" };
const WORDS = { stack: "counts alone", popularity: "popularity", last_items: "last items" };
const COUNTERS = { stack: "var(--stack)", popularity: "var(--plain)", last_items: "var(--other)" };
const DASHES = ["5 3", "2 3", "7 2 2 2"];

// The trainer that has tested the most targets.
export function leader(state) {
  const tested = (name) => state.trainers[name].at(-1)?.targets ?? -1;
  return Object.keys(state.trainers).reduce((best, name) => (best == null || tested(name) > tested(best) ? name : best), null);
}

// How many targets the trainers have tested, each number once.
export const lastPlaces = (state) => new Set(Object.values(state.trainers).map((points) => points.at(-1)?.targets ?? 0));

// Every line that can be drawn: the models, their encoders, and what only counts. On the same targets the latter is the
// same for all trainers, so it is drawn once, of the leader.
export function scorers(state) {
  const names = Object.keys(state.trainers), first = leader(state);
  const newest = state.trainers[first]?.at(-1)?.window ?? {};
  const models = names.map((trainer, at) => ({ id: trainer, trainer, scorer: "hstu", label: trainer, color: `var(--c${at % 4})`, width: 2.2, band: true }));
  const encoders = names.map((trainer, at) => ({
    id: `${trainer} encoder`, trainer, scorer: "encoder", label: `${trainer}, encoder alone`, color: `var(--c${at % 4})`, width: 1, dash: "3 2",
  }));
  const counters = Object.keys(newest).filter((scorer) => scorer !== "hstu" && scorer !== "encoder").map((scorer, at) => ({
    id: scorer, trainer: first, scorer, label: WORDS[scorer] ?? scorer.replaceAll("_", " "), color: COUNTERS[scorer] ?? "var(--plain)",
    width: scorer === "stack" ? 1.8 : 1.1, dash: scorer === "stack" ? null : DASHES[at % DASHES.length], band: scorer === "stack",
  }));
  return [...models, ...counters, ...encoders];
}

export function valueOf(point, scorer, age, metric) {
  const own = point?.window[scorer]?.[age];
  if (!own?.[0] || own[metric] == null) return { y: null, n: own?.[0] ?? 0 };
  const [lo, hi] = interval(own[metric], own[0], metric === 1);
  return { y: own[metric], lo, hi, n: own[0] };
}

// What counts best in the last window of a trainer, by default of the leader.
export function bestCounter(state, trainer = leader(state)) {
  const point = state.trainers[trainer]?.at(-1);
  const counters = scorers(state).filter((one) => !["hstu", "encoder"].includes(one.scorer));
  const found = counters.map((one) => ({ ...one, ...valueOf(point, one.scorer, "all", 1) })).filter((one) => one.y != null);
  return found.sort((a, b) => b.y - a.y)[0];
}

export function setUpQuality(state, redraw) {
  byId("age").append(...Object.entries(AGES).map(([value, label]) => el("option", { value }, label)));
  byId("metric").addEventListener("change", (event) => { state.metric = Number(event.target.value); redraw(); });
  byId("age").addEventListener("change", (event) => { state.age = event.target.value; redraw(); });
  byId("cursor").addEventListener("input", (event) => { state.cursor = cursorAt(stopsOf(state), Number(event.target.value)); redraw(); });
  state.redraw = redraw;
}

// Where the cursor can be: the targets at which a window of any trainer ends, ascending.
function stopsOf(state) {
  const ends = new Set(Object.values(state.trainers).flatMap((points) => points.map((point) => point.targets)));
  return [...ends].sort((a, b) => a - b);
}

// The cursor at a stop; null at the last, so that it stays with the last windows as more are added.
const cursorAt = (stops, place) => (place >= stops.length - 1 ? null : stops[place]);

function nearest(stops, x) {
  return stops.reduce((best, stop, at) => (Math.abs(stop - x) < Math.abs(stops[best] - x) ? at : best), 0);
}

// A trainer's point at the cursor: its last where there is none, undefined where it has no window yet.
function pointAt(points, cursor) {
  if (cursor == null) return points.at(-1);
  if (!points.length || cursor < points[0].targets || cursor > points.at(-1).targets) return undefined;
  return points[nearest(points.map((point) => point.targets), cursor)];
}

function cursorText(state, cursor) {
  const first = leader(state);
  const found = Object.entries(state.trainers).map(([name, points]) => [name, pointAt(points, cursor)]).filter(([, point]) => point);
  if (!found.length) return "";
  const [, point] = found[0];
  if (found.every(([, one]) => one.targets === point.targets)) return `Window up to target ${count(point.targets)}, event time ${when(point.event_ms)}`;
  return `Windows up to target ${found.map(([name, one]) => `${count(one.targets)} of ${name}`).join(" and ")}; the counts are those of ${first}`;
}

const SIGNALS = { loss: "loss", misses: "misses", concentration: "few items in fashion", items: "mix of items", actions: "mix of actions", gaps: "gaps before requests" };

// Alarms of the drift detectors, oldest first; several trainers of one log have most of them in common.
function alarms(state) {
  const found = Object.entries(state.trainers).flatMap(([trainer, points]) => points.flatMap((point) => point.drift.map((one) => ({ trainer, ...one }))));
  return found.sort((a, b) => a.targets - b.targets);
}

const alarmText = (one) => `${SIGNALS[one.signal] ?? one.signal} of ${one.trainer} at target ${count(one.targets)}, ${when(one.event_ms)}`;

function recovering(state) {
  const names = Object.keys(state.trainers).filter((trainer) => state.trainers[trainer].at(-1)?.recovering);
  return names.length ? ` ${names.join(", ")} ${names.length > 1 ? "have" : "has"} not recovered yet.` : "";
}

export function drawQuality(state) {
  const stops = stopsOf(state), place = state.cursor == null ? stops.length - 1 : nearest(stops, state.cursor);
  const at = cursorAt(stops, place), here = pointAt(state.trainers[leader(state)] ?? [], at);
  const shown = scorers(state).filter((one) => !state.hidden.has(one.id));
  const series = shown.map((one) => ({
    ...one, points: state.trainers[one.trainer].map((point) => ({ x: point.targets, ...valueOf(point, one.scorer, state.age, state.metric) })),
  }));
  const what = `${METRICS[state.metric]}, ${state.age === "all" ? "items of all ages" : `items ${AGES[state.age]}`}`;
  const tested = here?.test_share < 1 ? `; ${(100 * here.test_share).toPrecision(3)}% of the targets are tested` : "";
  byId("curve-caption").textContent = what + tested;
  lines(byId("curve"), {
    series, height: 290, marks: alarms(state).map((one) => ({ x: one.targets, text: `Drift: ${alarmText(one)}` })), cursor: stops[place], xTitle: "targets tested", label: `${what}; the values are in the legend`,
    onMove: (x) => { state.cursor = cursorAt(stops, nearest(stops, x)); state.redraw(); },
  });
  const last = alarms(state).slice(-3).reverse();
  byId("drift").textContent = last.length ? `Drift alarms (red marks), ${count(alarms(state).length)} in all; the last: ${last.map(alarmText).join("; ")}.${recovering(state)}` : "";
  const cursor = byId("cursor");
  cursor.max = Math.max(0, stops.length - 1);
  cursor.value = place;
  cursor.setAttribute("aria-valuetext", stops.length ? `${count(stops[place])} targets` : "none yet");
  byId("cursor-text").textContent = cursorText(state, at);
  const data = scorers(state).map((one) => {
    const point = pointAt(state.trainers[one.trainer], at);
    return { ...one, ...valueOf(point, one.scorer, state.age, state.metric), on: !state.hidden.has(one.id) };
  });
  render(byId("legend"), data, (rows) => rows.map((row) => legendRow(row, state)));
}

function legendRow(row, state) {
  const half = row.y == null ? "" : ` ± ${rate((row.hi - row.lo) / 2)}`;
  const line = svg("line", { x1: 0, x2: 22, y1: 5, y2: 5, stroke: row.color, "stroke-width": row.width + 0.6, "stroke-dasharray": row.dash });
  const toggle = () => {
    if (!state.hidden.delete(row.id)) state.hidden.add(row.id);
    state.redraw();
  };
  const swatch = svg("svg", { viewBox: "0 0 22 10", height: 10, "aria-hidden": "true" }, line);
  return el("li", {}, el("button", { type: "button", "aria-pressed": String(row.on), "data-key": row.id, onclick: toggle },
    swatch, el("span", {}, row.label), el("span", {}, el("b", {}, rate(row.y)), el("small", {}, half))));
}

export function drawAges(state) {
  const first = leader(state), lines = scorers(state).filter((one) => one.scorer === "hstu" || one.scorer === "stack");
  const rows = Object.keys(AGES).map((age) => {
    const found = lines.map((one) => ({ ...one, ...valueOf(state.trainers[one.trainer].at(-1), one.scorer, age, state.metric) }));
    return { label: age === "unseen" ? "unseen" : age === "old" ? "≥7d" : age, note: brief(found.find((one) => one.trainer === first)?.n ?? 0), dots: found };
  });
  byId("ages-caption").textContent = `${METRICS[state.metric]} of each trainer's last window: ${lines.map((one) => one.label).join(", ")}`;
  const spoken = rows.map((row) => `${row.label}: ${row.dots.map((dot) => `${dot.label} ${rate(dot.y)}`).join(", ")}`);
  dots(byId("ages"), { rows, xTitle: METRICS[state.metric], label: spoken.join("; "), none: "No window is full yet." });
}

export function drawGap(state) {
  const [a, b] = Object.keys(state.trainers);
  if (!b) {
    byId("gap-caption").textContent = "";
    byId("gap").replaceChildren(el("p", { class: "empty" }, a
      ? "There is one trainer. Start a second, such as hstu train --attention softmax, to see them side by side."
      : "No trainer has tested a target yet."));
    return;
  }
  const others = new Map(state.trainers[b].map((point) => [point.step, point]));
  const points = state.trainers[a].filter((point) => others.has(point.step)).map((point) => {
    const [one, two] = [point, others.get(point.step)].map((each) => valueOf(each, "hstu", state.age, state.metric));
    if (one.y == null || two.y == null) return { x: point.targets, y: null };
    const half = Math.hypot((one.hi - one.lo) / 2, (two.hi - two.lo) / 2);
    return { x: point.targets, y: one.y - two.y, lo: one.y - two.y - half, hi: one.y - two.y + half };
  });
  const last = points.at(-1);
  const text = `${a} less ${b}, ${METRICS[state.metric]}${last?.y == null ? "" : `; of late ${signed(last.y, 3)} ± ${rate((last.hi - last.lo) / 2)}`}`;
  byId("gap-caption").textContent = `${text}. The band takes the two for independent; they answer the same targets, so it is too wide.`;
  lines(byId("gap"), { series: [{ color: "var(--c0)", width: 1.8, band: true, points }], height: 170, xTitle: "targets tested", label: text, none: "No common window yet." });
}
