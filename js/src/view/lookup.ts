/** Look-up of rows that this browser was not sent, by place in a group or by number: for tool tips, and to open them. */

import type { Detail, Reply, Row } from "../protocol.ts";
import type { Context } from "./context.ts";

/** Milliseconds that the pointer rests on a heat cell, or a span, before its row is asked for. */
const REST_ON_CELL = 60;
const REST_ON_SPAN = 120;

export class RowLookup {
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly view: Context) {}

  byPlace(group: string, index: number, then: (row: Row) => void): void {
    const known = this.view.model.rowAt(group, index);
    if (known) then(known);
    else this.ask(REST_ON_CELL, "peek", { group, index }, (reply) => reply.row as Row, then);
  }

  byNumber(id: number, then: (row: Row) => void): void {
    const known = this.view.model.rowByNumber(id);
    if (known) then(known);
    else this.ask(REST_ON_SPAN, "detail", { action: `a${id}` }, (reply) => (reply.detail as Detail).row, then);
  }

  /** Only the last question is asked: the pointer has left what it was over before. */
  private ask(
    rest: number,
    op: string,
    args: Record<string, unknown>,
    rowOf: (reply: Reply) => Row,
    then: (row: Row) => void,
  ): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.view.transport.request(op, args).then(
        ({ reply }) => {
          const row = rowOf(reply);
          this.view.model.takeRow(row);
          then(row);
        },
        () => undefined, // A tool tip that stays without its label is no reason for a message.
      );
    }, rest);
  }
}
