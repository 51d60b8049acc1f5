// Charts in SVG, drawn at the width of their box, so that text keeps its size.

import { brief, el, rate, svg } from "./format.js";

const Z = 1.96;

// 95% interval of a share (Wilson). Of a mean of values in [0, 1] it is an upper bound of the normal one.
export function interval(mean, n, isShare) {
  if (mean == null || !n) return [null, null];
  const variance = Math.max(0, mean * (1 - mean));
  if (!isShare) return [mean - Z * Math.sqrt(variance / n), mean + Z * Math.sqrt(variance / n)];
  const middle = (mean + Z ** 2 / (2 * n)) / (1 + Z ** 2 / n);
  const half = (Z / (1 + Z ** 2 / n)) * Math.sqrt(variance / n + Z ** 2 / (4 * n ** 2));
  return [middle - half, middle + half];
}

export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step + 0);
  return found;
}

const scale = (from, to) => (value) => to[0] + ((value - from[0]) / (from[1] - from[0] || 1)) * (to[1] - to[0]);

function empty(box, sentence) {
  box.replaceChildren(el("p", { class: "empty" }, sentence));
}

function digitsOf(marks) {
  const step = marks.length > 1 ? marks[1] - marks[0] : 1;
  return Math.max(0, Math.min(4, -Math.floor(Math.log10(step) + 1e-9)));
}

function frame(box, { x, y, height, left = 40, bottom = 34, xTitle, yTitle, xText = brief, yText, label }) {
  const width = Math.max(220, box.clientWidth);
  const right = width - 10, top = yTitle ? 18 : 8, floor = height - bottom;
  const toX = scale(x, [left, right]), toY = scale(y, [floor, top]);
  const yMarks = ticks(...y, height > 140 ? 5 : 3), digits = digitsOf(yMarks);
  const text = yText ?? ((value) => rate(value, digits));
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label },
    ...yMarks.map((mark) => svg("g", {},
      svg("line", { class: Math.abs(mark) < 1e-12 ? "zero" : "grid", x1: left, x2: right, y1: toY(mark), y2: toY(mark) }),
      svg("text", { x: left - 6, y: toY(mark) + 4, "text-anchor": "end" }, text(mark)))),
    ...ticks(...x, width > 500 ? 7 : 4).map((mark) =>
      svg("text", { x: toX(mark), y: floor + 14, "text-anchor": "middle" }, xText(mark))),
    svg("line", { class: "axis", x1: left, x2: right, y1: floor, y2: floor }),
    yTitle ? svg("text", { x: 0, y: 11 }, yTitle) : "",
    xTitle ? svg("text", { x: right, y: height - 5, "text-anchor": "end" }, xTitle) : "");
  return { node, toX, toY, top, floor, left, right };
}

const path = (points, toX, toY, key) =>
  points.map((point, at) => `${at ? "L" : "M"}${toX(point.x).toFixed(1)} ${toY(point[key]).toFixed(1)}`).join("");

function drawLine(chart, series) {
  const { node, toX, toY } = chart;
  const points = series.points.filter((point) => point.y != null);
  if (!points.length) return;
  if (series.band) {
    const back = [...points].reverse();
    const outline = path(points, toX, toY, "hi") + path(back, toX, toY, "lo").replace("M", "L") + "Z";
    node.append(svg("path", { d: outline, fill: series.color, "fill-opacity": 0.14 }));
  }
  const style = { fill: "none", stroke: series.color, "stroke-width": series.width ?? 1.6, "stroke-dasharray": series.dash };
  node.append(svg("path", { d: path(points, toX, toY, "y"), "stroke-linejoin": "round", ...style }));
  if (points.length === 1)
    node.append(svg("circle", { cx: toX(points[0].x), cy: toY(points[0].y), r: 3, fill: series.color }));
}

// Lines with bands; `marks` are {x, text}, `cursor` is an x that is marked, `onMove` gets the x under the pointer.
export function lines(box, { series, height = 260, fromZero = true, marks = [], cursor, onMove, none, ...titles }) {
  const all = series.flatMap((one) => one.points.filter((point) => point.y != null));
  if (!all.length) return empty(box, none ?? "Nothing has been tested yet.");
  const xs = all.map((point) => point.x);
  const seen = series.flatMap((one) => one.points.flatMap((p) => (one.band ? [p.lo, p.hi] : [p.y]))).filter((v) => v != null);
  const low = fromZero ? Math.min(0, ...seen) : Math.min(...seen), high = Math.max(...seen) || low + 1;
  const pad = (high - low || 1) * 0.06;
  const x = [Math.min(...xs), Math.max(...xs)];
  if (x[0] === x[1]) x[0] = 0;
  const chart = frame(box, { x, y: [low < 0 || !fromZero ? low - pad : low, high + pad], height, ...titles });
  for (const mark of marks.filter((one) => one.x >= x[0] && one.x <= x[1])) {
    const at = chart.toX(mark.x);
    chart.node.append(svg("g", {}, svg("title", {}, mark.text), svg("line", { class: "drift", x1: at, x2: at, y1: chart.top, y2: chart.floor }),
      svg("path", { d: `M${at - 4} ${chart.top}h8l-4 6z`, fill: "var(--bad)" })));
  }
  for (const one of series) drawLine(chart, one);
  if (cursor != null) {
    const at = chart.toX(cursor);
    chart.node.append(svg("line", { class: "cursor", x1: at, x2: at, y1: chart.top, y2: chart.floor }));
  }
  if (onMove) {
    const back = scale([chart.left, chart.right], x);
    chart.node.addEventListener("pointermove", (event) => onMove(back(event.offsetX)));
  }
  box.replaceChildren(chart.node);
}

// One row a group, in it a dot and an interval for each series: [{label, note, dots: [{y, lo, hi, color, name}]}].
export function dots(box, { rows, xTitle, label, none }) {
  const values = rows.flatMap((row) => row.dots.flatMap((dot) => [dot.y, dot.hi])).filter((value) => value != null);
  if (!values.length) return empty(box, none);
  const gap = 11, pad = 9, heights = rows.map((row) => row.dots.length * gap + pad);
  const height = heights.reduce((a, b) => a + b, 0) + 44, width = Math.max(220, box.clientWidth);
  const left = 56, right = width - 64, floor = height - 34;
  const x = [0, Math.max(...values) * 1.04], toX = scale(x, [left, right]);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  for (const mark of ticks(...x, width > 420 ? 6 : 4))
    node.append(svg("line", { class: mark ? "grid" : "axis", x1: toX(mark), x2: toX(mark), y1: 14, y2: floor }),
      svg("text", { x: toX(mark), y: floor + 14, "text-anchor": "middle" }, rate(mark, 2)));
  node.append(svg("text", { x: width, y: 10, "text-anchor": "end" }, "targets"),
    svg("text", { x: right, y: height - 5, "text-anchor": "end" }, xTitle));
  let top = 16;
  rows.forEach((row, place) => {
    const middle = top + heights[place] / 2;
    node.append(svg("text", { x: left - 8, y: middle + 4, "text-anchor": "end" }, row.label),
      svg("text", { x: width, y: middle + 4, "text-anchor": "end" }, row.note));
    row.dots.forEach((dot, at) => {
      if (dot.y == null) return;
      const y = top + pad / 2 + gap * (at + 0.5);
      node.append(svg("line", { x1: toX(Math.max(0, dot.lo)), x2: toX(dot.hi), y1: y, y2: y, stroke: dot.color, "stroke-width": 1.5 }),
        svg("circle", { cx: toX(dot.y), cy: y, r: 3.4, fill: dot.color }));
    });
    top += heights[place];
    node.append(svg("line", { class: "grid", x1: 0, x2: width, y1: top, y2: top }));
  });
  box.replaceChildren(node);
}

// Bars up and down: [{x, up, down}].
export function bars(box, { points, height = 130, none, ...titles }) {
  if (!points.length) return empty(box, none);
  const most = Math.max(1, ...points.map((point) => point.up)), least = -Math.max(0, ...points.map((point) => point.down));
  const xs = points.map((point) => point.x), step = xs.length > 1 ? xs[1] - xs[0] : xs[0] || 1;
  const x = [Math.max(0, xs[0] - step), xs[xs.length - 1]];
  const chart = frame(box, { x, y: [least * 1.05, most * 1.05], height, ...titles, yText: (value) => brief(Math.abs(value)) });
  points.forEach((point, at) => {
    const from = chart.toX(at ? xs[at - 1] : x[0]), to = chart.toX(point.x);
    const bar = (value, color) => svg("rect", {
      x: from + 0.5, width: Math.max(0.8, to - from - 1), fill: color,
      y: Math.min(chart.toY(0), chart.toY(value)), height: Math.abs(chart.toY(value) - chart.toY(0)),
    });
    chart.node.append(bar(point.up, "var(--good)"));
    if (point.down) chart.node.append(bar(-point.down, "var(--bad)"));
  });
  box.replaceChildren(chart.node);
}
