/** Tool tips of rows that wait: why, asked for when the pointer rests on one. */

import { P } from "../phases.ts";
import type { Context } from "./context.ts";
import type { TreeView } from "./tree.ts";

/** Milliseconds that the pointer rests before it is asked. */
const REST = 200;
const WAITS = [P.QUEUED, P.WAITING_FOR_RESOURCES, P.INITIALIZING];

export function waitingTips(view: Context, tree: TreeView): void {
  let timer: ReturnType<typeof setTimeout> | null = null;
  tree.el.addEventListener("pointerover", (event) => {
    const el = (event.target as Element).closest<HTMLElement>(".fnb-row");
    if (timer) clearTimeout(timer);
    const line = el ? tree.lineAt(Number(el.getAttribute("aria-rowindex")) - 1) : undefined;
    const row = line?.kind === "action" ? line.row : undefined;
    if (!el || !row || view.model.lost) return;
    if (!WAITS.includes(view.model.phaseOf(row))) {
      el.removeAttribute("title");
      return;
    }
    timer = setTimeout(() => {
      view.transport.request("why", { action: row.name }).then(
        ({ reply }) => {
          if (reply.why) el.title = `Waits: ${reply.why}`;
        },
        () => undefined,
      );
    }, REST);
  });
}
