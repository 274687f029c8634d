/** The element in a view that has the focus, to give it back after the view was moved in the page. */

export class FocusMemory {
  private focused: HTMLElement | null = null;

  constructor(private readonly root: HTMLElement) {
    root.addEventListener("focusin", (event) => {
      this.focused = event.target as HTMLElement;
    });
    root.addEventListener("focusout", (event) => {
      if (event.relatedTarget) this.focused = null;
      else setTimeout(() => this.lost());
    });
  }

  /** The focus went nowhere: by the reader's wish, unless the view was taken out of the page. */
  private lost(): void {
    if (this.root.isConnected && !this.root.contains(document.activeElement)) this.focused = null;
  }

  restore(): void {
    const { focused, root } = this;
    if (focused && root.contains(focused) && (document.activeElement ?? document.body) === document.body)
      focused.focus({ preventScroll: true });
  }
}
