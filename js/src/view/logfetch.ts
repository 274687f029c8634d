/** Fetches of log lines that this browser does not hold: the merged log, what a search finds, a file to download. */

import { bytes, type LogEntry } from "../model.ts";
import type { Labels, Log } from "../protocol.ts";
import type { Context } from "./context.ts";
import { save } from "./dom.ts";
import type { LogQuery } from "./logs.ts";

/** Milliseconds after a key before its text is searched for. */
const TYPED = 150;

export class LogFetcher {
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly view: Context) {}

  /** Fetch the merged log that Python keeps, in place of what was streamed. */
  load(): void {
    const { model, transport, notices } = this.view;
    transport.request("logs").then(({ reply }) => {
      const log = reply.log as Log;
      model.takeLabels((reply.labels ?? {}) as Labels);
      const entries: LogEntry[] = log.hidden > 0 ? [{ hidden: log.hidden }] : [];
      entries.push(...log.tail.map((line) => ({ line })));
      model.logTotal = log.total;
      model.setLogs(entries);
      this.view.schedule();
    }, notices.failed);
  }

  search(wanted: LogQuery, found: (log: Log) => void): void {
    const { model, transport, notices } = this.view;
    if (this.timer) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      transport.request("logs", { ...wanted }).then(({ reply }) => {
        model.takeLabels((reply.labels ?? {}) as Labels);
        found(reply.log as Log);
      }, notices.failed);
    }, TYPED);
  }

  /** Save the whole log, or one action's, as a file. */
  download(action: string | null): void {
    const parts: Uint8Array[] = [];
    let name = "flyte.log";
    this.view.transport
      .request("download", action ? { action } : {}, (reply, buffers) => {
        name = String(reply.file ?? name);
        if (buffers[0]) parts.push(bytes(buffers[0]).slice());
      })
      .then(() => save(name, parts as BlobPart[]), this.view.notices.failed);
  }
}
