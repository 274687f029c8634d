/** Source of the table: its pages, columns, texts and numbers, fetched from Python when they are wanted. */

import { bytes } from "../../model.ts";
import type { Context } from "../context.ts";

/** Rows of a page. */
const PAGE = 100;
/** Pages kept; the one that was fetched longest ago goes first. */
const MAX_PAGES = 60;
/** Milliseconds between two looks at a table that is still being read. */
const READ_ON = 100;

export type Cell = string | number | boolean | null;

export interface Column {
  name: string;
  of: "fact" | "input" | "result";
  /** "s" for seconds, "B" for bytes. */
  unit: string;
  numeric: boolean;
  /** Different values: 0, 1, or more. */
  varies: number;
}

/** [scope, words, rows] */
export type Scope = [string, string, number];

/** What is wanted of the table. */
export interface Wanted {
  /** Undefined: what Python thinks is of most interest. */
  scope: string | undefined;
  text: string;
  sort: string;
  desc: boolean;
  /** Columns on show; none: all. */
  names: string[];
}

interface Page {
  rows: Cell[][];
  ids: number[];
}

export interface Axis {
  name: string;
  values: Float64Array;
  /** Names of categories; none where the values are numbers. */
  texts: string[];
}

export interface Plotted {
  ids: Uint32Array;
  axes: Axis[];
  total: number;
}

export class TableSource {
  columns: Column[] = [];
  scopes: Scope[] = [];
  /** Columns in the order of the cells. */
  names: string[] = [];
  /** Rows that match, that have been read, that there will be, beyond what is read, and whose actions went on. */
  found = 0;
  read = 0;
  total = 0;
  leftOut = 0;
  going = 0;
  /** Whether an answer has come. */
  known = false;
  wanted: Wanted = { scope: undefined, text: "", sort: "", desc: false, names: [] };
  private pages = new Map<number, Page>();
  private asked = new Set<number>();
  /** Counts the tables asked for: an answer to an earlier one is not taken. */
  private serial = 0;

  constructor(
    private readonly view: Context,
    /** Called when something has come. `head`: also the columns. */
    private readonly came: (head: boolean) => void,
  ) {}

  /** Have another table, or the same one as it is now. */
  load(change: Partial<Wanted> = {}, fresh = false): void {
    this.wanted = { ...this.wanted, ...change };
    this.serial++;
    this.asked.clear();
    this.ask(0, true, fresh);
  }

  /** The cells of a row, and its action's number; undefined while they are fetched. */
  row(index: number): { cells: Cell[]; id: number } | undefined {
    const at = Math.floor(index / PAGE);
    const page = this.pages.get(at);
    if (!page) {
      if (index < this.found) this.ask(at, false, false);
      return undefined;
    }
    const cells = page.rows[index % PAGE];
    const id = page.ids[index % PAGE];
    return cells && id !== undefined ? { cells, id } : undefined;
  }

  private get args(): Record<string, unknown> {
    const { scope, ...rest } = this.wanted;
    return scope === undefined ? rest : { scope, ...rest };
  }

  private ask(page: number, head: boolean, fresh: boolean): void {
    if (this.asked.has(page) || this.view.model.lost) return;
    this.asked.add(page);
    const { serial } = this;
    const args = { ...this.args, start: page * PAGE, stop: (page + 1) * PAGE, head, fresh };
    this.view.transport.request("table", args).then(
      ({ reply }) => {
        if (serial === this.serial) this.take(page, head, reply as unknown as Answer);
      },
      (error: Error) => {
        this.asked.delete(page);
        this.view.notices.failed(error);
      },
    );
  }

  private take(page: number, head: boolean, answer: Answer): void {
    if (head) {
      this.pages.clear();
      this.asked = new Set([page]);
      this.wanted.scope = answer.scope;
      this.columns = answer.columns ?? [];
      this.scopes = answer.scopes ?? [];
      this.known = true;
    }
    this.names = answer.names;
    this.found = answer.found;
    this.read = answer.read;
    this.total = answer.total;
    this.leftOut = answer.left_out;
    this.going = answer.going;
    this.pages.set(page, answer);
    const oldest = this.pages.keys().next().value;
    if (this.pages.size > MAX_PAGES && oldest !== undefined) {
      this.pages.delete(oldest);
      this.asked.delete(oldest);
    }
    this.came(head);
    const { serial } = this;
    if (head && this.read < this.total)
      setTimeout(() => {
        if (serial === this.serial) this.load();
      }, READ_ON);
  }

  /** The whole table as text. */
  async text(tabs: boolean): Promise<string> {
    const parts: Uint8Array[] = [];
    await this.view.transport.request("table_text", { ...this.args, tabs }, (_reply, buffers) => {
      if (buffers[0]) parts.push(bytes(buffers[0]).slice());
    });
    return await new Blob(parts as BlobPart[]).text();
  }

  /** Values of some columns, of the rows that match. */
  async plot(names: string[]): Promise<Plotted> {
    const { reply, buffers } = await this.view.transport.request("plot", { ...this.args, names });
    const whole = buffers.map((each) => bytes(each).slice().buffer);
    const axes = reply.axes as { name: string; texts: string[] }[];
    return {
      ids: new Uint32Array(whole[0] ?? new ArrayBuffer(0)),
      axes: axes.map((axis, i) => ({ ...axis, values: new Float64Array(whole[i + 1] ?? new ArrayBuffer(0)) })),
      total: Number(reply.total),
    };
  }
}

interface Answer extends Page {
  names: string[];
  found: number;
  read: number;
  total: number;
  left_out: number;
  going: number;
  scope: string;
  columns?: Column[];
  scopes?: Scope[];
}
