/** Query bar: search, sort order, filter by state and by error. What Python finds replaces the tree. */

import { number } from "../format.ts";
import { bytes } from "../model.ts";
import { SEGMENTS, type SegmentWord } from "../phases.ts";
import type { ErrorFold, Row } from "../protocol.ts";
import type { Context } from "./context.ts";
import { h, setText, show } from "./dom.ts";
import type { TreeView } from "./tree.ts";

const SORTS = {
  order: "In order",
  state: "Failed first",
  "-duration": "Slowest first",
  label: "By label",
  task: "By task",
  worker: "By worker",
};

export class QueryBar {
  /** Segments whose actions are shown only. */
  readonly words = new Set<SegmentWord>();
  readonly els: HTMLElement[];
  private readonly found = h("span", { class: "fnb-muted" });
  private readonly clear: HTMLButtonElement;
  private readonly search: HTMLInputElement;
  private readonly sort: HTMLSelectElement;
  private fold: ErrorFold | null = null;
  /** Numbers of the only actions that are listed. */
  private only: Uint32Array | null = null;
  private pending = false;

  constructor(
    private readonly view: Context,
    private readonly tree: TreeView,
  ) {
    this.clear = h("button", {
      class: "fnb-chip",
      type: "button",
      hidden: true,
      title: "Show all actions again",
      onclick: () => this.reset(),
    });
    this.search = h("input", {
      class: "fnb-input fnb-search",
      type: "search",
      placeholder: "Filter",
      "aria-label": "Filter actions by text, task:name, >2s or <50ms",
      title: "Words of a label, task or error; a17; task:name; >2s, <50ms",
      "data-testid": "fnb-search",
      oninput: () => this.changed(),
    });
    this.sort = h(
      "select",
      { class: "fnb-input fnb-sort", "aria-label": "Sort actions", onchange: () => this.changed() },
      Object.entries(SORTS).map(([value, label]) => h("option", { value }, label)),
    );
    this.els = [this.found, this.clear, this.search, this.sort];
  }

  get active(): boolean {
    return (
      this.search.value.trim() !== "" ||
      this.words.size > 0 ||
      this.sort.value !== "order" ||
      this.fold !== null ||
      this.only !== null
    );
  }

  /** Whether it is shown: where nothing else is listed, nothing is filtered. */
  show(visible: boolean): void {
    for (const el of [this.search, this.sort, this.found]) show(el, visible);
    show(this.clear, visible && this.active);
  }

  /** What the list is sorted by; "order": as the calls came. */
  get sorted(): string {
    return this.sort.value;
  }

  sortBy(sort: string): void {
    this.sort.value = sort;
    this.changed();
  }

  focus(): void {
    this.search.focus();
  }

  /** Show only the actions of a segment, or all again. */
  filter(word: SegmentWord): void {
    if (this.words.has(word)) this.words.delete(word);
    else {
      this.words.clear();
      this.words.add(word);
    }
    this.changed();
  }

  listFold(fold: ErrorFold): void {
    this.fold = fold;
    this.changed();
  }

  /** Show only the actions of these numbers, in their order. */
  listOnly(numbers: number[]): void {
    this.reset();
    this.only = Uint32Array.from(numbers);
    this.changed();
  }

  private reset(): void {
    this.only = null;
    this.search.value = "";
    this.sort.value = "order";
    this.words.clear();
    this.fold = null;
    this.changed();
  }

  private changed(): void {
    this.tree.toTop();
    if (this.active) this.run();
    else {
      this.tree.results = null;
      setText(this.found, "");
    }
    show(this.clear, this.active);
    setText(this.clear, this.fold ? `${this.fold.text.slice(0, 40)} ✕` : "Clear ✕");
    this.view.schedule();
  }

  private get args(): Record<string, unknown> {
    const sort = this.sort.value;
    return {
      text: this.search.value,
      states: SEGMENTS.filter(({ word }) => this.words.has(word)).flatMap(({ codes }) => codes),
      sort: sort.replace("-", ""),
      desc: sort.startsWith("-"),
      error: this.fold?.key ?? "",
    };
  }

  /** Ask Python; one request at a time, and again where the query has changed meanwhile. */
  run(): void {
    if (this.only) {
      this.tree.results = this.only;
      this.tree.took = null;
      setText(this.found, `${number(this.only.length)} found`);
      return;
    }
    if (this.pending) return;
    this.pending = true;
    const { args } = this;
    this.view.transport.request("query", args).then(
      ({ reply, buffers }) => {
        this.pending = false;
        if (!this.active) return;
        this.tree.took = buffers[1] ? new Float32Array(bytes(buffers[1]).slice().buffer) : null;
        this.take(reply.rows as Row[], buffers[0], Number(reply.total));
        if (JSON.stringify(this.args) !== JSON.stringify(args)) this.run();
      },
      (error: Error) => {
        this.pending = false;
        this.view.notices.failed(error);
      },
    );
  }

  /** Rows that are drawn at once, numbers of all that is listed, and how many there are. */
  private take(rows: Row[], numbers: DataView | undefined, total: number): void {
    for (const row of rows) this.view.model.takeRow(row);
    const raw = numbers ? bytes(numbers).slice() : new Uint8Array();
    const results = new Uint32Array(raw.buffer, 0, raw.byteLength >> 2);
    this.tree.results = results;
    const shown = total > results.length ? `, first ${number(results.length)} shown` : "";
    setText(this.found, `${number(total)} found${shown}`);
    this.view.schedule();
  }
}
