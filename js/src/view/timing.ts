/** Where the time of a run went: one line below its actions, unfolded the parts and what more slots would bring. */

import { duration, number, percent } from "../format.ts";
import type { RunModel } from "../model.ts";
import type { Timing } from "../protocol.ts";
import { partsBar } from "./detail/times.ts";
import { h, setAttr, setText, show } from "./dom.ts";
import { icon } from "./icons.ts";

/** Seconds from which on a run's time is worth a line. */
const WORTH_S = 0.5;

export interface TimingHost {
  fetch(): Promise<Timing>;
  /** List the actions of these numbers. */
  list(numbers: number[]): void;
  /** Open an action. */
  open(number: number): void;
}

export class TimingLine {
  readonly el: HTMLElement;
  private readonly toggle: HTMLButtonElement;
  private readonly link: HTMLButtonElement;
  private readonly names = h("span", { class: "fnb-timingnames" });
  private readonly body = h("div", { hidden: true });
  private timing: Timing | null = null;
  /** The end of the run for which it was fetched. */
  private fetched = -1;

  constructor(private readonly host: TimingHost) {
    this.toggle = h(
      "button",
      {
        class: "fnb-btn fnb-toggle",
        type: "button",
        "aria-expanded": "false",
        "aria-label": "Where the time went",
        onclick: () => this.unfold(this.body.hidden),
      },
      icon("closed"),
    );
    this.link = h("button", { class: "fnb-link", type: "button", title: "List them", onclick: () => this.list() });
    this.el = h(
      "div",
      { class: "fnb-timing", hidden: true, "data-testid": "fnb-timing" },
      h("div", { class: "fnb-timingline" }, this.toggle, this.link, this.names),
      this.body,
    );
  }

  private unfold(open: boolean): void {
    show(this.body, open);
    setAttr(this.toggle, "aria-expanded", String(open));
  }

  private list(): void {
    const { timing } = this;
    if (timing?.count) this.host.list(timing.path.slice(0, timing.count).map(([id]) => id));
    else this.unfold(true);
  }

  /** Fetch it once the run has ended. */
  draw(model: RunModel): void {
    const { header } = model;
    const ended = header?.ended;
    if (!header || ended === undefined || header.total < 2 || ended < WORTH_S) {
      show(this.el, false);
      return;
    }
    if (ended === this.fetched || model.lost) return;
    this.fetched = ended;
    this.host.fetch().then(
      (timing) => this.take(timing),
      () => {},
    );
  }

  private take(timing: Timing): void {
    const { actions, count, more, named, parts, share } = timing;
    this.timing = timing;
    show(this.el, parts.length > 0);
    const actionsSaid = `${number(count)} of ${number(actions)} actions made ${percent(share)} of the time`;
    setText(this.link, count ? actionsSaid : "no action made it last");
    this.names.replaceChildren(
      ...named.map(([id, label, seconds]) =>
        h(
          "button",
          { class: "fnb-link", type: "button", onclick: () => this.host.open(id) },
          `a${id} ${label}`,
          h("span", { class: "fnb-muted" }, ` ${duration(seconds)}`),
        ),
      ),
      count > named.length ? "…" : "",
    );
    this.body.replaceChildren(...partsBar(parts), ...(more ? [h("div", {}, more)] : []));
  }
}
