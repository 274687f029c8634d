/** Column headings above the tree: a click sorts, another one goes back to the order of the calls. */

import { h, setAttr } from "./dom.ts";

/** What each heading sorts by, as `QueryBar` has it, and what it says of itself. */
const COLUMNS = [
  { sort: "label", name: "Action", said: "by label" },
  { sort: "state", name: "Result", said: "failed first" },
  { sort: "-duration", name: "Time", said: "slowest first, by what each took itself" },
  { sort: "worker", name: "On", said: "by worker" },
] as const;

export class Columns {
  readonly el: HTMLElement;
  private readonly buttons: HTMLButtonElement[];

  constructor(sort: (by: string) => void) {
    this.buttons = COLUMNS.map(({ sort: by, name, said }) =>
      h(
        "button",
        {
          class: "fnb-col",
          type: "button",
          title: `Sort ${said}`,
          "aria-label": `${name}: sort ${said}`,
          "data-sort": by,
          onclick: (event: Event) =>
            sort((event.currentTarget as HTMLElement).getAttribute("aria-pressed") === "true" ? "order" : by),
        },
        name,
      ),
    );
    this.el = h("div", { class: "fnb-cols", role: "toolbar", "aria-label": "Sort actions" }, this.buttons);
  }

  draw(sorted: string): void {
    for (const button of this.buttons) setAttr(button, "aria-pressed", String(button.dataset.sort === sorted));
  }
}
