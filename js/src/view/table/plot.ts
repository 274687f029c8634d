/** Plot above the table: how a column is distributed, one against another, or all arguments against a result. */

import { number } from "../../format.ts";
import type { Context } from "../context.ts";
import { h, setText, show } from "../dom.ts";
import { type Bin, bins, Chart, histogram, type PlotAxis, parallel, scatter } from "./chart.ts";
import { inUnit, short } from "./grid.ts";
import { quantile, range, Scale, spreads } from "./scale.ts";
import type { Axis, Column, Plotted, TableSource } from "./source.ts";

type Kind = "points" | "histogram" | "parallel";
const KINDS: Record<Kind, string> = { points: "Points", histogram: "Histogram", parallel: "All arguments" };
/** Most axes beside the result's. */
const MAX_AXES = 7;
/** Most bars of a histogram. */
const MAX_BARS = 50;
/** Different texts that still are categories. */
const MAX_CATEGORIES = 24;
const COMPARABLE = /^[A-Za-z_][\w.]*$/;

export interface PlotHost {
  openNumber(id: number): void;
  filter(text: string): void;
}

export class PlotView {
  readonly el: HTMLElement;
  private readonly kind: HTMLSelectElement;
  private readonly x: HTMLSelectElement;
  private readonly y: HTMLSelectElement;
  private readonly said = h("span", { class: "fnb-muted" });
  private readonly charts = h("div", { class: "fnb-charts" });
  private drawn: Chart[] = [];
  private serial = 0;
  /** Columns that there are to choose from: as texts, to tell a change. */
  private offered = "";

  constructor(
    private readonly view: Context,
    private readonly source: TableSource,
    private readonly host: PlotHost,
  ) {
    const pick = (label: string, testid: string): HTMLSelectElement =>
      h("select", { class: "fnb-input", "aria-label": label, "data-testid": testid, onchange: () => this.load() });
    this.kind = pick("Kind of plot", "fnb-plotkind");
    this.kind.append(...Object.entries(KINDS).map(([value, label]) => h("option", { value }, label)));
    this.x = pick("Across", "fnb-plotx");
    this.y = pick("Up", "fnb-ploty");
    this.el = h(
      "div",
      { class: "fnb-plot", hidden: true, "data-testid": "fnb-plotpane" },
      h("div", { class: "fnb-tools" }, this.kind, this.y, h("span", {}, "against"), this.x, this.said),
      this.charts,
    );
  }

  get open(): boolean {
    return !this.el.hidden;
  }

  toggle(): void {
    show(this.el, !this.open);
    if (this.open && this.source.known) this.load();
  }

  /** Show how times and results are distributed, once the columns are known. */
  histograms(): void {
    this.kind.value = "histogram";
    this.offered = "";
  }

  /** There are other columns, or other rows. */
  columnsCame(): void {
    const ys = this.source.columns.filter((column) => column.numeric && column.varies > 1);
    const xs = this.source.columns.filter(
      (column) => column.varies > 1 && (column.numeric || column.varies <= MAX_CATEGORIES),
    );
    const offered = [...ys, ...xs].map(({ name }) => name).join("\n");
    if (offered !== this.offered) {
      const first = !this.offered;
      this.offered = offered;
      fill(this.y, ys, ys.find(({ of }) => of === "result") ?? ys.find(({ name }) => name === "running"));
      fill(this.x, xs, xs.find(({ of }) => of === "input") ?? xs.find(({ name }) => name === "id"));
      if (first && this.kind.value === "points" && !xs.some(({ of }) => of === "input")) this.kind.value = "histogram";
    }
    if (this.open) this.load();
  }

  private load(): void {
    const kind = this.kind.value as Kind;
    for (const el of [this.x, this.x.previousElementSibling as HTMLElement]) show(el, kind === "points");
    const serial = ++this.serial;
    const wanted = this.wanted(kind);
    if (!this.y.value) {
      setText(this.said, "Nothing to plot: no column of numbers that differ.");
      this.charts.replaceChildren();
      return;
    }
    Promise.all(wanted.map((names) => this.source.plot(names))).then((found) => {
      if (serial === this.serial) this.take(kind, found);
    }, this.view.notices.failed);
  }

  /** Columns of each chart. */
  private wanted(kind: Kind): string[][] {
    const y = this.y.value;
    if (kind === "points") return [[this.x.value, y]];
    if (kind === "histogram") {
      const also = this.source.columns.some(({ name, varies }) => name === "running" && varies > 1);
      return also && y !== "running" ? [[y], ["running"]] : [[y]];
    }
    const inputs = [...this.x.options].map(({ value }) => value).filter((name) => this.column(name)?.of === "input");
    return [[...inputs.filter((name) => name !== y).slice(0, MAX_AXES), y]];
  }

  private column(name: string): Column | undefined {
    return this.source.columns.find((column) => column.name === name);
  }

  private take(kind: Kind, found: Plotted[]): void {
    while (this.drawn.length < found.length) this.drawn.push(new Chart());
    const charts = this.drawn.slice(0, found.length);
    this.charts.replaceChildren(...charts.map(({ el }) => el));
    const first = found[0];
    const shown = first?.ids.length ?? 0;
    const every = first && first.total > shown ? `${number(shown)} of ${number(first.total)} drawn` : "";
    setText(this.said, shown ? every : "No row has a number here.");
    found.forEach((plotted, i) => {
      const chart = charts[i];
      show((chart as Chart).el, plotted.ids.length > 0);
      if (chart && plotted.ids.length) chart.set(this.picture(kind, plotted));
    });
  }

  private picture(kind: Kind, { ids, axes }: Plotted) {
    const open = (id: number): void => this.host.openNumber(id);
    const plain = axes.map((axis) => this.axis(axis));
    const y = plain.at(-1) as PlotAxis;
    const said = this.summary(y);
    if (kind === "histogram") return this.histogram(axes[0] as Axis, said);
    if (kind === "parallel")
      return parallel(`${y.name} by its arguments`, `${said}; orange: its upper half`, ids, plain, open);
    return scatter(`${y.name} against ${plain[0]?.name}`, said, ids, plain[0] as PlotAxis, y, open);
  }

  private axis({ name, values, texts }: Axis): PlotAxis {
    const [min, max] = range(values);
    const unit = this.column(name)?.unit ?? "";
    return { name, values, scale: new Scale(min, max, !texts.length && spreads(values), texts, unit, 0.03) };
  }

  private histogram(axis: Axis, said: string) {
    const { name, values, texts } = axis;
    const [min, max] = range(values);
    const whole = values.every(Number.isInteger) && max - min < MAX_BARS;
    const log = !texts.length && !whole && spreads(values);
    const scale = whole
      ? new Scale(min - 0.5, max + 0.5, false, [], this.column(name)?.unit)
      : new Scale(min, max, log, texts, this.column(name)?.unit ?? "");
    const wanted = Math.max(5, Math.min(MAX_BARS, Math.ceil(2 * values.length ** (1 / 2.5))));
    const found = whole ? counted(values, min, max) : bins(values, scale, wanted);
    const most = Math.max(...found.map(({ n }) => n));
    return histogram(`Distribution of ${name}`, said, found, scale, new Scale(0, most, false), (bin) => {
      // Edges are computed: what lies on one must not fall out.
      const [low, high] = [bin.low - 1e-12 * Math.abs(bin.low), bin.high + 1e-12 * Math.abs(bin.high)];
      if (COMPARABLE.test(name)) this.host.filter(`${name}>=${low} ${name}<=${high}`);
    });
  }

  private summary({ name, values }: PlotAxis): string {
    const sorted = values.slice().sort();
    const unit = this.column(name)?.unit;
    const text = (n: number): string => (unit ? inUnit(n, unit) : short(n, 4));
    const parts = [
      ["least", sorted[0] as number],
      ["median", quantile(sorted, 0.5)],
      ["95 %", quantile(sorted, 0.95)],
      ["most", sorted.at(-1) as number],
    ] as const;
    return ` ${number(values.length)} values: ${parts.map(([word, n]) => `${word} ${text(n)}`).join(", ")}`;
  }

  /** Draw again where the size or the colours have changed. */
  draw(): void {
    if (this.open) for (const chart of this.drawn) chart.draw();
  }
}

/** A bar for each whole number. */
function counted(values: Float64Array, min: number, max: number): Bin[] {
  const out = Array.from({ length: max - min + 1 }, (_, i) => ({ low: min + i - 0.5, high: min + i + 0.5, n: 0 }));
  for (const value of values) (out[value - min] as Bin).n++;
  return out;
}

function fill(select: HTMLSelectElement, columns: Column[], usual: Column | undefined): void {
  const before = select.value;
  select.replaceChildren(...columns.map(({ name }) => h("option", { value: name }, name)));
  select.value = columns.some(({ name }) => name === before) ? before : (usual?.name ?? columns[0]?.name ?? "");
}
