/** Tree as a list of lines, without making a line for each of 100,000 actions: only segments are stored. */

import type { RunModel } from "./model.ts";
import type { GroupRow, Row } from "./protocol.ts";

/** Groups of at most this many members open by themselves. */
const OPEN_UP_TO = 12;
/** Groups nested deeper than this stay closed until asked. */
const OPEN_DEPTH = 5;
/** Groups from this size on have a heat strip. */
const HEAT_FROM = 40;

export type Line =
  | { kind: "group"; id: string; depth: number; group: GroupRow; open: boolean }
  | { kind: "heat"; id: string; depth: number; group: GroupRow }
  | {
      kind: "action";
      id: string;
      depth: number;
      group: string;
      index: number;
      row: Row | undefined;
      open: boolean;
      /** Where it is listed without its group: what was called, and what it took itself. */
      task?: string | undefined;
      took?: number | undefined;
    };

interface Segment {
  start: number;
  count: number;
  /** The line itself, or for a stretch of members: which. */
  line?: Line;
  range?: { group: GroupRow; from: number; depth: number };
}

/** What the reader opened or closed by hand; everything else follows the rule. */
export class Openness {
  private byHand = new Map<string, boolean>();

  isOpen(key: string, byRule: boolean): boolean {
    return this.byHand.get(key) ?? byRule;
  }

  set(key: string, open: boolean): void {
    this.byHand.set(key, open);
  }

  setAll(keys: Iterable<string>, open: boolean): void {
    for (const key of keys) this.byHand.set(key, open);
  }
}

export class FlatTree {
  private segments: Segment[] = [];
  length = 0;
  /** Parents whose groups are shown: Python sends groups of these only. */
  openParents = new Set<string>();

  constructor(
    private readonly model: RunModel,
    private readonly openness: Openness,
  ) {}

  /** Rebuild from the model. Costs the number of open groups and of rows with children, not of actions. */
  build(): void {
    this.segments = [];
    this.length = 0;
    this.openParents = new Set(this.model.header?.roots ?? [""]);
    for (const key of this.model.topGroups()) this.addGroup(key, 0);
  }

  private push(segment: Omit<Segment, "start">): void {
    this.segments.push({ start: this.length, ...segment });
    this.length += segment.count;
  }

  private addGroup(key: string, depth: number): void {
    const group = this.model.groups.get(key);
    if (!group) return;
    const alone = group.n === 1 && !group.named;
    let open = true;
    if (!alone) {
      open = this.openness.isOpen(key, group.n <= OPEN_UP_TO && depth < 2 * OPEN_DEPTH);
      this.push({ count: 1, line: { kind: "group", id: `g:${key}`, depth, group, open } });
      if (group.n >= HEAT_FROM)
        this.push({ count: 1, line: { kind: "heat", id: `h:${key}`, depth: depth + 1, group } });
      depth++;
    }
    if (open) this.addMembers(group, depth);
  }

  /** Members as stretches, cut where one of them has children that are shown. */
  private addMembers(group: GroupRow, depth: number): void {
    const names = this.model.members.get(group.key) ?? [];
    let from = 0;
    // Sparse: visits only members whose row was sent.
    for (const at in names) {
      const index = Number(at);
      if (index >= group.n) break;
      const row = this.model.rows.get(names[index] as string);
      if (!row?.kids) continue;
      if (index > from) this.push({ count: index - from, range: { group, from, depth } });
      const open = this.openness.isOpen(`a:${row.name}`, group.n <= OPEN_UP_TO && depth < 2 * OPEN_DEPTH);
      const line: Line = { kind: "action", id: `a:${row.name}`, depth, group: group.key, index, row, open };
      this.push({ count: 1, line });
      from = index + 1;
      if (!open) continue;
      this.openParents.add(row.name);
      for (const key of this.model.children.get(row.name) ?? []) this.addGroup(key, depth + 1);
    }
    if (group.n > from) this.push({ count: group.n - from, range: { group, from, depth } });
  }

  at(index: number): Line | undefined {
    const segment = this.segments[this.segmentAt(index)];
    if (!segment || index >= segment.start + segment.count) return undefined;
    if (segment.line) return segment.line;
    const { group, from, depth } = segment.range as NonNullable<Segment["range"]>;
    const member = from + index - segment.start;
    const row = this.model.rowAt(group.key, member);
    const id = row ? `a:${row.name}` : `m:${group.key}:${member}`;
    return { kind: "action", id, depth, group: group.key, index: member, row, open: false };
  }

  private segmentAt(index: number): number {
    let low = 0;
    let high = this.segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.segments[middle] as Segment).start <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Lines that are heat strips: the only ones of another height. */
  *heats(): Iterable<[number, Line]> {
    for (const { start, line } of this.segments) if (line?.kind === "heat") yield [start, line];
  }

  /** Where a line of this id is; -1 if it is not shown. Looks at stored segments only, then at one stretch. */
  indexOf(id: string): number {
    for (const { start, line } of this.segments) if (line?.id === id) return start;
    if (id.startsWith("a:")) {
      const row = this.model.rows.get(id.slice(2));
      if (row) return this.indexOfMember(row.group, row.index);
    }
    return -1;
  }

  indexOfMember(key: string, index: number): number {
    for (const { start, count, range, line } of this.segments) {
      if (line?.kind === "action" && line.group === key && line.index === index) return start;
      if (range?.group.key === key && index >= range.from && index < range.from + count)
        return start + index - range.from;
    }
    return -1;
  }

  /** What Python must send for the lines from `first` to `last`: stretches of members. */
  ranges(first: number, last: number): [string, number, number][] {
    const out: [string, number, number][] = [];
    for (let i = Math.max(0, first); i <= last && i < this.length; i++) {
      const line = this.at(i);
      if (line?.kind !== "action") continue;
      const open = out.at(-1);
      if (open && open[0] === line.group && open[2] === line.index) open[2]++;
      else out.push([line.group, line.index, line.index + 1]);
    }
    return out;
  }
}
