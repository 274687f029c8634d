/** Scroll positions of everything in an element, to put them back after it was moved in the page. */

export class ScrollMemory {
  private readonly tops = new Map<Element, number>();

  constructor(root: HTMLElement) {
    root.addEventListener(
      "scroll",
      (event) => {
        const el = event.target as Element;
        // Out of the page everything scrolls to the top.
        if (root.isConnected) this.tops.set(el, el.scrollTop);
      },
      { capture: true, passive: true },
    );
  }

  restore(): void {
    for (const [el, top] of [...this.tops]) el.scrollTop = top;
  }
}
