/** Report in the panel: a tab per page, each in a frame of its own; it outlives redraws of the panel. */

import type { Detail } from "../../protocol.ts";
import { type Child, h, setAttr } from "../dom.ts";
import { htmlFrame, section } from "./section.ts";

/** Milliseconds between two fetches of a report that changes. */
const REPORT_EVERY = 1_000;
/** Height of its frame, in CSS pixels. */
const HEIGHT = 260;

export class ReportSection {
  private page: { of: string; el: HTMLElement } = { of: "", el: h("div", {}) };
  private tab = "";
  private timer: ReturnType<typeof setTimeout> | null = null;

  /** `fetch`: the HTML of an action's tab. */
  constructor(private readonly fetch: (action: string, tab: string) => Promise<string>) {}

  draw({ name, reports }: Detail): Child {
    if (!reports.length) return null;
    if (this.page.of !== name || !reports.includes(this.tab)) {
      this.page = { of: name, el: h("div", {}) };
      this.tab = reports[0] as string;
      this.load(name, this.tab);
    }
    const buttons = reports.map((tab) => this.button(name, tab));
    return section("Report", reports.length > 1 ? h("div", { class: "fnb-buttons" }, buttons) : null, this.page.el);
  }

  private button(name: string, tab: string): HTMLElement {
    const pick = (event: Event): void => {
      this.tab = tab;
      const pressed = event.currentTarget as Element;
      for (const one of pressed.parentElement?.children ?? []) setAttr(one, "aria-pressed", String(one === pressed));
      this.load(name, tab);
    };
    return h(
      "button",
      { class: "fnb-btn", type: "button", "aria-pressed": String(tab === this.tab), onclick: pick },
      tab || "main",
    );
  }

  /** A tab of the action on show has changed: fetched again if it is the one in sight. */
  changed(name: string, tab: string): void {
    if (tab !== this.tab) return;
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.load(name, tab);
    }, REPORT_EVERY);
  }

  private load(name: string, tab: string): void {
    this.fetch(name, tab).then(
      (page) =>
        this.page.of === name &&
        this.tab === tab &&
        this.page.el.replaceChildren(htmlFrame(page, `Report ${tab}`, HEIGHT)),
      (error: Error) => this.page.el.replaceChildren(h("div", { class: "fnb-error" }, error.message)),
    );
  }
}
