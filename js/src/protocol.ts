/** Types of what Python sends and takes: a mirror of flyte_nb/views/browser/rows.py, patches.py, replies.py. */

export const PROTOCOL = 1;

/** All times are seconds since the run began. */
export interface Header {
  run: string;
  title: string;
  kind: string;
  phase: number;
  epoch: number;
  counts: number[];
  total: number;
  /** Parents whose groups stand at the top of the tree. */
  roots: string[];
  ended?: number;
  prompt?: number;
  /** The notebook's id of its cell. */
  cell?: string;
  recovers?: string;
  /** The run of the same cell before this one. */
  before?: string;
  error?: string;
  rate?: number;
  eta?: number;
  /** How much of it is done, from 0 to 1, where that is known. */
  share?: number;
}

/** What a condition wants to know. */
export interface Asks {
  type: "bool" | "int" | "float" | "str";
  prompt: string;
  about?: string;
}

export interface Row {
  name: string;
  id: number;
  parent: string;
  group: string;
  index: number;
  label: string;
  phase: number;
  queued: number;
  started?: number;
  ended?: number;
  /** Seconds in which it was executed, where that is not all of the time since it started. */
  ran?: number;
  /** Seconds since it started in which it was not, of one that is executed now: somebody's, or between two attempts. */
  away?: number;
  kind?: string;
  worker?: number;
  attempt?: number;
  of?: number;
  cached?: boolean;
  note?: string;
  error?: string;
  preview?: string;
  kids?: number;
  asks?: Asks;
}

export interface GroupRow {
  key: string;
  parent: string;
  label: string;
  n: number;
  counts: number[];
  queued: number;
  named?: boolean;
  /** Arguments that all its calls share: "X=<DataFrame 569x30>". */
  shared?: string;
  ended?: number;
  /** How far its members are together, while some go on. */
  progress?: string;
}

export interface ErrorFold {
  key: string;
  n: number;
  text: string;
  where: string;
  name: string;
  id: number;
  label: string;
  /** What these calls share, and none that succeeded: "fold=3". */
  common?: string;
}

/** [action name, seconds, stream, text] */
export type WireLine = [string, number, string, string];
export type Labels = Record<string, [number, string]>;

export interface Picture {
  kind: "replay" | "patch";
  v: number;
  seq: number;
  now: number;
  small: boolean;
  run: Header;
  rows: Row[];
  groups: GroupRow[];
  phases?: { key: string; at: number; n: number }[];
  errors?: ErrorFold[];
  logs?: { lines: WireLine[]; labels: Labels; skipped: number; total: number };
  /** [action name, tab] of reports that changed. */
  reports?: [string, string][];
}

export interface Reply {
  kind: "reply";
  to: string;
  error?: string;
  text?: string;
  [key: string]: unknown;
}

export interface Notice {
  kind: "notice";
  text: string;
  error: boolean;
}

export type Message = Picture | Reply | Notice | { kind: "final" };

export interface Log {
  head: WireLine[];
  hidden: number;
  tail: WireLine[];
  total: number;
}

/** Head, rows and size of a data frame or an array; `index`: the first column names the rows. */
export interface Table {
  head: string[];
  rows: string[][];
  said: string;
  index?: boolean;
}

export interface Value {
  text: string;
  table?: Table;
  html?: string;
  png?: string;
}

export interface ErrorNote {
  kind: string;
  code: string;
  message: string;
  where: string;
}

export interface Attempt {
  number: number;
  started: number | null;
  ended: number | null;
  /** "w0". */
  worker: string;
  address: string;
  pid: number;
  slot: string;
  /** Seconds in which it held its slot; 0 while it runs. */
  busy: number;
  /** What it used, 0 where it was not measured: CPU seconds, largest size of its process, bytes of arguments and result. */
  cpu: number;
  memory: number;
  taken: number;
  given: number;
  ok: boolean | null;
  error: ErrorNote | null;
}

/** A part of a time: its key, what it is called, its seconds. */
export type Part = [string, string, number];

/** Where the time of a run went, by the chain of actions that made it last. */
export interface Timing {
  parts: Part[];
  actions: number;
  /** So few of them made this share of the time. */
  count: number;
  share: number;
  /** What more slots would bring. */
  more: string;
  /** Numbers of the actions of the chain, and their seconds on it; longest first. */
  path: [number, number][];
  /** The first of them, with their labels. */
  named: [number, string, number][];
}

export interface WorkerLoad {
  name: string;
  address: string;
  slots: number;
  state: string;
  /** 1: all of one core. */
  cpu: number;
  memory: number;
  /** 0: none. */
  limit: number;
  spilled: number;
  amiss: string;
  busy: number;
  /** "r3/a17", label, name of the action in its run. */
  runs: [string, string, string][];
}

export interface Frame {
  file: string;
  line: number;
  function: string;
  source: string;
  locals: Record<string, string>;
  user: boolean;
}

export interface Detail {
  name: string;
  id: number;
  task: string;
  label: string;
  /** The label by what differs in its group, with its task's name. */
  short?: string;
  kind: string;
  note: string;
  queued: number;
  started: number | null;
  ended: number | null;
  max_attempts: number;
  cached: boolean;
  /** Where its time went up to `at`, and the key of the part that has grown since. */
  parts?: Part[];
  at?: number;
  grows?: string;
  /** What it waits for. */
  why?: string;
  attempts: Attempt[];
  reports: string[];
  path: [number, string][];
  inputs?: ({ name: string } & Value)[];
  output?: Value;
  error?: ErrorNote;
  failure?: { frames: Frame[]; text: string };
  hints?: { label: string; code: string }[];
  log: Log;
  row: Row;
}

/** What anywidget gives us of the model. */
export interface Model {
  get(key: string): unknown;
  send(content: unknown): void;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
  widget_manager?: { kernel?: Kernel; context?: { isDisposed: boolean } };
}

export interface Kernel {
  clientId?: string;
  username?: string;
  status?: string;
  statusChanged?: {
    connect(slot: (kernel: unknown, status: string) => void): boolean;
    disconnect(slot: (kernel: unknown, status: string) => void): boolean;
  };
  sendControlMessage?(message: unknown, expectReply: boolean, disposeOnDone: boolean): unknown;
}
