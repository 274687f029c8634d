/** Comparison with the run of the same cell before: what became slower or faster, failed or was mended, whose result changed. */

import { duration, number } from "../format.ts";
import type { Context } from "./context.ts";
import { type Child, h } from "./dom.ts";
import type { Sheet } from "./sheet.ts";

/** One action that is not what it was. */
interface Difference {
  what: string;
  label: string;
  /** Numbers of the action in the former and in this run; 0: not there. */
  ids: [number, number];
  /** Seconds that it took; null: it did not run. */
  seconds: [number | null, number | null];
  detail: string;
}

const KIND = "comparison";

/** Show it, or hide it; `open` opens an action. */
export function compare({ model, notices, transport }: Context, sheet: Sheet, open: (id: number) => void): void {
  if (sheet.closes(KIND)) return;
  const { before = "before", run = "now" } = model.header ?? {};
  transport.request("compare", { run }).then(({ reply }) => {
    const rows = reply.rows as Difference[];
    const left = Number(reply.total) - rows.length;
    const more = left > 0 ? `and ${number(left)} more: %flyte compare ${before} ${run}` : "";
    const cells = rows.map((row) => cellsOf(row, open));
    sheet.draw(KIND, String(reply.said), ["", "Action", before, run, ""], cells, more);
  }, notices.failed);
}

function cellsOf({ what, label, ids, seconds, detail }: Difference, open: (id: number) => void): Child[] {
  const [, id] = ids;
  const name = id ? `a${id} ${label}` : label;
  const call = id
    ? h("button", { class: "fnb-link", type: "button", title: label, onclick: () => open(id) }, name)
    : name;
  return [what, call, ...seconds.map((one) => (one === null ? "" : duration(one))), detail];
}
