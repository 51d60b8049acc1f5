// The figures of now: tiles, rates over the last minutes, processes, dead letters.

import { lines } from "./charts.js";
import { NONE, brief, byId, count, el, rate, render, span, stampWithSeconds, table, when } from "./format.js";
import { bestCounter, lastPlaces, leader, scorers, valueOf } from "./quality.js";

const KEPT = 300; // looks, of two seconds each

const sum = (values) => values.reduce((total, value) => (value == null ? total : (total ?? 0) + value), null);
const most = (values) => values.reduce((high, value) => (value == null ? high : Math.max(high ?? value, value)), null);
const notLearned = ({ lag, waiting }) => (lag == null || waiting == null ? null : lag + waiting); // not yet read, and read
const kindOf = (state, kind) => (state.now?.processes ?? []).filter((process) => process.kind === kind);

function totals(state) {
  const workers = kindOf(state, "worker"), trainers = kindOf(state, "trainer");
  return {
    events: sum(workers.map((one) => one.events)),
    rate: sum(workers.map((one) => one.events_per_s)),
    lag: sum(workers.map((one) => one.lag)),
    delay: most(workers.map((one) => one.watermark_delay_s)),
    tokens: sum(trainers.map((one) => one.tokens_per_s)),
    learnerLag: most(trainers.map(notLearned)),
    letters: workers.length ? sum(workers.flatMap((one) => Object.values(one.dead_letters))) ?? 0 : null,
  };
}

export function noteRates(state) {
  state.rates.push({ at: Date.now() / 1000, ...totals(state) });
  state.rates = state.rates.slice(-KEPT);
}

function tile(title, value, note, hue, unit) {
  return el("dl", { class: "tile", style: hue ? { "--hue": hue } : {} },
    el("dt", {}, title), el("dd", {}, value, unit ? el("small", {}, ` ${unit}`) : ""), el("dd", {}, note ?? ""));
}

// The median of the times of late; counts are read every two seconds.
function late(delay) {
  if (!delay) return NONE;
  const { s, least } = delay.p50;
  return least ? `over ${span(s)}` : s < 2 ? "under 2 s" : span(s);
}

function against(gain) {
  const size = Math.abs(gain).toFixed(3);
  if (!Number(size)) return "level with the best counter";
  return `${size} ${gain > 0 ? "above" : "below"} the best counter`;
}

// Which trainer's last window a counter's figure is of, where trainers have tested different numbers of targets.
const ofWhom = (state) => (lastPlaces(state).size > 1 ? `, in the window of ${leader(state)}` : "");

export function drawTiles(state) {
  const best = bestCounter(state);
  const models = scorers(state).filter((one) => one.scorer === "hstu").map((one) => {
    const value = valueOf(state.trainers[one.trainer].at(-1), "hstu", "all", 1);
    const rival = bestCounter(state, one.trainer); // in the same window
    const gain = rival && value.y != null ? against(value.y - rival.y) : "";
    return [`HR@10, ${one.label}`, rate(value.y), gain, one.color, value.y == null ? "" : `± ${rate((value.hi - value.lo) / 2)}`];
  });
  const now = state.now, sums = totals(state), watched = (now?.processes ?? []).length;
  const unwatched = watched ? "no worker answers" : "serve.watch names no worker";
  const serving = now?.serving;
  const fresh = [
    "Snapshot made", serving ? span(serving.snapshot.age_s) : "–",
    serving ? (serving.behind_s == null ? "its log is replayed, or has ended" : `${span(serving.behind_s)} of event time behind`) : "none answers yet", null, serving ? "ago" : "",
  ];
  const delays = now?.delays ?? {};
  const missing = now?.unknown;
  const fromEvent = [
    "Event to answer", late(delays.taken),
    delays.learnt || (delays.taken && !missing) ? `label final to learned: ${late(delays.learnt)}, to served: ${late(delays.served)}` : missing ?? (sums.events == null ? unwatched : "too few have come of late"),
  ];
  const rows = [
    ...models,
    ["Best counter", best ? rate(best.y) : "–", best ? `${best.label}${ofWhom(state)}` : "nothing is tested yet", best?.color, best ? `± ${rate((best.hi - best.lo) / 2)}` : ""],
    fresh,
    fromEvent,
    ["Events", sums.rate == null ? "–" : brief(sums.rate), missing ?? (sums.events == null ? unwatched : `${count(sums.events)} taken`), null, "/s"],
    ["Lag", brief(sums.lag), missing ?? (sums.learnerLag == null ? "" : `${count(sums.learnerLag)} examples not yet learned`), null, "messages"],
    ["Watermark behind", span(sums.delay), "event time of the slowest partition"],
    ["Dead letters", count(sums.letters), sums.letters ? "see reasons below" : "", sums.letters ? "var(--bad)" : null],
  ];
  render(byId("figures"), rows, (all) => all.map((row) => tile(...row)));
  drawServing(now);
}

function drawServing(now) {
  if (!now) return;
  const serving = now.serving?.snapshot;
  const data = { id: serving?.id, name: serving?.name, follows: now.follows, watermark: serving?.watermark_ms, problem: now.problem, waits: now.waits, deltas: serving && serving.id !== now.root ? now.root : null };
  render(byId("serving"), data, (one) => [
    ...(one.id ? [el("b", {}, `${one.name}/${one.follows}`), ` answers from ${one.id}${one.deltas ? `, by deltas after ${one.deltas}` : ""}, learned up to ${when(one.watermark)}`] : ["No snapshot answers yet"]),
    ...(one.problem ? [el("span", one.waits ? {} : { class: "bad" }, `. ${one.problem}`)] : []),
  ]);
}

const SPARKS = [["rate", "Events a second"], ["lag", "Lag, messages"], ["delay", "Watermark behind, s"], ["tokens", "Tokens learned a second"]];

export function drawStream(state) {
  const box = byId("sparks");
  if (!box.children.length)
    box.append(...SPARKS.map(([key, title]) => el("figure", {}, el("figcaption", {}, title), el("div", { class: "chart", id: `spark-${key}` }))));
  const end = state.rates.at(-1).at;
  for (const [key, title] of SPARKS) {
    const points = state.rates.map((one) => ({ x: one.at - end, y: one[key] }));
    lines(byId(`spark-${key}`), {
      series: [{ color: "var(--c0)", width: 1.4, points }], height: 84, bottom: 20, left: 36, yText: brief,
      xText: (x) => (x ? `${brief(x)} s` : "now"), label: `${title}, now ${brief(state.rates.at(-1)[key])}`, none: "not known",
    });
  }
  drawProcesses(state.now.processes);
  drawLetters(state);
}

const since = ({ silent_s: s }) => (s == null ? "" : ` for ${span(s)}`);

const NAMED = {
  trainer: (one) => `trainer ${one.name}`,
  ended: (one) => `trainer ${one.name}, ended: all of its log is learned`,
  stopped: (one) => `trainer ${one.name}, stopped; it goes on from its checkpoint`,
  lost: (one) => el("span", { class: "bad" }, `trainer ${one.name} stopped without a farewell`),
  silent: (one) => el("span", { class: "bad" }, `trainer ${one.name} has not answered${since(one)}: it is busy, hangs, or has crashed`),
  diverged: (one) => el("span", { class: "bad" }, `trainer ${one.name} stopped since its loss was not finite`),
};

function drawProcesses(processes) {
  const columns = [
    { title: "Process", of: (one) => one.address },
    { title: "What", class: "wrap", of: (one) => NAMED[one.kind]?.(one) ?? one.kind ?? el("span", { class: "bad" }, `no answer${since(one)}`) },
    { title: "Rate", class: "num", of: (one) => (one.kind === "trainer" ? `${brief(one.tokens_per_s)} tokens/s` : one.kind === "worker" ? `${brief(one.events_per_s)} events/s` : "") },
    { title: "Lag", class: "num", of: (one) => (one.lag == null ? "" : brief(one.kind === "trainer" ? notLearned(one) : one.lag)) },
    { title: "Waits for", of: (one) => one.waits_for ?? "" },
  ];
  render(byId("processes"), processes, (rows) => table(columns, rows, rows.length ? null : "serve.watch names no process: set it to the metrics addresses of workers and trainers."));
}

function drawLetters(state) {
  const reasons = {};
  for (const worker of kindOf(state, "worker"))
    for (const [reason, number] of Object.entries(worker.dead_letters)) reasons[reason] = (reasons[reason] ?? 0) + number;
  const rows = Object.entries(reasons).filter(([, number]) => number).sort(([, a], [, b]) => b - a);
  const columns = [{ title: "Reason", of: ([reason]) => reason.replaceAll("_", " ") }, { title: "Records", class: "num", of: ([, number]) => count(number) }];
  const none = kindOf(state, "worker").length ? "No record has been refused." : "No worker is watched.";
  render(byId("reasons"), rows, (all) => (all.length ? el("table", {}, ...table(columns, all)) : el("p", { class: "note" }, none)));
  const letters = state.now.letters;
  render(byId("last-letters"), letters, ({ last, problem }) => {
    if (!last) return el("p", { class: "note" }, problem ?? "The last records are shown where the server knows Kafka (bootstrap).");
    const stale = problem ? [el("p", { class: "note bad" }, `${problem} What follows is older.`)] : [];
    if (!last.length) return [...stale, el("p", { class: "note" }, "The topic dead-letters is empty.")];
    return [...stale, el("table", {}, ...table([
      { title: "Refused at (UTC)", of: (one) => stampWithSeconds(one.ts_ms) },
      { title: "Record", of: (one) => one.id },
      { title: "Reason", of: (one) => one.reason },
      { title: "Detail", class: "wrap", of: (one) => one.detail.slice(0, 200) },
    ], last, "Show or send back: hstu dead-letters show ID"))];
  });
}
