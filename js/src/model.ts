/** Model of one run, from the messages that this browser received. No DOM, no clock but the one given. */

import { isTerminal } from "./phases.ts";
import type { ErrorFold, GroupRow, Header, Labels, Picture, Row, WireLine } from "./protocol.ts";

/** Log lines kept in the browser; older ones are fetched again when wanted. */
const MAX_LINES = 5_000;
/** Rows kept in the browser; rows that are off screen can be asked for again. */
const MAX_ROWS = 20_000;

/** A line, or a gap of lines that were not sent. */
export type LogEntry = { line: WireLine } | { hidden: number };

export const bytes = (view: DataView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

export type Applied = "ok" | "gap" | "old";

export class RunModel {
  seq = -1;
  header: Header | null = null;
  small = true;
  rows = new Map<string, Row>();
  numbered = new Map<number, string>();
  groups = new Map<string, GroupRow>();
  /** Group keys by parent's name, in order of first member. */
  children = new Map<string, string[]>();
  /** Names of members by group key, sparse. */
  members = new Map<string, string[]>();
  phases = new Map<string, Uint8Array>();
  errors: ErrorFold[] = [];
  logs: LogEntry[] = [];
  logTotal = 0;
  /** Counts log entries ever taken: tells a list how many it has not shown. */
  logSerial = 0;
  labels = new Map<string, [number, string]>();
  /** Bumped when the tree's shape or a group's phases may have changed. */
  version = 0;
  /** Whether the kernel is gone: what was under way is known no more. */
  lost = false;
  private now = 0;
  private nowAt = 0;

  constructor(private readonly clock: () => number = () => performance.now() / 1000) {}

  /** Seconds since the run began, by the kernel's clock; stands still once the run ended. */
  elapsed(): number {
    if (this.header?.ended !== undefined) return this.header.ended;
    if (this.lost) return this.now;
    return this.now + (this.clock() - this.nowAt);
  }

  get running(): boolean {
    return this.header !== null && this.header.ended === undefined && !this.lost;
  }

  /** The header as it was when the widget was made, which may be long before the page was. `epoch`: seconds, by this clock. */
  begin(header: Header, epoch: number): void {
    this.header = header;
    this.now = Math.max(0, epoch - header.epoch);
    this.nowAt = this.clock();
  }

  /** The kernel is gone: all clocks stand still. */
  lose(): void {
    this.now = this.elapsed();
    this.lost = true;
  }

  apply(message: Picture, buffers: DataView[]): Applied {
    if (message.kind === "replay") this.clear();
    else if (this.seq < 0 || message.seq > this.seq + 1) return "gap";
    else if (message.seq <= this.seq) return "old";
    this.seq = message.seq;
    this.small = message.small;
    this.header = message.run;
    this.now = message.now;
    this.nowAt = this.clock();
    for (const group of message.groups) this.takeGroup(group);
    for (const row of message.rows) this.takeRow(row);
    message.phases?.forEach((part, i) => {
      const buffer = buffers[i];
      if (buffer) this.takePhases(part.key, part.at, part.n, bytes(buffer));
    });
    if (message.errors) this.errors = message.errors;
    if (message.logs) this.takeLogs(message.logs);
    this.version++;
    return "ok";
  }

  private clear(): void {
    this.rows.clear();
    this.numbered.clear();
    this.groups.clear();
    this.children.clear();
    this.members.clear();
    this.phases.clear();
    this.errors = [];
    this.logs = [];
    this.logSerial = 0;
  }

  takeRow(row: Row): void {
    if (this.rows.size >= MAX_ROWS && !this.rows.has(row.name)) this.forgetRows();
    this.rows.set(row.name, row);
    this.numbered.set(row.id, row.name);
    if (!row.group) return;
    let members = this.members.get(row.group);
    if (!members) {
      members = [];
      this.members.set(row.group, members);
    }
    members[row.index] = row.name;
  }

  /** Evict the rows that were received longest ago. */
  private forgetRows(): void {
    let surplus = MAX_ROWS / 2;
    for (const [name, row] of this.rows) {
      if (surplus-- <= 0) return;
      this.rows.delete(name);
      this.numbered.delete(row.id);
      const members = this.members.get(row.group);
      if (members) delete members[row.index];
    }
  }

  private takeGroup(group: GroupRow): void {
    if (!this.groups.has(group.key)) {
      const siblings = this.children.get(group.parent) ?? [];
      siblings.push(group.key);
      this.children.set(group.parent, siblings);
    }
    this.groups.set(group.key, group);
  }

  private takePhases(key: string, at: number, n: number, part: Uint8Array): void {
    let all = this.phases.get(key);
    if (!all || all.length < n) {
      const grown = new Uint8Array(n);
      if (all) grown.set(all);
      all = grown;
      this.phases.set(key, all);
    }
    all.set(part.subarray(0, Math.max(0, n - at)), at);
  }

  private takeLogs(logs: NonNullable<Picture["logs"]>): void {
    this.logTotal = logs.total;
    this.takeLabels(logs.labels);
    if (logs.skipped > 0) this.push({ hidden: logs.skipped });
    for (const line of logs.lines) this.push({ line });
    if (this.logs.length > MAX_LINES) this.dropOld();
  }

  private push(entry: LogEntry): void {
    const last = this.logs.at(-1);
    if ("hidden" in entry && last && "hidden" in last) last.hidden += entry.hidden;
    else {
      this.logs.push(entry);
      this.logSerial++;
    }
  }

  private dropOld(): void {
    const dropped = this.logs.splice(0, this.logs.length - MAX_LINES + MAX_LINES / 10);
    let hidden = 0;
    for (const entry of dropped) hidden += "hidden" in entry ? entry.hidden : 1;
    const first = this.logs[0];
    if (first && "hidden" in first) first.hidden += hidden;
    else this.logs.unshift({ hidden });
  }

  takeLabels(labels: Labels): void {
    for (const name in labels) {
      const label = labels[name];
      if (label) this.labels.set(name, label);
    }
  }

  /** Replace the merged log by what Python keeps (sent on request). */
  setLogs(entries: LogEntry[]): void {
    this.logs = entries;
    this.logSerial += entries.length + 1;
  }

  labelOf(name: string): string {
    return this.rows.get(name)?.label ?? this.labels.get(name)?.[1] ?? "";
  }

  /** The phase of a row: rows off screen are not sent again, but their group's phase array is. */
  phaseOf(row: Row): number {
    const code = this.phases.get(row.group)?.[row.index];
    return code !== undefined && isTerminal(code) && !isTerminal(row.phase) ? code : row.phase;
  }

  rowAt(key: string, index: number): Row | undefined {
    const name = this.members.get(key)?.[index];
    return name === undefined ? undefined : this.rows.get(name);
  }

  rowByNumber(id: number): Row | undefined {
    const name = this.numbered.get(id);
    return name === undefined ? undefined : this.rows.get(name);
  }

  /** Keys of the groups at the top: of no parent, and of the root action. */
  topGroups(): string[] {
    return (this.header?.roots ?? [""]).flatMap((root) => this.children.get(root) ?? []);
  }
}
