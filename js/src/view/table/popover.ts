/** Popover below a button: closes with Escape, a click elsewhere, or its choice. */

import { type Child, h } from "../dom.ts";

export class Popover {
  readonly button: HTMLButtonElement;
  readonly el = h("div", { class: "fnb-menu fnb-popover", popover: "auto", role: "group" });

  constructor(
    label: string,
    private readonly content: () => Child[],
    testid: string,
  ) {
    this.button = h(
      "button",
      { class: "fnb-btn", type: "button", "aria-haspopup": "true", "data-testid": testid, onclick: () => this.open() },
      label,
    );
    this.el.setAttribute("aria-label", label);
    this.el.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.close();
      event.stopPropagation();
    });
  }

  private open(): void {
    this.el.replaceChildren();
    for (const child of this.content().flat()) if (child) this.el.append(child as Node);
    this.el.showPopover?.();
    const at = this.button.getBoundingClientRect();
    const below = at.bottom + this.el.offsetHeight + 8 < window.innerHeight;
    Object.assign(this.el.style, {
      left: `${Math.max(4, Math.min(at.left, window.innerWidth - this.el.offsetWidth - 8))}px`,
      top: below ? `${at.bottom + 4}px` : `${Math.max(4, at.top - this.el.offsetHeight - 4)}px`,
    });
    this.el.querySelector<HTMLElement>("button, input")?.focus();
  }

  close(): void {
    this.el.hidePopover?.();
    this.button.focus({ preventScroll: true });
  }
}
