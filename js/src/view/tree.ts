/** Tree of a run as a virtualised tree grid, and the flat list of a search's results. */

import type { VirtualItem } from "@tanstack/virtual-core";
import { FlatTree, type Line, Openness } from "../flat.ts";
import type { RunModel } from "../model.ts";
import type { Row } from "../protocol.ts";
import { h, setAttr, show } from "./dom.ts";
import { type HeatHost, HeatStrip, heatLayout } from "./heat.ts";
import { place, VirtualList } from "./list.ts";
import { RowView, shortTask } from "./rowview.ts";

const ROW = 26;
const HEAT_PADDING = 10;

export interface TreeHost extends HeatHost {
  select(row: Row | undefined, group?: string, index?: number): void;
  signal(row: Row, value: string): void;
  tabulate(key: string): void;
  /** What is on screen changed. */
  looked(): void;
}

export class TreeView {
  readonly el: HTMLElement;
  readonly openness = new Openness();
  readonly flat: FlatTree;
  /** Numbers found by a search, or null: the tree. */
  results: Uint32Array | null = null;
  /** What each of them took itself, in seconds, where they are sorted by that. */
  took: Float32Array | null = null;
  selected = "";
  private readonly inner = h("div", { class: "fnb-inner", role: "rowgroup" });
  private readonly scroller: HTMLElement;
  private readonly empty = h("div", { class: "fnb-empty" });
  private readonly list: VirtualList;
  private readonly views = new Map<string, RowView>();
  private readonly heats = new Map<string, HeatStrip>();
  private readonly wraps = new Map<string, HTMLElement>();
  private active = 0;
  private activeId = "";
  private heatKey = "";
  private readonly uid: string;

  constructor(
    private readonly model: RunModel,
    private readonly host: TreeHost,
    uid: string,
  ) {
    this.uid = uid;
    this.flat = new FlatTree(model, this.openness);
    this.scroller = h(
      "div",
      { class: "fnb-scroll", role: "treegrid", tabindex: 0, "aria-label": "Actions", "data-testid": "fnb-tree" },
      this.inner,
    );
    this.el = h("div", { class: "fnb-tree" }, this.scroller, this.empty);
    this.list = new VirtualList({
      scroller: this.scroller,
      inner: this.inner,
      estimate: (index) => this.heightOf(index),
      draw: (items) => this.drawItems(items),
    });
    this.scroller.addEventListener("keydown", (event) => this.onKey(event));
    this.scroller.addEventListener("focus", () => this.markActive());
    show(this.empty, false);
  }

  get length(): number {
    return this.results ? this.results.length : this.flat.length;
  }

  lineAt(index: number): Line | undefined {
    if (!this.results) return this.flat.at(index);
    const id = this.results[index];
    if (id === undefined) return undefined;
    const row = this.model.rowByNumber(id);
    return {
      kind: "action",
      id: row ? `a:${row.name}` : `n:${id}`,
      depth: 0,
      group: row?.group ?? "",
      index: row?.index ?? id,
      row,
      open: false,
      task: this.taskOf(row),
      took: this.took?.[index],
    };
  }

  /** What a row is a call of, where its label tells only what differs in its group. */
  private taskOf(row: Row | undefined): string | undefined {
    const group = this.model.groups.get(row?.group ?? "");
    return group?.shared && !row?.label.includes("(") ? shortTask(group.label) : undefined;
  }

  private get width(): number {
    return Math.max(80, (this.scroller.clientWidth || 600) - 24);
  }

  private heightOf(index: number): number {
    if (this.results) return ROW;
    const line = this.flat.at(index);
    return line?.kind === "heat" ? heatLayout(line.group.n, this.heatWidth(line)).height + HEAT_PADDING : ROW;
  }

  private heatWidth(line: Line): number {
    return this.width - (8 + line.depth * 16);
  }

  /** Take what changed in the model. */
  draw(): void {
    if (!this.results) this.flat.build();
    const heats = this.results
      ? ""
      : [...this.flat.heats()].map(([at, line]) => `${at}:${this.heightOf(at)}:${line.id}`).join();
    const remeasure = heats !== this.heatKey;
    this.heatKey = heats;
    if (this.activeId && this.lineAt(this.active)?.id !== this.activeId && !this.results) {
      const at = this.flat.indexOf(this.activeId);
      if (at >= 0) this.active = at;
    }
    setAttr(this.scroller, "aria-rowcount", String(this.length));
    show(this.empty, this.length === 0);
    this.empty.textContent = this.results ? "No action matches." : "Waiting for the first action…";
    this.list.set(this.length, remeasure);
  }

  tick(): void {
    for (const view of this.views.values()) view.tick(this.model);
  }

  private drawItems(items: VirtualItem[]): void {
    const seen = new Set<string>();
    for (const item of items) {
      const line = this.lineAt(item.index);
      if (!line) continue;
      seen.add(line.id);
      const el = line.kind === "heat" ? this.drawHeat(line) : this.drawRow(line);
      place(el, item);
      setAttr(el, "aria-rowindex", String(item.index + 1));
      setAttr(el, "id", `fnb-${this.uid}-${item.index}`);
      const selected = line.kind === "action" && line.row?.name === this.selected && this.selected !== "";
      setAttr(el, "aria-selected", String(selected));
      el.classList.toggle("fnb-active", item.index === this.active);
      if (!el.isConnected || el.parentElement !== this.inner) this.inner.append(el);
    }
    this.sweep(seen);
    this.markActive();
    this.host.looked();
  }

  private drawRow(line: Line): HTMLElement {
    let view = this.views.get(line.id);
    if (!view) {
      view = new RowView({
        toggle: (one) => this.toggle(one),
        select: (one) => this.onSelect(one),
        signal: (row, value) => this.host.signal(row, value),
        tabulate: (key) => this.host.tabulate(key),
      });
      this.views.set(line.id, view);
    }
    view.draw(line, this.model, this.results ? 0 : line.depth);
    return view.el;
  }

  private drawHeat(line: Line & { kind: "heat" }): HTMLElement {
    let strip = this.heats.get(line.id);
    let wrap = this.wraps.get(line.id);
    if (!strip || !wrap) {
      strip = new HeatStrip(this.host);
      wrap = h(
        "div",
        { class: "fnb-row fnb-heatrow", role: "row" },
        h("div", { role: "gridcell", class: "fnb-heatcell" }, strip.el),
      );
      this.heats.set(line.id, strip);
      this.wraps.set(line.id, wrap);
    }
    const { group } = line;
    wrap.style.paddingLeft = `${8 + line.depth * 16}px`;
    strip.set(group.key, group.n, this.model.phases.get(group.key), group.counts, group.label, this.heatWidth(line));
    return wrap;
  }

  private sweep(seen: Set<string>): void {
    for (const [id, view] of this.views) {
      if (seen.has(id)) continue;
      view.el.remove();
      this.views.delete(id);
    }
    for (const [id, wrap] of this.wraps) {
      if (seen.has(id)) continue;
      wrap.remove();
      this.wraps.delete(id);
      this.heats.delete(id);
    }
  }

  private toggle(line: Line, open?: boolean): void {
    const was = line.kind === "heat" ? false : line.open;
    const key = line.kind === "group" ? line.group.key : line.id;
    this.openness.set(key, open ?? !was);
    this.draw();
  }

  private onSelect(line: Line): void {
    this.setActive(this.results ? this.findResult(line) : this.flat.indexOf(line.id));
    if (line.kind === "group") this.toggle(line);
    else if (line.kind === "action") this.host.select(line.row, line.group, line.index);
  }

  private findResult(line: Line): number {
    return line.kind === "action" && line.row && this.results ? this.results.indexOf(line.row.id) : 0;
  }

  setActive(index: number): void {
    this.active = Math.max(0, Math.min(this.length - 1, index));
    this.activeId = this.lineAt(this.active)?.id ?? "";
    for (const view of [...this.views.values()].map((one) => one.el).concat([...this.wraps.values()]))
      view.classList.toggle("fnb-active", view.getAttribute("aria-rowindex") === String(this.active + 1));
    this.markActive();
  }

  private markActive(): void {
    const id = `fnb-${this.uid}-${this.active}`;
    setAttr(this.scroller, "aria-activedescendant", this.inner.querySelector(`[id="${id}"]`) ? id : null);
  }

  private onKey(event: KeyboardEvent): void {
    if (event.target !== this.scroller) return;
    const line = this.lineAt(this.active);
    const next = this.list.target(event.key, this.active);
    if (next !== undefined) {
      this.setActive(next);
      this.list.reveal(this.active);
    } else if (event.key === "ArrowRight" && line) this.stepIn(line);
    else if (event.key === "ArrowLeft" && line) this.stepOut(line);
    else if ((event.key === "Enter" || event.key === " ") && line) this.onSelect(line);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private stepIn(line: Line): void {
    if (line.kind === "heat" || (line.kind === "action" && !line.row?.kids)) return;
    if (!line.open) this.toggle(line, true);
    else this.setActive(this.active + 1);
  }

  private stepOut(line: Line): void {
    if (line.kind === "group" ? line.open : line.kind === "action" && line.row?.kids && line.open) {
      this.toggle(line, false);
      return;
    }
    for (let at = this.active - 1; at >= 0; at--) {
      const above = this.lineAt(at);
      if (above && above.depth < line.depth) {
        this.setActive(at);
        this.list.reveal(at);
        return;
      }
    }
  }

  /** Open all groups and parents that are known, or close them. */
  expandAll(open: boolean): void {
    this.openness.setAll(this.model.groups.keys(), open);
    for (const row of this.model.rows.values()) if (row.kids) this.openness.set(`a:${row.name}`, open);
    this.draw();
  }

  /** Bring an action into view, opening what hides it. */
  reveal(row: Row): void {
    if (this.results) {
      const at = this.results.indexOf(row.id);
      if (at >= 0) this.list.reveal(at, "center");
      return;
    }
    this.openness.set(row.group, true);
    let parent = this.model.rows.get(row.parent);
    while (parent) {
      this.openness.set(`a:${parent.name}`, true);
      this.openness.set(parent.group, true);
      parent = this.model.rows.get(parent.parent);
    }
    this.draw();
    const at = this.flat.indexOfMember(row.group, row.index);
    if (at >= 0) {
      this.setActive(at);
      this.list.reveal(at, "center");
    }
  }

  /** What Python must keep telling. */
  interest(): { open: string[]; ranges: [string, number, number][]; numbers: number[] } {
    const items = this.list.items();
    const first = items[0]?.index ?? 0;
    const last = items.at(-1)?.index ?? -1;
    if (this.results) return { open: [], ranges: [], numbers: Array.from(this.results.subarray(first, last + 1)) };
    return { open: [...this.flat.openParents], ranges: this.flat.ranges(first, last), numbers: [] };
  }

  /** What is listed is another list now. */
  toTop(): void {
    this.scroller.scrollTop = 0;
    this.setActive(0);
  }

  focus(): void {
    this.scroller.focus({ preventScroll: true });
  }

  destroy(): void {
    this.list.destroy();
  }
}
