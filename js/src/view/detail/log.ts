/** Log in the panel: the last lines of its action. */

import { number } from "../../format.ts";
import type { RunModel } from "../../model.ts";
import type { Detail, WireLine } from "../../protocol.ts";
import { type Child, h } from "../dom.ts";
import { drawLine } from "../logs.ts";
import { section } from "./section.ts";

/** Log lines drawn in the panel; the Logs tab shows all. */
const MAX_LOG = 60;

/** `open` shows the whole log of the action, at a line. */
export function logSection({ log }: Detail, model: RunModel, open: (at?: WireLine) => void): Child {
  const { head, hidden, tail, total } = log;
  if (!total) return null;
  const lines = [...head, ...tail].slice(-MAX_LOG);
  const box = h("div", { class: "fnb-dlog" });
  for (const line of lines) {
    const el = h("div", { class: "fnb-logline" });
    drawLine(el, line, model, { labelled: false, time: false, level: false }, false);
    el.addEventListener("click", () => !window.getSelection()?.toString() && open(line));
    box.append(el);
  }
  const others = total - lines.length;
  const label = others > 0 || hidden ? `all ${number(total)} lines` : "open in Logs";
  return section("Log", h("button", { class: "fnb-link", type: "button", onclick: () => open() }, label), box);
}
