/** Runs of this kernel, listed: a click goes to where a run is shown, or shows it beside the notebook. */

import { duration, summary } from "../format.ts";
import type { Context } from "./context.ts";
import { dock } from "./dock.ts";
import { type Child, h } from "./dom.ts";
import { phaseIcon } from "./icons.ts";
import type { Sheet } from "./sheet.ts";

/** A run as the list has it. */
interface Listed {
  run: string;
  title: string;
  phase: number;
  prompt: number;
  counts: number[];
  took: number;
  /** Identity of its live view; "" if it has none. */
  view: string;
}

const KIND = "runs";

/** Show the list, or hide it. */
export function listRuns({ transport, notices }: Context, sheet: Sheet): void {
  if (sheet.closes(KIND)) return;
  const go = (one: Listed) => (): void => {
    if (goToRun(one.run)) return;
    if (one.view) dock(one.view, `${one.run} ${one.title}`);
    else notices.say(`%flyte show ${one.run} in a cell brings its view back.`, false);
  };
  transport.request("runs").then(({ reply }) => {
    const rows = (reply.runs as Listed[]).map((one) => cellsOf(one, go(one)));
    sheet.draw(KIND, "Runs of this kernel", ["", "Run", "Cell", "Title", "Actions", "Time"], rows);
  }, notices.failed);
}

function cellsOf(one: Listed, go: () => void): Child[] {
  const link = h("button", { class: "fnb-link", type: "button", onclick: go }, one.run);
  const mark = h("span", { class: `fnb-mark fnb-c-${one.phase}` }, phaseIcon(one.phase));
  return [mark, link, one.prompt ? `In [${one.prompt}]` : "", one.title, summary(one.counts), duration(one.took)];
}

/** Scroll to a run that the page shows; false if it shows it nowhere. */
function goToRun(run: string): boolean {
  for (const el of document.querySelectorAll<HTMLElement>(".fnb[data-run], .flyte-nb-static[data-flyte-run]"))
    if ((el.dataset.run ?? el.dataset.flyteRun) === run && el.offsetParent !== null) {
      el.scrollIntoView({ block: "center" });
      return true;
    }
  return false;
}
