/** Grid of the table: headings that sort, and the rows that are on screen. */

import type { VirtualItem } from "@tanstack/virtual-core";
import { fine } from "../../format.ts";
import { h, setAttr, setText } from "../dom.ts";
import { place, VirtualList } from "../list.ts";
import type { Cell, Column, TableSource } from "./source.ts";

const ROW = 24;
/** Narrowest and widest column, in characters. */
const NARROW = 5;
const WIDE = 30;
/** Rows that tell how wide a column is. */
const MEASURED = 60;

export interface GridHost {
  open(id: number): void;
  sort(name: string): void;
  /** Number of the action in the panel; -1 for none. */
  selected(): number;
}

export class Grid {
  readonly el: HTMLElement;
  /** Empty until the columns are known. */
  private readonly heads = h("div", { role: "rowgroup", class: "fnb-tabheads" });
  private readonly head = h("div", { class: "fnb-tabhead", role: "row", "aria-rowindex": 1 });
  private readonly inner = h("div", { class: "fnb-inner", role: "rowgroup" });
  private readonly list: VirtualList;
  private readonly rows = new Map<number, HTMLElement>();
  private shown: Column[] = [];
  private active = 0;

  constructor(
    private readonly source: TableSource,
    private readonly host: GridHost,
    private readonly uid: string,
  ) {
    this.el = h(
      "div",
      {
        class: "fnb-scroll fnb-grid",
        role: "grid",
        tabindex: 0,
        "aria-label": "Table of calls",
        "data-testid": "fnb-table",
      },
      this.heads,
      this.inner,
    );
    this.list = new VirtualList({
      scroller: this.el,
      inner: this.inner,
      estimate: () => ROW,
      draw: (items) => this.drawItems(items),
    });
    this.el.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** Columns have changed. */
  layout(): void {
    const { source } = this;
    this.shown = source.names.map(
      (name) =>
        source.columns.find((one) => one.name === name) ?? { name, of: "fact", unit: "", numeric: false, varies: 2 },
    );
    const widths = this.shown.map((column, at) => {
      let most = column.name.length + 2;
      for (let row = 0; row < Math.min(MEASURED, source.found); row++) {
        const cells = source.row(row)?.cells;
        if (cells) most = Math.max(most, shownCell(cells[at] ?? null, column).length + 1);
      }
      return `${Math.max(NARROW, Math.min(WIDE, most))}ch`;
    });
    this.el.style.setProperty("--fnb-columns", widths.join(" "));
    setAttr(this.el, "aria-colcount", String(this.shown.length));
    this.heads.replaceChildren(this.head);
    this.head.replaceChildren(...this.shown.map((column) => this.heading(column)));
    for (const el of this.rows.values()) el.remove();
    this.rows.clear();
    this.draw();
  }

  private heading(column: Column): HTMLElement {
    const { sort, desc } = this.source.wanted;
    const sorted = sort === column.name ? (desc ? "descending" : "ascending") : "none";
    const arrow = sorted === "none" ? "" : desc ? " ▼" : " ▲";
    return h(
      "div",
      {
        role: "columnheader",
        "aria-sort": sorted,
        class: `fnb-tabcell fnb-of-${column.of}${column.numeric ? " fnb-num" : ""}`,
      },
      h(
        "button",
        {
          class: "fnb-tabsort",
          type: "button",
          title: `Sort by ${column.name}${column.unit ? " (seconds)" : ""}`,
          onclick: () => this.host.sort(column.name),
        },
        `${column.name}${arrow}`,
      ),
    );
  }

  draw(): void {
    setAttr(this.el, "aria-rowcount", String(this.source.found + 1));
    this.active = Math.max(0, Math.min(this.active, this.source.found - 1));
    this.list.set(this.source.found);
  }

  /** What was listed is another table now. */
  toTop(): void {
    this.el.scrollTop = 0;
    this.active = 0;
  }

  private drawItems(items: VirtualItem[]): void {
    const seen = new Set<number>();
    for (const item of items) {
      seen.add(item.index);
      let el = this.rows.get(item.index);
      if (!el) {
        el = h("div", { class: "fnb-tabrow", role: "row", id: `fnb-${this.uid}-t${item.index}` });
        el.addEventListener("click", () => this.choose(item.index));
        this.rows.set(item.index, el);
      }
      this.drawRow(el, item);
      if (el.parentElement !== this.inner) this.inner.append(el);
    }
    for (const [index, el] of this.rows) {
      if (seen.has(index)) continue;
      el.remove();
      this.rows.delete(index);
    }
    setAttr(this.el, "aria-activedescendant", this.rows.has(this.active) ? `fnb-${this.uid}-t${this.active}` : null);
  }

  private drawRow(el: HTMLElement, item: VirtualItem): void {
    const found = this.source.row(item.index);
    place(el, item);
    setAttr(el, "aria-rowindex", String(item.index + 2));
    setAttr(el, "aria-selected", String(found !== undefined && found.id === this.host.selected()));
    el.classList.toggle("fnb-active", item.index === this.active);
    el.classList.toggle("fnb-odd", item.index % 2 === 1);
    while (el.childElementCount < this.shown.length) el.append(h("div", { class: "fnb-tabcell", role: "gridcell" }));
    this.shown.forEach((column, at) => {
      const cell = el.children[at] as HTMLElement;
      const text = found ? shownCell(found.cells[at] ?? null, column) : "…";
      setText(cell, text);
      cell.classList.toggle("fnb-num", column.numeric);
      setAttr(cell, "title", text.length > 12 ? String(found?.cells[at] ?? "") : null);
    });
  }

  private choose(index: number): void {
    this.active = index;
    const found = this.source.row(index);
    if (found) this.host.open(found.id);
    this.draw();
  }

  private onKey(event: KeyboardEvent): void {
    if (event.target !== this.el) return;
    const next = this.list.target(event.key, this.active);
    if (next !== undefined) {
      this.active = next;
      this.draw();
      this.list.reveal(this.active);
    } else if (event.key === "Enter" || event.key === " ") this.choose(this.active);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  destroy(): void {
    this.list.destroy();
  }
}

/** A cell as it is shown: six digits of a number, of which its tool tip has all. */
export function shownCell(cell: Cell, column: Column): string {
  if (cell === null) return "";
  if (typeof cell === "boolean") return cell ? "True" : "False";
  if (typeof cell === "string") return cell;
  if (column.unit) return inUnit(cell, column.unit);
  return short(cell);
}

/** A time or a number of bytes, with its unit. */
export function inUnit(n: number, unit: string): string {
  if (unit === "s") return fine(n);
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.abs(n) || 1) / 3)));
  return `${Number((n / 1000 ** power).toPrecision(3))} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/** So many digits of a number that is none of a whole. */
export const short = (n: number, digits = 6): string =>
  Number.isInteger(n) ? String(n) : String(Number(n.toPrecision(digits)));
