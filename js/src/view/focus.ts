/** The focus in a view, and the text that is selected there, to give them back after the view was moved in the page. */

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

export class SelectionMemory {
  private selected: [Node, number, Node, number] | null = null;

  constructor(private readonly root: HTMLElement) {
    document.addEventListener("selectionchange", this.changed);
  }

  private readonly changed = (): void => {
    if (!this.root.isConnected) return; // taken out of the page, and about to come back
    const found = getSelection();
    const { anchorNode: from, focusNode: to } = found ?? {};
    this.selected =
      found && from && to && !found.isCollapsed && this.root.contains(from) && this.root.contains(to)
        ? [from, found.anchorOffset, to, found.focusOffset]
        : null;
  };

  restore(): void {
    const { selected, root } = this;
    if (selected && root.contains(selected[0]) && root.contains(selected[2]) && getSelection()?.isCollapsed !== false)
      getSelection()?.setBaseAndExtent(...selected);
  }

  destroy(): void {
    document.removeEventListener("selectionchange", this.changed);
  }
}
