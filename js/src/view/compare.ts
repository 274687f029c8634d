/** Comparison with the run of the same cell before: what became slower or faster, failed or was mended, whose result changed. */

import { duration, number } from "../format.ts";
import type { Context } from "./context.ts";
import { h, show } from "./dom.ts";
import { icon } from "./icons.ts";

/** One action that is not what it was. */
export interface Difference {
  what: string;
  label: string;
  /** Numbers of the action in the former and in this run; 0: not there. */
  ids: [number, number];
  /** Seconds that it took; null: it did not run. */
  seconds: [number | null, number | null];
  detail: string;
}

export class CompareView {
  readonly el = h("div", {
    class: "fnb-compare",
    role: "group",
    "aria-label": "Comparison",
    hidden: true,
    "data-testid": "fnb-compare",
  });

  constructor(
    private readonly view: Context,
    private readonly openNumber: (id: number) => void,
  ) {}

  /** Fetch and show it; hide it if it is on show. */
  toggle(): void {
    const { model, notices, transport } = this.view;
    if (!this.el.hidden) {
      show(this.el, false);
      return;
    }
    transport
      .request("compare", { run: model.header?.run })
      .then(
        ({ reply }) => this.draw(String(reply.said), reply.rows as Difference[], Number(reply.total)),
        notices.failed,
      );
  }

  private draw(said: string, rows: Difference[], total: number): void {
    const [before, after] = [this.view.model.header?.before ?? "before", this.view.model.header?.run ?? "now"];
    const head = h(
      "tr",
      {},
      ["", "Action", before, after, ""].map((name) => h(name ? "th" : "td", { scope: name ? "col" : null }, name)),
    );
    const close = h(
      "button",
      {
        class: "fnb-btn fnb-more",
        type: "button",
        "aria-label": "Close comparison",
        onclick: () => show(this.el, false),
      },
      icon("close"),
    );
    const table = h(
      "table",
      { class: "fnb-table" },
      h("thead", {}, head),
      h(
        "tbody",
        {},
        rows.map((row) => this.row(row)),
      ),
    );
    const left = total - rows.length;
    this.el.replaceChildren(
      h("div", { class: "fnb-comparehead" }, h("strong", {}, said), h("span", { class: "fnb-space" }), close),
      rows.length ? h("div", { class: "fnb-tablebox", tabindex: 0, role: "group", "aria-label": said }, table) : "",
      left > 0 ? h("div", { class: "fnb-muted" }, `and ${number(left)} more: %flyte compare ${before} ${after}`) : "",
    );
    show(this.el, true);
  }

  private row({ what, label, ids, seconds, detail }: Difference): HTMLElement {
    const [, id] = ids;
    const call = id
      ? h(
          "button",
          { class: "fnb-link", type: "button", title: label, onclick: () => this.openNumber(id) },
          `a${id} ${label}`,
        )
      : label;
    const time = (one: number | null): HTMLElement => h("td", { class: "fnb-num" }, one === null ? "" : duration(one));
    return h("tr", {}, h("td", {}, what), h("td", {}, call), seconds.map(time), h("td", { title: detail }, detail));
  }
}
