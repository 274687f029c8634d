/** Table of a run's calls: arguments, results and times as columns; sorted, filtered, copied, plotted. */

import { number } from "../../format.ts";
import type { Context } from "../context.ts";
import { h, save, setAttr, setText, show } from "../dom.ts";
import { Popover } from "../popover.ts";
import { Grid } from "./grid.ts";
import { PlotView } from "./plot.ts";
import { type Column, TableSource } from "./source.ts";

/** Milliseconds after a key before the table is filtered. */
const TYPED = 200;
/** Columns on show at first. */
const MAX_SHOWN = 16;
/** Facts that are of interest only where they differ, or not at first. */
const ALWAYS = ["id", "running"];
const SELDOM = ["queued", "suspended", "group", "cpu", "memory", "bytes_in", "bytes_out"];
const ALL = "all";

export interface TableHost {
  openNumber(id: number): void;
  selected(): number;
}

export class TableView {
  readonly el: HTMLElement;
  private readonly source: TableSource;
  private readonly grid: Grid;
  private readonly plot: PlotView;
  private readonly scope: HTMLSelectElement;
  private readonly search: HTMLInputElement;
  private readonly said = h("span", { class: "fnb-muted fnb-tabsaid", role: "status" });
  private readonly refresh: HTMLButtonElement;
  private readonly plotting: HTMLButtonElement;
  private timer: ReturnType<typeof setTimeout> | null = null;
  /** Columns that the reader has put on show or away. */
  private readonly chosen = new Map<string, boolean>();
  private counted = 0;

  constructor(
    private readonly view: Context,
    host: TableHost,
    uid: string,
  ) {
    this.source = new TableSource(view, (head) => this.came(head));
    this.grid = new Grid(
      this.source,
      { open: (id) => host.openNumber(id), sort: (name) => this.sort(name), selected: () => host.selected() },
      uid,
    );
    this.plot = new PlotView(view, this.source, {
      openNumber: (id) => host.openNumber(id),
      filter: (text) => {
        this.search.value = text;
        this.source.load({ text });
      },
    });
    this.scope = h("select", {
      class: "fnb-input fnb-scope",
      "aria-label": "Calls in the table",
      "data-testid": "fnb-scope",
      onchange: () => this.setScope(this.scope.value === ALL ? "" : this.scope.value),
    });
    this.search = h("input", {
      class: "fnb-input fnb-search",
      type: "search",
      placeholder: "Filter: loss<0.1",
      "aria-label": "Filter the table by text, or by a column: loss<0.1",
      title: "Words, or columns compared: loss<0.1 depth=3",
      "data-testid": "fnb-tablesearch",
      oninput: () => this.typed(),
    });
    this.refresh = h(
      "button",
      { class: "fnb-btn", type: "button", hidden: true, onclick: () => this.load(true) },
      "Refresh",
    );
    this.plotting = h(
      "button",
      {
        class: "fnb-btn",
        type: "button",
        "aria-pressed": "false",
        "data-testid": "fnb-plot",
        onclick: () => this.togglePlot(),
      },
      "Plot",
    );
    const columns = new Popover("Columns", () => this.columnChoices(), "fnb-columns");
    const copy: Popover = new Popover("Copy", () => this.copyChoices(copy), "fnb-copytable");
    this.el = h(
      "div",
      { class: "fnb-tableview" },
      h(
        "div",
        { class: "fnb-tools" },
        this.scope,
        this.search,
        this.said,
        h("span", { class: "fnb-space" }),
        this.refresh,
        this.plotting,
        columns.button,
        copy.button,
        columns.el,
        copy.el,
      ),
      this.plot.el,
      this.grid.el,
    );
  }

  /** The tab is on show: fetch the table as it is now. */
  open(): void {
    this.load(true);
  }

  /** Show the table of a group, and how its times and results are distributed. */
  openGroup(key: string): void {
    this.search.value = "";
    this.chosen.clear();
    this.source.load({ scope: `g:${key}`, text: "", sort: "", desc: false, names: [] }, true);
    this.counted = this.count;
    this.grid.toTop();
    if (!this.plot.open) this.togglePlot();
    this.plot.histograms();
  }

  private load(fresh: boolean): void {
    this.counted = this.count;
    this.source.load({}, fresh);
  }

  /** What tells that there is news: how many actions there are, and how many have ended. */
  private get count(): number {
    const { header } = this.view.model;
    return header ? header.counts.reduce((sum, n, code) => sum + n * (code + 1), 0) : 0;
  }

  private setScope(scope: string): void {
    this.chosen.clear();
    this.grid.toTop();
    this.source.load({ scope, sort: "", desc: false, names: [] });
  }

  private typed(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.grid.toTop();
      this.source.load({ text: this.search.value });
    }, TYPED);
  }

  /** By a column upwards, downwards, then as the calls came. */
  private sort(name: string): void {
    const { sort, desc } = this.source.wanted;
    const next = sort !== name ? { sort: name, desc: false } : desc ? { sort: "", desc: false } : { sort, desc: true };
    this.grid.toTop();
    this.source.load(next);
  }

  // -- what has come ----------------------------------------------------------------------------------------------

  private came(head: boolean): void {
    if (!head) {
      this.grid.draw();
      return;
    }
    const names = this.shown().map(({ name }) => name);
    if (names.join("\n") !== this.source.wanted.names.join("\n")) {
      this.source.load({ names }); // the cells of all columns are not wanted
      return;
    }
    this.drawScopes();
    this.grid.layout();
    this.plot.columnsCame();
    this.draw();
  }

  private drawScopes(): void {
    const { scopes, wanted } = this.source;
    const options = [[ALL, "All calls", 0] as const, ...scopes].map(([value, words, n]) =>
      h("option", { value }, n ? `${words} × ${number(n)}` : words),
    );
    this.scope.replaceChildren(...options);
    this.scope.value = wanted.scope || ALL;
  }

  private shown(): Column[] {
    const { columns } = this.source;
    const usual = columns.filter((column) => this.chosen.get(column.name) ?? this.isUsual(column));
    return this.chosen.size ? usual : usual.slice(0, MAX_SHOWN);
  }

  private isUsual(column: Column): boolean {
    if (ALWAYS.includes(column.name)) return true;
    // What all calls have in common is the same in every row.
    if (column.of === "input") return column.varies > 1 || this.source.total === 1;
    if (column.of === "result") return column.varies > 0;
    if (SELDOM.includes(column.name)) return false;
    return column.name === "error" ? column.varies > 0 : column.varies > 1;
  }

  draw(): void {
    const { source } = this;
    const { found, read, total, leftOut, going, wanted } = source;
    const parts = [
      wanted.text ? `${number(found)} of ${number(read)} rows` : `${number(found)} row${found === 1 ? "" : "s"}`,
      read < total ? `reading ${number(total)}…` : "",
      leftOut ? `${number(leftOut)} more: run.to_pandas()` : "",
      going ? `${number(going)} not ended yet` : "",
    ];
    const { lost } = this.view.model;
    const unknown = lost ? "The kernel is gone." : "Reading…";
    setText(this.said, source.known ? parts.filter(Boolean).join(" · ") : unknown);
    show(this.refresh, source.known && !lost && this.count !== this.counted);
    this.grid.draw();
    this.plot.draw();
  }

  /** The run has ended: what was read before is outdated. */
  ended(): void {
    if (this.count !== this.counted || this.source.going) this.load(true);
  }

  // -- choices ----------------------------------------------------------------------------------------------------

  private togglePlot(): void {
    this.plot.toggle();
    setAttr(this.plotting, "aria-pressed", String(this.plot.open));
    this.view.schedule();
  }

  private columnChoices(): HTMLElement[] {
    const shown = new Set(this.source.names);
    return this.source.columns.map(({ name }) => {
      const box = h("input", { type: "checkbox" });
      box.checked = shown.has(name);
      box.addEventListener("change", () => {
        for (const column of this.source.columns)
          if (!this.chosen.has(column.name)) this.chosen.set(column.name, shown.has(column.name));
        this.chosen.set(name, box.checked);
        this.source.load({ names: this.shown().map((column) => column.name) });
      });
      return h("label", { class: "fnb-choice" }, box, name);
    });
  }

  private copyChoices(menu: Popover): HTMLElement[] {
    const item = (label: string, run: () => Promise<void>): HTMLElement =>
      h(
        "button",
        {
          class: "fnb-menuitem",
          type: "button",
          onclick: () => {
            menu.close();
            run().catch(this.view.notices.failed);
          },
        },
        label,
      );
    return [
      item("Copy for a spreadsheet (TSV)", () => this.copy(true)),
      item("Copy as CSV", () => this.copy(false)),
      item("Download CSV", async () => this.save(await this.source.text(false), "csv")),
    ];
  }

  private async copy(tabs: boolean): Promise<void> {
    const text = await this.source.text(tabs);
    try {
      await navigator.clipboard.writeText(text);
      this.view.notices.say(`Copied ${number(this.source.found)} rows as ${tabs ? "TSV" : "CSV"}`, false);
    } catch {
      this.save(text, tabs ? "tsv" : "csv"); // a page without a clipboard
    }
  }

  private save(text: string, ending: string): void {
    const run = this.view.model.header?.run ?? "run";
    save(`${run}.${ending}`, [text]);
  }

  destroy(): void {
    if (this.timer) clearTimeout(this.timer);
    this.grid.destroy();
  }
}
