/** Error folds: equal errors in a line each. */

import { number } from "../format.ts";
import type { RunModel } from "../model.ts";
import { P } from "../phases.ts";
import type { ErrorFold } from "../protocol.ts";
import { h, keepFocus, show } from "./dom.ts";
import { phaseIcon } from "./icons.ts";
import { placed } from "./places.ts";

/** Folds shown before "and n other errors". */
const SHOWN = 3;

export interface ErrorsHost {
  openNumber(id: number): void;
  list(fold: ErrorFold): void;
  /** Copy the traceback of the fold's first action. */
  copy(fold: ErrorFold): void;
}

export class ErrorsView {
  readonly el = h("div", { class: "fnb-errors", hidden: true, "data-testid": "fnb-errors" });
  private drawn: ErrorFold[] | null = null;
  private all = false;

  constructor(private readonly host: ErrorsHost) {}

  draw(model: RunModel): void {
    if (this.drawn === model.errors) return;
    this.drawn = model.errors;
    show(this.el, model.errors.length > 0);
    const shown = this.all ? model.errors : model.errors.slice(0, SHOWN);
    const rows = shown.map((fold) => this.row(fold));
    const others = model.errors.length - shown.length;
    if (others > 0)
      rows.push(
        h(
          "div",
          { class: "fnb-errrow" },
          h(
            "button",
            { class: "fnb-link", type: "button", onclick: () => this.showAll(model) },
            `and ${number(others)} other error${others > 1 ? "s" : ""}`,
          ),
        ),
      );
    keepFocus(this.el, () => this.el.replaceChildren(...rows));
  }

  private showAll(model: RunModel): void {
    this.all = true;
    this.drawn = null;
    this.draw(model);
  }

  private row(fold: ErrorFold): HTMLElement {
    const several = fold.n > 1;
    return h(
      "div",
      { class: "fnb-errrow" },
      h("span", { class: `fnb-c-${P.FAILED} fnb-mark` }, phaseIcon(P.FAILED)),
      several
        ? h(
            "button",
            { class: "fnb-errn", type: "button", title: "List them", onclick: () => this.host.list(fold) },
            `${number(fold.n)} ×`,
          )
        : null,
      h("span", { class: "fnb-errfold", title: fold.where || fold.text }, fold.text),
      fold.common
        ? h(
            "span",
            { class: "fnb-errcommon", title: `No call that succeeded has ${fold.common}` },
            fold.n === 2 ? "both with " : "all with ",
            h("b", {}, fold.common),
          )
        : null,
      h(
        "span",
        { class: "fnb-muted fnb-errfirst" },
        several ? "first:" : "in",
        h(
          "button",
          {
            class: "fnb-link",
            type: "button",
            title: `a${fold.id} ${fold.label}`,
            onclick: () => this.host.openNumber(fold.id),
          },
          `a${fold.id}`,
          h("span", { class: "fnb-errlabel" }, ` ${fold.label}`),
        ),
        fold.where ? h("span", { class: "fnb-errwhere" }, "at ", placed(fold.where)) : null,
      ),
      h("span", { class: "fnb-space" }),
      h(
        "button",
        {
          class: "fnb-link fnb-errcopy",
          type: "button",
          "aria-label": `Copy error of ${fold.label}`,
          title: "Copy the error with its traceback",
          "data-testid": "fnb-copy-fold",
          onclick: () => this.host.copy(fold),
        },
        "copy",
      ),
    );
  }
}
