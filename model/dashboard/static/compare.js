// What differs between the snapshot that answers and another one, in a dialog.

import { ask } from "./feed.js";
import { byId, count, el, rate, signed, table, when } from "./format.js";

const SCORERS = /^retrieval\.([^.]+)\.window\.all\.(hr@10|ndcg@10)$/;

export async function compare(from, to) {
  const note = byId("snapshots-note");
  note.textContent = `Comparing ${from} with ${to}; both are read from the disk.`;
  try {
    const found = await ask(`snapshots/diff?${new URLSearchParams({ a: from, b: to })}`);
    note.textContent = "";
    byId("diff-title").textContent = `From ${found.a} to ${found.b}`;
    byId("diff-body").replaceChildren(...sentences(found).map((text) => el("p", {}, text)), sideBySide(found));
    byId("diff-dialog").showModal();
  } catch (error) {
    note.textContent = error.message;
  }
}

function items(verb, { count: number, first }) {
  const more = number > first.length ? ` and ${count(number - first.length)} more` : "";
  return `${count(number)} items ${verb}${number ? `: ${first.join(", ")}${more}` : ""}.`;
}

function sentences(found) {
  const percent = (share) => `${(100 * share).toFixed(0)}%`;
  const churn = found.churn;
  const top = churn
    ? `Top 10 of ${count(churn.users)} users with their events up to ${when(churn.ts_ms)}: ${percent(churn.mean)} of the items are others; ${count(churn.unchanged)} users keep all, ${count(churn.replaced)} none.`
    : "This host has no user with a history that both had learned, so no top 10 is compared.";
  const lists = ["born", "died", "withdrawn", "restored"].filter((verb) => verb === "born" || verb === "died" || found[verb].count);
  return [...(found.same_model ? ["Both are the same model."] : []), top, ...lists.map((verb) => items(verb, found[verb]))];
}

function sideBySide({ numbers }) {
  const rows = Object.entries(numbers).filter(([name]) => name !== "watermark_ms" && (!name.includes(".") || SCORERS.test(name)));
  const shown = (name, value) => (name.includes("@") ? rate(value) : count(value));
  const change = ([name, [one, other]]) => (one == null || other == null ? "" : one === other ? "0" : signed(other - one, name.includes("@") ? 3 : 0));
  const columns = [
    { title: "Figure", of: ([name]) => name.replace(SCORERS, (_, scorer, metric) => `${metric.toUpperCase()}, ${scorer.replaceAll("_", " ")}`) },
    { title: "Answers", class: "num", of: ([name, pair]) => shown(name, pair[0]) },
    { title: "Other", class: "num", of: ([name, pair]) => shown(name, pair[1]) },
    { title: "Change", class: "num", of: change },
  ];
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Figures side by side" }, el("table", {}, ...table(columns, rows, "Metrics are of the last window.")));
}
