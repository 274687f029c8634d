/** Notices to the reader: a line below the view, and announcements to screen readers. */

import { summary } from "../format.ts";
import { phaseWord } from "../phases.ts";
import type { Header } from "../protocol.ts";
import { h, setText, show } from "./dom.ts";

/** Milliseconds that a message stays, unless it tells an error. */
const STAYS = 4_000;
/** Milliseconds between two announcements to screen readers. */
const ANNOUNCE_EVERY = 5_000;

export class Notices {
  readonly el = h("div", { class: "fnb-notice", role: "status", hidden: true });
  /** For screen readers only. */
  readonly status = h("div", { class: "fnb-sr", role: "status", "aria-live": "polite" });
  private announced = { at: 0, phase: -1, text: "" };

  say(text: string, error: boolean): void {
    setText(this.el, text);
    this.el.classList.toggle("fnb-error", error);
    show(this.el, true);
    if (!error)
      setTimeout(() => {
        if (this.el.textContent === text) show(this.el, false);
      }, STAYS);
  }

  /** What was said is over. */
  clear(): void {
    show(this.el, false);
  }

  /** A request failed. That the view itself closed it is no news. */
  readonly failed = (error: Error): void => {
    if (error.message !== "closed") this.say(error.message, true);
  };

  copy(text: string): void {
    // Without a clipboard (a page that is not https) the text itself is shown, to be copied by hand.
    const wrote = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error("no clipboard"));
    wrote.then(
      () => this.say(text.length > 80 ? "Copied" : `Copied ${text}`, false),
      () => this.say(text, false),
    );
  }

  announce(header: Header): void {
    const now = performance.now();
    const ended = header.phase !== this.announced.phase;
    if (!ended && now - this.announced.at < ANNOUNCE_EVERY) return;
    const text = `Run ${header.run} ${phaseWord(header.phase)}. ${summary(header.counts)}.`;
    if (text === this.announced.text) return;
    this.announced = { at: now, phase: header.phase, text };
    setText(this.status, text);
  }
}
