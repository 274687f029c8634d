/** Popover below a button: closes with Escape, a click elsewhere, or its choice. */

import { append, type Child, h } from "./dom.ts";

/** Put a popover that is shown below a button, above it where there is no room. `left`: where it should begin. */
export function putBelow(el: HTMLElement, button: HTMLElement, left: (button: DOMRect) => number): void {
  const at = button.getBoundingClientRect();
  const { offsetHeight: tall, offsetWidth: wide } = el;
  const below = at.bottom + tall + 8 < window.innerHeight;
  Object.assign(el.style, {
    left: `${Math.max(4, Math.min(left(at), window.innerWidth - wide - 8))}px`,
    top: below ? `${at.bottom + 4}px` : `${Math.max(4, at.top - tall - 4)}px`,
  });
}

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
    append(this.el, this.content());
    this.el.showPopover?.();
    putBelow(this.el, this.button, (at) => at.left);
    this.el.querySelector<HTMLElement>("button, input")?.focus();
  }

  close(): void {
    this.el.hidePopover?.();
    this.button.focus({ preventScroll: true });
  }
}
