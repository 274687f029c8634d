/** Body of a view: tabs with tree, table, log and time axis, the query bar above them, the panel of an action beside them. */

import { number } from "../format.ts";
import type { SegmentWord } from "../phases.ts";
import type { Row, Timing } from "../protocol.ts";
import { Columns } from "./columns.ts";
import type { Context } from "./context.ts";
import { DetailController } from "./detail/controller.ts";
import { h } from "./dom.ts";
import { ErrorsView } from "./errors.ts";
import type { Seen } from "./interest.ts";
import { LogFetcher } from "./logfetch.ts";
import { type LogQuery, LogView } from "./logs.ts";
import { RowLookup } from "./lookup.ts";
import { Palette } from "./palette.ts";
import { QueryBar } from "./query.ts";
import { TableView } from "./table/table.ts";
import { type Tab, Tabs } from "./tabs.ts";
import { parseTimeline, TimelineView } from "./timeline.ts";
import { TimingLine } from "./timing.ts";
import { waitingTips } from "./tips.ts";
import { TreeView } from "./tree.ts";

export interface BodyHost {
  command(op: string, args: Record<string, unknown>): void;
  /** Show the body, from now on. */
  unfold(): void;
  /** What is on screen may have changed. */
  looked(): void;
}

export class Body {
  readonly el: HTMLElement;
  readonly tree: TreeView;
  readonly query: QueryBar;
  readonly details: DetailController;
  readonly fetcher: LogFetcher;
  private readonly tabs: Tabs;
  private readonly errors: ErrorsView;
  private readonly logs: LogView;
  private readonly timeline: TimelineView;
  private readonly table: TableView;
  private readonly palette: Palette;
  private readonly columns: Columns;
  private readonly timing: TimingLine;
  private readonly left = h("div", { class: "fnb-left" });
  private readonly split: HTMLElement;
  private wasRunning = false;

  constructor(
    private readonly view: Context,
    uid: string,
    private readonly host: BodyHost,
  ) {
    const { model } = view;
    const lookup = new RowLookup(view);
    const openNumber = (id: number): void => this.details.openNumber(id);
    const signal = (row: Row, value: string): void => host.command("signal", { action: row.name, value });
    this.errors = new ErrorsView({
      openNumber,
      list: (fold) => this.query.listFold(fold),
      copy: (fold) => this.details.copyError(fold.name, fold.text),
    });
    this.tree = new TreeView(
      model,
      {
        peek: (key, index, then) => lookup.byPlace(key, index, (row) => then(row.label)),
        open: (key, index) => this.details.openPlace(key, index),
        colors: () => this.palette.colors,
        select: (row, group, index) => {
          if (row) this.details.open(row);
          else if (group !== undefined && index !== undefined) this.details.openPlace(group, index);
        },
        signal,
        tabulate: (key) => this.tabulate(key),
        looked: () => host.looked(),
      },
      uid,
    );
    this.fetcher = new LogFetcher(view);
    this.logs = new LogView(model, {
      search: (wanted) => this.searchLogs(wanted),
      download: (action) => this.fetcher.download(action),
      reload: () => this.fetcher.load(),
      openNumber: (id) => this.details.openNumber(id, false),
    });
    this.timeline = new TimelineView(model, {
      fetch: () => this.fetchTimeline(),
      openNumber,
      labelOfNumber: (id, then) => lookup.byNumber(id, (row) => then(row.label)),
    });
    this.details = new DetailController(view, this.tree, lookup, {
      command: (op, args) => host.command(op, args),
      openLog: (detail, at) => {
        this.show("logs");
        this.logs.showAction(detail.name, detail.short ?? detail.label, detail.log, at);
      },
      signal,
      unfold: () => host.unfold(),
      reveal: (row) => this.tabs.current === "tree" && this.tree.reveal(row),
      beside: (open) => this.makeRoom(open),
    });
    this.query = new QueryBar(view, this.tree);
    waitingTips(view, this.tree);
    this.timing = new TimingLine({
      fetch: async () => (await view.transport.request("timing")).reply as unknown as Timing,
      list: (numbers) => {
        this.show("tree");
        this.query.listOnly(numbers);
      },
      open: openNumber,
    });
    this.columns = new Columns((by) => this.query.sortBy(by));
    this.table = new TableView(view, { openNumber, selected: () => this.details.row?.id ?? -1 }, uid);
    const panes = {
      tree: [this.errors.el, this.columns.el, this.tree.el],
      table: [this.table.el],
      logs: [this.logs.el],
      timeline: [this.timeline.el],
    };
    this.tabs = new Tabs(uid, panes, (tab) => this.show(tab));
    this.left.append(...Object.values(this.tabs.panes));
    this.split = h("div", { class: "fnb-split" }, this.left, this.details.panel.el);
    this.el = h(
      "div",
      { class: "fnb-body", hidden: true },
      h("div", { class: "fnb-tabs" }, this.tabs.list, h("span", { class: "fnb-space" }), this.query.els),
      this.split,
      this.timing.el,
    );
    this.palette = new Palette(this.el, () => view.schedule());
    this.select("tree");
  }

  /** The panel opens, or closes: the list beside it takes its height, and is never less tall than it was. */
  private makeRoom(open: boolean): void {
    const height = this.left.offsetHeight;
    if (open === this.split.classList.contains("fnb-beside")) return;
    this.split.classList.toggle("fnb-beside", open);
    this.split.style.minHeight = open ? `${height}px` : "";
  }

  get treePane(): HTMLElement {
    return this.tabs.panes.tree;
  }

  /** Unfold the body and show a tab, fetching what it needs. */
  show(tab: Tab): void {
    this.host.unfold();
    this.select(tab);
    if (tab === "table") this.table.open();
    if (tab === "logs") this.fetcher.load();
    if (tab === "timeline") this.fetchTimeline();
    this.view.schedule();
  }

  /** Show the calls of a group as a table. */
  private tabulate(key: string): void {
    this.host.unfold();
    this.select("table");
    this.table.openGroup(key);
    this.view.schedule();
  }

  private select(tab: Tab): void {
    this.tabs.select(tab);
    this.query.show(tab === "tree");
  }

  /** Show only the actions of a segment, or all again. */
  filter(word: SegmentWord): void {
    this.show("tree");
    this.query.filter(word);
  }

  expandAll(open: boolean): void {
    this.show("tree");
    this.tree.expandAll(open);
  }

  /** Go to the field that filters actions, or searches the log. */
  search(): void {
    this.host.unfold();
    if (this.tabs.current === "logs") this.logs.focus();
    else {
      this.show("tree");
      this.query.focus();
    }
  }

  private searchLogs(wanted: LogQuery): void {
    this.fetcher.search(wanted, (log) => this.logs.found(wanted, log));
  }

  private fetchTimeline(): void {
    const { transport, notices } = this.view;
    const window = this.timeline.wanted;
    transport
      .request("timeline", window ? { from: window[0], to: window[1] } : {})
      .then(({ reply, buffers }) => this.timeline.take(parseTimeline(reply, buffers)), notices.failed);
  }

  /** Draw the tab on show. */
  draw(): void {
    const { model } = this.view;
    const tab = this.tabs.current;
    this.errors.draw(model);
    this.timing.draw(model);
    this.columns.draw(this.query.sorted);
    this.tabs.setNote("logs", model.logTotal ? number(model.logTotal) : "");
    if (tab === "tree") this.tree.draw();
    else if (tab === "table") this.table.draw();
    else if (tab === "logs") this.logs.draw();
    else this.timeline.draw();
  }

  /** Draw what only the clock changes. `open`: whether the body is on show. */
  tick(open: boolean): void {
    if (open && this.tabs.current === "tree") this.tree.tick();
    if (this.details.panel.open) this.details.panel.tick();
  }

  /** Ask again for what Python does not send by itself. */
  refresh(open: boolean): void {
    // Once more after the end: what was drawn last was a moment before it.
    const { running } = this.view.model;
    const last = this.wasRunning && !running;
    this.wasRunning = running;
    if (!(running || last) || !open) return;
    const tab = this.tabs.current;
    if (tab === "table" && last) this.table.ended();
    if (tab === "timeline") this.fetchTimeline();
    if (tab === "logs" && this.logs.wanted) this.searchLogs(this.logs.wanted);
    if (tab === "tree" && this.query.active) this.query.run();
  }

  /** What is on screen of it, where it is `open`, and the action in the panel. */
  seen(open: boolean): Seen {
    const tab = this.tabs.current;
    const rows = open && tab === "tree" ? this.tree.interest() : { open: [], ranges: [], numbers: [] };
    const selected = this.details.row;
    return {
      ...rows,
      numbers: selected ? [...rows.numbers, selected.id] : rows.numbers,
      logs: open && tab === "logs",
    };
  }

  remounted(): void {
    if (this.tabs.current === "logs") this.logs.remounted();
  }

  destroy(): void {
    this.palette.destroy();
    this.tree.destroy();
    this.logs.destroy();
    this.table.destroy();
  }
}
