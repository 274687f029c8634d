/** Screen interest: tells Python which rows are on screen, so that it sends patches for those only. */

import type { Context } from "./context.ts";

/** Milliseconds between two messages about what is on screen. */
const TELL_EVERY = 120;

export interface Seen {
  /** Parents whose groups are open. */
  open: string[];
  /** Stretches of groups: key, first, end. */
  ranges: [string, number, number][];
  numbers: number[];
  logs: boolean;
}

export class Interest {
  private timer: ReturnType<typeof setTimeout> | null = null;
  private sent = "";

  constructor(
    private readonly view: Context,
    private readonly uid: string,
    private readonly seen: () => Seen,
  ) {}

  /** What is on screen may have changed. */
  changed(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.tell();
    }, TELL_EVERY);
  }

  private tell(): void {
    const { model, transport } = this.view;
    const args = { view: this.uid, ...this.seen() };
    const key = JSON.stringify(args);
    if (key === this.sent || model.seq < 0) return;
    // Small runs are sent whole: nothing to ask for but the log.
    if (model.small && !args.logs && !this.sent) return;
    this.sent = key;
    transport.send("visible_rows", args);
  }

  destroy(): void {
    if (this.timer) clearTimeout(this.timer);
  }
}
