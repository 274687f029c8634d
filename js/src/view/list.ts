/** Virtual list, of which only what is on screen exists: a thin coat over @tanstack/virtual-core. */

import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  type VirtualItem,
  Virtualizer,
} from "@tanstack/virtual-core";

export interface ListOptions {
  scroller: HTMLElement;
  /** Receives the rows; gets the height of all. */
  inner: HTMLElement;
  estimate(index: number): number;
  /** Draw these items; called when the reader scrolls or the list changes. */
  draw(items: VirtualItem[]): void;
  overscan?: number;
}

export class VirtualList {
  private readonly virtualizer: Virtualizer<HTMLElement, HTMLElement>;
  private readonly unmount: () => void;
  private drawing = false;

  constructor(private readonly options: ListOptions) {
    this.virtualizer = new Virtualizer<HTMLElement, HTMLElement>({
      count: 0,
      getScrollElement: () => options.scroller,
      estimateSize: options.estimate,
      observeElementRect,
      observeElementOffset,
      scrollToFn: elementScroll,
      overscan: options.overscan ?? 6,
      onChange: () => this.draw(),
    });
    this.unmount = this.virtualizer._didMount();
    this.virtualizer._willUpdate();
  }

  /** Tell how many lines there are, and whether heights of known ones changed. */
  set(count: number, remeasure = false): void {
    if (count !== this.virtualizer.options.count) this.virtualizer.setOptions({ ...this.virtualizer.options, count });
    if (remeasure) this.virtualizer.measure();
    this.virtualizer._willUpdate();
    this.draw();
  }

  private draw(): void {
    if (this.drawing) return;
    this.drawing = true;
    try {
      const height = `${this.virtualizer.getTotalSize()}px`;
      if (this.options.inner.style.height !== height) this.options.inner.style.height = height;
      this.options.draw(this.virtualizer.getVirtualItems());
    } finally {
      this.drawing = false;
    }
  }

  items(): VirtualItem[] {
    return this.virtualizer.getVirtualItems();
  }

  measure(el: HTMLElement): void {
    this.virtualizer.measureElement(el);
  }

  reveal(index: number, align: "auto" | "center" | "end" = "auto"): void {
    this.virtualizer.scrollToIndex(index, { align });
  }

  /** The line that a key goes to from another one, maybe beyond the ends; undefined if it is no key that moves. */
  target(key: string, from: number): number | undefined {
    const page = Math.max(1, this.virtualizer.getVirtualItems().length - 2 * (this.options.overscan ?? 6) - 1);
    const to: Record<string, number> = {
      ArrowDown: from + 1,
      ArrowUp: from - 1,
      PageDown: from + page,
      PageUp: from - page,
      Home: 0,
      End: this.virtualizer.options.count - 1,
    };
    return to[key];
  }

  destroy(): void {
    this.unmount();
  }
}

/** Put the element of a line where the list has it. */
export function place(el: HTMLElement, { start }: VirtualItem): void {
  const top = `translateY(${start}px)`;
  if (el.style.transform !== top) el.style.transform = top;
}
