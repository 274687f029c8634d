/** Progress bar in segments: how many actions are in each phase. */

import { number, segments, summary } from "../format.ts";
import { endedOf } from "../phases.ts";
import { h, setAttr } from "./dom.ts";

export class Bar {
  readonly el: HTMLElement;
  private parts = new Map<string, HTMLElement>();

  constructor(extra = "") {
    this.el = h("div", { class: `fnb-bar ${extra}`.trim(), role: "progressbar", "aria-valuemin": 0 });
  }

  set(counts: number[], total: number, label: string): void {
    const known = segments(counts);
    for (const { word, look, n } of known) {
      let part = this.parts.get(word);
      if (!part) {
        part = h("span", { class: `fnb-b-${look}` });
        this.parts.set(word, part);
      }
      const grow = String(n);
      if (part.style.flexGrow !== grow) part.style.flexGrow = grow;
    }
    const wanted = known.map(({ word }) => this.parts.get(word) as HTMLElement);
    if (wanted.length !== this.el.childElementCount || wanted.some((part, i) => this.el.children[i] !== part))
      this.el.replaceChildren(...wanted);
    setAttr(this.el, "aria-valuemax", String(Math.max(1, total)));
    setAttr(this.el, "aria-valuenow", String(endedOf(counts)));
    setAttr(this.el, "aria-valuetext", summary(counts) || "nothing yet");
    setAttr(this.el, "aria-label", label);
    setAttr(this.el, "title", `${summary(counts)} of ${number(total)}`);
  }
}
