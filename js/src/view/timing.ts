/** Where the time of a run went: one line below its actions, unfolded the parts and what more slots would bring. */

import { number, percent } from "../format.ts";
import type { RunModel } from "../model.ts";
import type { Timing } from "../protocol.ts";
import { partsBar } from "./detail/times.ts";
import { h, setText, show } from "./dom.ts";

/** Seconds from which on a run's time is worth a line. */
const WORTH_S = 0.5;

export interface TimingHost {
  fetch(): Promise<Timing>;
  /** List the actions of these numbers. */
  list(numbers: number[]): void;
}

export class TimingLine {
  readonly el: HTMLDetailsElement;
  private readonly said = h("span", {});
  private readonly body = h("div", {});
  private timing: Timing | null = null;
  /** The end of the run for which it was fetched. */
  private fetched = -1;

  constructor(private readonly host: TimingHost) {
    const link = h(
      "button",
      {
        class: "fnb-link",
        type: "button",
        onclick: (event: Event) => {
          event.preventDefault();
          const { timing } = this;
          if (timing) host.list(timing.path.slice(0, timing.count).map(([id]) => id));
        },
      },
      this.said,
    );
    this.el = h(
      "details",
      { class: "fnb-timing", hidden: true, "data-testid": "fnb-timing" },
      h("summary", {}, link),
      this.body,
    );
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
    const { actions, count, more, parts, share } = timing;
    this.timing = timing;
    show(this.el, parts.length > 0);
    const actionsSaid = `${number(count)} of ${number(actions)} actions made ${percent(share)} of the time`;
    setText(this.said, count ? actionsSaid : "no action made it last");
    this.body.replaceChildren(...partsBar(parts), ...(more ? [h("div", {}, more)] : []));
  }
}
