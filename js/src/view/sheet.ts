/** Sheet below the header: a table that was asked for, of one kind at a time, until it is closed. */

import { type Child, h, show } from "./dom.ts";
import { icon } from "./icons.ts";

export class Sheet {
  readonly el = h("div", { class: "fnb-sheet", role: "group", hidden: true, "data-testid": "fnb-sheet" });
  private kind = "";

  /** Whether one of this kind is on show; it is closed. */
  closes(kind: string): boolean {
    if (this.el.hidden || this.kind !== kind) return false;
    show(this.el, false);
    return true;
  }

  draw(kind: string, title: string, heads: string[], rows: Child[][], below = ""): void {
    this.kind = kind;
    const close = h(
      "button",
      { class: "fnb-btn fnb-more", type: "button", "aria-label": `Close ${kind}`, onclick: () => show(this.el, false) },
      icon("close"),
    );
    const head = h(
      "tr",
      {},
      heads.map((name) => h(name ? "th" : "td", { scope: name ? "col" : null }, name)),
    );
    const body = rows.map((cells) =>
      h(
        "tr",
        {},
        cells.map((cell) => h("td", {}, cell)),
      ),
    );
    const table = h("table", { class: "fnb-table" }, h("thead", {}, head), h("tbody", {}, body));
    this.el.setAttribute("aria-label", title);
    this.el.replaceChildren(
      h("div", { class: "fnb-sheethead" }, h("strong", {}, title), h("span", { class: "fnb-space" }), close),
      rows.length ? h("div", { class: "fnb-tablebox", tabindex: 0, role: "group", "aria-label": title }, table) : "",
      below ? h("div", { class: "fnb-muted" }, below) : "",
    );
    show(this.el, true);
  }
}
