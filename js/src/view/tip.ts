/** Tool tip in the browser's top layer: no box that scrolls cuts it. */

import { h, setText } from "./dom.ts";

/** Pixels between the pointer and the tip, and between the tip and the window's edge. */
const OFF = 14;
const EDGE = 4;

export class Tip {
  readonly el = h("div", { class: "fnb-tip", popover: "manual", hidden: true });

  /** Say something at a place in the window. */
  say(text: string, x: number, y: number): void {
    setText(this.el, text);
    if (this.el.hidden && this.el.isConnected) {
      this.el.hidden = false;
      this.el.showPopover?.();
    }
    const { offsetWidth: wide, offsetHeight: tall } = this.el;
    const below = y + OFF + tall + EDGE < window.innerHeight;
    Object.assign(this.el.style, {
      left: `${Math.max(EDGE, Math.min(x + OFF, window.innerWidth - wide - EDGE))}px`,
      top: `${below ? y + OFF : Math.max(EDGE, y - tall - OFF / 2)}px`,
    });
  }

  hide(): void {
    if (this.el.hidden) return;
    this.el.hidePopover?.();
    this.el.hidden = true;
  }
}
