/** "Waits for you": what of a run goes on only when a person has decided, and the way there. */

import { number } from "../format.ts";
import type { RunModel } from "../model.ts";
import { P, phaseWord } from "../phases.ts";
import type { Row } from "../protocol.ts";
import { h, setText, show } from "./dom.ts";
import { phaseIcon } from "./icons.ts";

export interface WaitsHost {
  /** List what waits, or open it where there is one. */
  show(only: Row | undefined): void;
  retry(): void;
  /** Open what stands at a breakpoint, with the debugger's prompt. */
  attach(row: Row): void;
}

export class WaitsBar {
  readonly el: HTMLElement;
  private readonly said = h("span", { class: "fnb-waitsaid" });
  private readonly retry: HTMLButtonElement;
  private readonly attach: HTMLButtonElement;
  private only: Row | undefined;
  private stopped: Row | undefined;

  constructor(host: WaitsHost) {
    this.retry = h("button", { class: "fnb-btn", type: "button", onclick: () => host.retry() }, "Retry all");
    const attach = (): void => {
      if (this.stopped) host.attach(this.stopped);
    };
    this.attach = h("button", { class: "fnb-btn", type: "button", onclick: attach }, "Attach");
    this.el = h(
      "div",
      { class: "fnb-waits", role: "status", hidden: true, "data-testid": "fnb-waits" },
      h("span", { class: `fnb-mark fnb-c-${P.PAUSED}` }, phaseIcon(P.PAUSED)),
      this.said,
      h("button", { class: "fnb-btn", type: "button", onclick: () => host.show(this.only) }, "Show"),
      this.attach,
      this.retry,
    );
  }

  draw(model: RunModel): void {
    const n = model.running ? (model.header?.counts[P.PAUSED] ?? 0) : 0;
    show(this.el, n > 0);
    if (!n) return;
    const rows = [...model.rows.values()].filter((row) => model.phaseOf(row) === P.PAUSED);
    const asks = rows.filter((row) => row.kind === "condition").length;
    const stopped = rows.filter((row) => row.note?.startsWith("breakpoint"));
    const stops = stopped.length;
    [this.stopped] = stopped;
    show(this.attach, stops > 0);
    // Rows that the page was not sent are of the commonest kind: failed, and parked.
    const failed = n - asks - stops;
    const parts = [
      failed ? `${number(failed)} failed and ${failed > 1 ? "are" : "is"} ${phaseWord(P.PAUSED)}` : "",
      stops ? `${number(stops)} at a breakpoint` : "",
      asks ? `${number(asks)} question${asks > 1 ? "s" : ""}` : "",
    ];
    setText(this.said, `Waits for you: ${parts.filter(Boolean).join(", ")}`);
    show(this.retry, failed > 0);
    this.only = n === 1 ? rows[0] : undefined;
  }
}
