/** Detail controller: opens, fetches and closes the panel, and fetches again when its action's phase has changed. */

import type { Detail, Row } from "../../protocol.ts";
import type { Context } from "../context.ts";
import type { RowLookup } from "../lookup.ts";
import type { TreeView } from "../tree.ts";
import { errorText } from "./failure.ts";
import { type DetailHost, DetailView } from "./view.ts";

/** Seconds that a line typed at the debugger may take: it is the user's. */
const DEBUGS_WITHIN = 3_600;

export interface ControllerHost extends Pick<DetailHost, "command" | "openLog" | "signal"> {
  /** Show the view's body, of which the panel is a part. */
  unfold(): void;
  /** Bring a row into view, if the tree is on show. */
  reveal(row: Row): void;
  /** The panel is open, or closed. */
  beside(open: boolean): void;
}

export class DetailController {
  readonly panel: DetailView;
  /** Name of the action that is open, or the "a17" it was asked for by; "" for none. */
  private name = "";
  /** Its phase and attempt when it was drawn; "" before. */
  private drawn = "";

  constructor(
    private readonly view: Context,
    private readonly tree: TreeView,
    private readonly lookup: RowLookup,
    private readonly host: ControllerHost,
  ) {
    const { model, transport, notices } = view;
    this.panel = new DetailView(model, {
      ...host,
      close: () => this.close(),
      ask: async (op, args) => (await transport.request(op, args)).reply.text ?? "done",
      why: async (action) => String((await transport.request("why", { action })).reply.why ?? ""),
      report: async (action, tab) => String((await transport.request("report", { action, tab })).reply.html ?? ""),
      debug: async (action, line) => {
        const args = line === undefined ? { action } : { action, line };
        const { reply } = await transport.request("debug", args, undefined, DEBUGS_WITHIN);
        return { text: reply.text ?? "", state: String(reply.state ?? "left") };
      },
      openNumber: (id) => this.openNumber(id),
      copy: (text) => notices.copy(text),
    });
  }

  /** The row of the action that is open. */
  get row(): Row | undefined {
    return this.view.model.rows.get(this.name);
  }

  open(row: Row): void {
    this.openName(row.name, row);
  }

  /** `toggle`: close it if it is open. */
  openNumber(id: number, toggle = true): void {
    const row = this.view.model.rowByNumber(id);
    if (toggle || this.row?.id !== id) this.openName(row?.name ?? `a${id}`, row);
    if (row) this.host.reveal(row);
  }

  openPlace(group: string, index: number): void {
    this.lookup.byPlace(group, index, (row) => this.open(row));
  }

  /** Open an action, or close it if it is open. */
  private openName(name: string, row: Row | undefined): void {
    if (this.name === name && this.panel.open) {
      this.close();
      return;
    }
    this.host.unfold();
    this.host.beside(true);
    this.name = name;
    this.tree.selected = name;
    this.panel.waiting(row, name);
    this.fetch(name);
    this.view.schedule();
  }

  private fetch(name: string): void {
    this.view.transport.request("detail", { action: name }).then(
      ({ reply }) => {
        const detail = reply.detail as Detail;
        this.view.model.takeRow(detail.row);
        if (this.name !== name && this.name !== detail.name) return;
        this.name = detail.name;
        this.tree.selected = detail.name;
        this.drawn = this.phase;
        this.panel.draw(detail);
        this.view.schedule();
      },
      (error: Error) => {
        if (this.name === name && error.message !== "closed") this.panel.failed(error);
      },
    );
  }

  /** Copy the whole error of an action, from wherever it is; `known`: its one line, if no more can be had. */
  copyError(name: string, known: string): void {
    const { notices, transport } = this.view;
    transport.request("detail", { action: name }).then(
      ({ reply }) => notices.copy(errorText(reply.detail as Detail) || known),
      () => notices.copy(known),
    );
  }

  private get phase(): string {
    const { row } = this;
    return row ? `${row.phase}/${row.attempt}` : "";
  }

  /** Fetch again if the phase has changed since. */
  refresh(): void {
    const { phase } = this;
    if (!this.panel.open || !this.name || !this.drawn || !phase || phase === this.drawn) return;
    this.drawn = phase;
    this.fetch(this.name);
  }

  /** The kernel is gone: what is on show stays, without buttons. */
  lost(): void {
    if (this.panel.open) this.panel.lost();
  }

  close(): void {
    this.panel.hide();
    this.host.beside(false);
    this.name = "";
    this.drawn = "";
    this.tree.selected = "";
    this.tree.focus();
    this.view.schedule();
  }
}
