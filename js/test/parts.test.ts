/** The parts that a view is made of, one at a time: what they ask Python, and what they make of its answers. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RunModel } from "../src/model.ts";
import { isFailure, isTerminal, P, PHASE_NAMES, phaseWord, SEGMENTS } from "../src/phases.ts";
import type { Header, Picture, Reply, Row } from "../src/protocol.ts";
import type { Context } from "../src/view/context.ts";
import { DetailController } from "../src/view/detail/controller.ts";
import { Interest } from "../src/view/interest.ts";
import { RowLookup } from "../src/view/lookup.ts";
import { Notices } from "../src/view/notices.ts";
import { QueryBar } from "../src/view/query.ts";
import { type Tab, Tabs } from "../src/view/tabs.ts";
import type { TreeView } from "../src/view/tree.ts";

type Answer = { reply: Partial<Reply>; buffers: DataView[] };

/** Remembers what was asked; `answer` answers the oldest question. */
class FakeTransport {
  asked: { op: string; args: Record<string, unknown> }[] = [];
  sent: { op: string; args: Record<string, unknown> }[] = [];
  private waiting: { resolve(answer: Answer): void; reject(error: Error): void }[] = [];

  request(op: string, args: Record<string, unknown> = {}): Promise<Answer> {
    this.asked.push({ op, args });
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }
  send(op: string, args: Record<string, unknown>): void {
    this.sent.push({ op, args });
  }
  async answer(reply: Partial<Reply>, ...buffers: DataView[]): Promise<void> {
    this.waiting.shift()?.resolve({ reply, buffers });
    await Promise.resolve();
  }
  async fail(message: string): Promise<void> {
    this.waiting.shift()?.reject(new Error(message));
    await Promise.resolve();
  }
}

const row = (id: number, more: Partial<Row> = {}): Row => ({
  name: `n${id}`,
  id,
  parent: "a0",
  group: "g",
  index: id - 1,
  label: `work(${id})`,
  phase: P.RUNNING,
  queued: 0,
  ...more,
});

let transport: FakeTransport;
let model: RunModel;
let view: Context;
const tree = () =>
  ({ results: null, selected: "", focus: vi.fn(), reveal: vi.fn(), toTop: vi.fn() }) as unknown as TreeView & {
    selected: string;
  };

beforeEach(() => {
  vi.useFakeTimers();
  transport = new FakeTransport();
  model = new RunModel(() => 0);
  view = { model, transport: transport as never, notices: new Notices(), schedule: vi.fn() };
});
afterEach(() => vi.useRealTimers());

describe("phases", () => {
  it("are what Python says: codes by position, words, ends and failures", () => {
    expect(P.QUEUED).toBe(0);
    expect(phaseWord(P.ABORTED)).toBe("cancelled");
    expect(PHASE_NAMES.filter((name) => isFailure(P[name]))).toEqual(["FAILED", "TIMED_OUT"]);
    expect(PHASE_NAMES.filter((name) => !isTerminal(P[name])).at(-1)).toBe("CANCELLING");
    expect(SEGMENTS.flatMap(({ codes }) => codes).sort((a, b) => a - b)).toEqual(PHASE_NAMES.map((name) => P[name]));
  });
});

describe("the query bar", () => {
  it("asks one question at a time, and the last one at the end", async () => {
    const shown = tree();
    const bar = new QueryBar(view, shown);
    bar.filter("failed");
    bar.filter("done");
    expect(transport.asked).toHaveLength(1);
    const numbers = new DataView(new Uint32Array([7, 9]).buffer);
    await transport.answer({ rows: [row(7)], total: 5 }, numbers);
    expect([...(shown.results ?? [])]).toEqual([7, 9]);
    expect(bar.els[0]?.textContent).toBe("5 found, first 2 shown");
    expect(transport.asked.map(({ args }) => args.states)).toEqual([
      [P.FAILED, P.TIMED_OUT],
      [P.SUCCEEDED, P.RECOVERED],
    ]);
  });

  it("shows the tree again once it is cleared, whatever answer comes then", async () => {
    const shown = tree();
    const bar = new QueryBar(view, shown);
    bar.listFold({ key: "k", n: 3, text: "KeyError", where: "", name: "n1", id: 1, label: "" });
    expect(bar.els[1]?.textContent).toBe("KeyError ✕");
    bar.els[1]?.click();
    await transport.answer({ rows: [], total: 0 });
    expect(bar.active).toBe(false);
    expect(shown.results).toBeNull();
  });
});

describe("a row that was not sent", () => {
  it("is asked for where the pointer rests, not where it passed", async () => {
    const lookup = new RowLookup(view);
    const then = vi.fn();
    lookup.byPlace("g", 3, then);
    lookup.byPlace("g", 4, then);
    vi.advanceTimersByTime(200);
    expect(transport.asked).toEqual([{ op: "peek", args: { group: "g", index: 4 } }]);
    await transport.answer({ row: row(5) });
    expect(then).toHaveBeenCalledOnce();
    lookup.byNumber(5, then);
    expect(then).toHaveBeenCalledTimes(2);
    expect(transport.asked).toHaveLength(1);
  });
});

describe("screen interest", () => {
  const seen = { open: [], ranges: [] as [string, number, number][], numbers: [], logs: false };
  const replay = (small: boolean): Picture => ({
    ...({ kind: "replay", v: 1, seq: 1, now: 0, rows: [], groups: [] } as unknown as Picture),
    small,
    run: { counts: [], total: 0 } as unknown as Header,
  });

  it("is told when it changes, and not for a small run unless its log is read", () => {
    const now = { ...seen };
    const interest = new Interest(view, "v", () => now);
    const look = () => {
      interest.changed();
      interest.changed();
      vi.advanceTimersByTime(200);
    };
    look();
    model.apply(replay(true), []);
    look();
    expect(transport.sent).toEqual([]);
    model.apply(replay(false), []);
    look();
    look();
    now.ranges = [["g", 0, 5]];
    look();
    expect(transport.sent.map(({ args }) => args.ranges)).toEqual([[], [["g", 0, 5]]]);
  });
});

describe("the panel's controller", () => {
  const host = {
    command: vi.fn(),
    openLog: vi.fn(),
    signal: vi.fn(),
    unfold: vi.fn(),
    reveal: vi.fn(),
    beside: vi.fn(),
  };
  const detail = (one: Row) => ({
    ...{ name: one.name, id: one.id, task: "", label: one.label, kind: "task", note: "", queued: 0, started: null },
    ...{ ended: null, max_attempts: 1, cached: false, attempts: [], reports: [], path: [], row: one },
    log: { head: [], hidden: 0, tail: [], total: 0 },
  });

  it("fetches again when the phase changed, and closes what is opened twice", async () => {
    const shown = tree();
    const controller = new DetailController(view, shown, new RowLookup(view), host);
    model.takeRow(row(1));
    controller.openNumber(1);
    expect(host.reveal).toHaveBeenCalledOnce();
    controller.refresh();
    await transport.answer({ detail: detail(row(1)) });
    controller.refresh();
    expect(transport.asked).toHaveLength(1);
    model.takeRow(row(1, { phase: P.FAILED }));
    controller.refresh();
    expect(transport.asked).toHaveLength(2);
    expect(shown.selected).toBe("n1");
    controller.open(row(1));
    expect([controller.panel.open, shown.selected, controller.row]).toEqual([false, "", undefined]);
  });

  it("says in the panel why there is nothing to show", async () => {
    const controller = new DetailController(view, tree(), new RowLookup(view), host);
    controller.openNumber(17);
    await transport.fail("No action a17.");
    expect(controller.panel.el.querySelector("[role=alert]")?.textContent).toBe("No action a17.");
  });
});

describe("tabs", () => {
  it("are moved through with arrow keys, and one of them is selected", () => {
    const opened: Tab[] = [];
    const tabs = new Tabs("v", { tree: [], logs: [], timeline: [] }, (tab) => opened.push(tab));
    tabs.select("tree");
    const press = (key: string) =>
      tabs.list.firstElementChild?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    press("ArrowRight");
    press("ArrowLeft");
    press("x");
    expect(opened).toEqual(["logs", "timeline"]);
    tabs.setNote("logs", "12");
    const state = [...tabs.list.children].map((one) => [one.textContent, one.getAttribute("aria-selected")]);
    expect(state).toEqual([
      ["Tree", "true"],
      ["Logs 12", "false"],
      ["Timeline", "false"],
    ]);
    expect(tabs.panes.logs.hidden).toBe(true);
  });
});

describe("notices", () => {
  it("keep errors, let other messages go, and pass over what the view itself closed", () => {
    const { notices } = view;
    notices.failed(new Error("closed"));
    expect(notices.el.hidden).toBe(true);
    notices.failed(new Error("No such action."));
    vi.advanceTimersByTime(60_000);
    expect([notices.el.hidden, notices.el.classList.contains("fnb-error")]).toEqual([false, true]);
    notices.say("Copied", false);
    vi.advanceTimersByTime(60_000);
    expect(notices.el.hidden).toBe(true);
  });
});
