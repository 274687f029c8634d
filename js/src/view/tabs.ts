/** Tabs of a view, and the pane below each: tree, table, logs, timeline. */

import { h, setAttr, setText, show } from "./dom.ts";

export type Tab = "tree" | "table" | "logs" | "timeline";

const LABELS: Record<Tab, string> = { tree: "Tree", table: "Table", logs: "Logs", timeline: "Timeline" };
const ORDER = Object.keys(LABELS) as Tab[];

export class Tabs {
  readonly list: HTMLElement;
  readonly panes: Record<Tab, HTMLElement>;
  current: Tab = "tree";
  private readonly tabs: Record<Tab, HTMLButtonElement>;

  constructor(
    private readonly uid: string,
    contents: Record<Tab, HTMLElement[]>,
    private readonly open: (tab: Tab) => void,
  ) {
    this.tabs = each((tab) => this.makeTab(tab));
    this.panes = each((tab) => this.makePane(tab, contents[tab]));
    this.list = h(
      "div",
      { class: "fnb-tablist", role: "tablist", "aria-label": "Views" },
      ORDER.map((tab) => this.tabs[tab]),
    );
  }

  private makeTab(tab: Tab): HTMLButtonElement {
    const el = h(
      "button",
      {
        class: "fnb-tab",
        role: "tab",
        type: "button",
        id: `fnb-${this.uid}-tab-${tab}`,
        "aria-controls": `fnb-${this.uid}-${tab}`,
        "data-testid": `fnb-tab-${tab}`,
        onclick: () => this.open(tab),
      },
      LABELS[tab],
    );
    el.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (!step) return;
      const next = ORDER[(ORDER.indexOf(tab) + step + ORDER.length) % ORDER.length] as Tab;
      this.open(next);
      this.tabs[next].focus();
      event.preventDefault();
    });
    return el;
  }

  private makePane(tab: Tab, children: HTMLElement[]): HTMLElement {
    return h(
      "div",
      {
        class: "fnb-pane",
        role: "tabpanel",
        id: `fnb-${this.uid}-${tab}`,
        "aria-labelledby": `fnb-${this.uid}-tab-${tab}`,
      },
      children,
    );
  }

  select(tab: Tab): void {
    this.current = tab;
    for (const key of ORDER) {
      setAttr(this.tabs[key], "aria-selected", String(key === tab));
      setAttr(this.tabs[key], "tabindex", key === tab ? "0" : "-1");
      show(this.panes[key], key === tab);
    }
  }

  /** Put a text after a tab's name. */
  setNote(tab: Tab, note: string): void {
    setText(this.tabs[tab], note ? `${LABELS[tab]} ${note}` : LABELS[tab]);
  }
}

const each = <T>(make: (tab: Tab) => T): Record<Tab, T> =>
  Object.fromEntries(ORDER.map((tab) => [tab, make(tab)])) as Record<Tab, T>;
