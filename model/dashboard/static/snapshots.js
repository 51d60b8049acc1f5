// The list of snapshots, and a button that moves the alias the server follows.

import { compare } from "./compare.js";
import { ask } from "./feed.js";
import { interval } from "./charts.js";
import { byId, count, el, rate, render, stampWithSeconds, table } from "./format.js";

function withInterval({ targets, "hr@10": share }) {
  if (share == null) return "–";
  const [low, high] = interval(share, targets, true);
  return `${rate(share)} ± ${rate((high - low) / 2)}`;
}

function move(alias, row) {
  const dialog = byId("move-dialog");
  const undone = alias === "latest" ? " A trainer that runs moves latest again at its next snapshot; let the server follow another alias (serve.alias) to hold one." : "";
  byId("move-text").textContent = `The alias ${alias} will name ${row.id}, and this server will answer from it.${undone}`;
  dialog.returnValue = "no";
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      const moved = await ask("snapshots/alias", { alias, snapshot: row.id });
      byId("snapshots-note").textContent = `${moved.alias} now names ${moved.snapshot}; before, ${moved.before ?? "nothing"}.`;
    } catch (error) {
      byId("snapshots-note").textContent = error.message;
    }
  }, { once: true });
  dialog.showModal();
}

function tags(row, data) {
  const on = row.id === data.root ? [el("span", { class: "tag on" }, data.deltas ? "answers, with deltas" : "answers")] : [];
  return el("span", {}, ...on, ...row.aliases.map((alias) => el("span", { class: "tag" }, alias)));
}

export function drawSnapshots(state) {
  const { snapshots, follows, serving, root, snapshots_problem: problem } = state.now;
  const data = { snapshots, follows, root, deltas: root && serving?.snapshot.id !== root, problem };
  render(byId("snapshot-table"), data, () => {
    const isId = /^\d+-[0-9a-f]+$/.test(follows);
    const other = (row) => (!data.root || row.id === data.root ? "" : el("button", {
      type: "button", "data-key": `compare ${row.id}`, "aria-label": `Compare ${row.id} with the one that answers`, onclick: () => compare(data.root, row.id),
    }, "Compare"));
    const button = (row) => (isId || row.aliases.includes(follows) ? "" : el("button", {
      type: "button", "data-key": row.id, "aria-label": `Answer from ${row.id}`, onclick: () => move(follows, row),
    }, "Use this"));
    return table([
      { title: "Snapshot", of: (row) => row.id },
      { title: "Names", class: "names", of: (row) => tags(row, data) },
      { title: "Made (UTC)", class: "flow", of: (row) => stampWithSeconds(1000 * row.created) },
      { title: "Targets", class: "num", of: (row) => count(row.targets) },
      { title: "HR@10 of late", class: "num", of: (row) => withInterval(row.window) },
      { title: "MiB", class: "num", of: (row) => rate(row.arrays_bytes / 2 ** 20, 1) },
      { title: "Answer", class: "flow", of: (row) => el("span", {}, button(row), " ", other(row)) },
    ], snapshots, problem ?? (snapshots.length ? null : "There is no snapshot yet."));
  });
}
