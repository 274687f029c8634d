/** Tail of the log: the last few lines, below the tree. */

import { number } from "../format.ts";
import type { LogEntry, RunModel } from "../model.ts";
import type { WireLine } from "../protocol.ts";
import { h, setText, show } from "./dom.ts";
import { drawLine, openOnClick } from "./logs.ts";

export class LogTail {
  readonly el: HTMLElement;
  private readonly lines = h("div", { class: "fnb-taillines" });
  private readonly more: HTMLButtonElement;
  private shown = -1;
  private model: RunModel | null = null;

  /** `all` shows the whole log, `open` an action. */
  constructor(all: () => void, open: (id: number) => void) {
    this.more = h("button", { class: "fnb-link", type: "button", onclick: all });
    openOnClick(this.lines, () => this.model, open);
    this.el = h("div", { class: "fnb-tail", "data-testid": "fnb-tail" }, this.lines, this.more);
  }

  draw(model: RunModel, count: number): void {
    this.model = model;
    show(this.el, model.logTotal > 0);
    if (!model.logTotal || this.shown === model.logSerial) return;
    this.shown = model.logSerial;
    // A few more rather than "1 line above".
    if (model.logTotal <= count + 2) count += 2;
    const last: WireLine[] = [];
    for (let i = model.logs.length - 1; i >= 0 && last.length < count; i--) {
      const entry = model.logs[i] as LogEntry;
      if ("line" in entry) last.unshift(entry.line);
    }
    const several = new Set(last.map((line) => line[0])).size > 1 || (model.header?.total ?? 0) > 1;
    this.lines.replaceChildren(
      ...last.map((line, i) => {
        const el = h("div", { class: "fnb-logline" });
        const columns = { labelled: several, time: false, level: false };
        drawLine(el, line, model, columns, i > 0 && last[i - 1]?.[0] === line[0]);
        return el;
      }),
    );
    const others = model.logTotal - last.length;
    setText(this.more, others > 0 ? `${number(others)} line${others > 1 ? "s" : ""} above` : "");
    show(this.more, others > 0);
  }
}
