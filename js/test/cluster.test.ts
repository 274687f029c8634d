/** The strip of workers, the line about a run's time, and tool tips of what waits. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RunModel } from "../src/model.ts";
import { P } from "../src/phases.ts";
import type { Header, Row, Timing, WorkerLoad } from "../src/protocol.ts";
import { ClusterStrip } from "../src/view/cluster.ts";
import type { Context } from "../src/view/context.ts";
import { h } from "../src/view/dom.ts";
import { TimingLine } from "../src/view/timing.ts";
import { waitingTips } from "../src/view/tips.ts";
import type { TreeView } from "../src/view/tree.ts";

const load = (more: Partial<WorkerLoad> = {}): WorkerLoad => ({
  name: "w0",
  address: "tls://127.0.0.1:1",
  slots: 1,
  state: "running",
  cpu: 0.98,
  memory: 310_000_000,
  limit: 2_000_000_000,
  spilled: 0,
  amiss: "",
  busy: 1,
  runs: [["r1/a3", "fit(x)", "n3"]],
  ...more,
});

const settled = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) await Promise.resolve();
};

let seen: (visible: boolean) => void;

beforeEach(() => {
  vi.useFakeTimers();
  document.body.replaceChildren();
  vi.stubGlobal(
    "IntersectionObserver",
    class {
      constructor(callback: (entries: { isIntersecting: boolean }[]) => void) {
        seen = (visible) => callback([{ isIntersecting: visible }]);
      }
      observe(): void {}
      disconnect(): void {}
    },
  );
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("the strip of workers", () => {
  it("asks once a second while it can be seen, and not at all else", async () => {
    const look = vi.fn(() => Promise.resolve({ workers: [load()], said: "" }));
    const strip = new ClusterStrip({ look, open: null, run: () => "", close: null });
    document.body.append(strip.el);
    strip.start();
    await settled();
    expect(look).toHaveBeenCalledTimes(1);
    seen(true);
    await settled();
    for (let i = 0; i < 3; i++) {
      vi.advanceTimersByTime(1_000);
      await settled();
    }
    expect(look).toHaveBeenCalledTimes(5);
    seen(false);
    vi.advanceTimersByTime(10_000);
    expect(look).toHaveBeenCalledTimes(5);
    seen(true);
    await settled();
    expect(look).toHaveBeenCalledTimes(6);
    strip.el.remove();
    vi.advanceTimersByTime(10_000);
    expect(look).toHaveBeenCalledTimes(6);
    document.body.append(strip.el);
    strip.stop();
    vi.advanceTimersByTime(10_000);
    expect(look).toHaveBeenCalledTimes(6);
    expect(strip.el.hidden).toBe(true);
  });

  it("says how busy and full each worker is, what runs there, and what is amiss", () => {
    const open = vi.fn();
    const strip = new ClusterStrip({
      look: () => new Promise(() => {}),
      open,
      run: () => "r1",
      close: () => strip.stop(),
    });
    strip.draw(
      [
        load(),
        load({
          name: "w1",
          memory: 1_700_000_000,
          busy: 0,
          runs: [["r2/a1", "<b>", "n1"]],
          amiss: "It is short of memory",
        }),
        load({ name: "w2", state: "starting", slots: 0, busy: 0, runs: [] }),
      ],
      "",
    );
    const [first, second, third] = [...strip.el.querySelectorAll(".fnb-load")];
    expect(strip.el.querySelector(".fnb-clusterhead")?.textContent).toContain("3 workers, 1 of 2 slots busy");
    expect(first?.textContent).toBe("w0CPU 98 %310 MB of 2.0 GB1/1 slota3 fit(x)");
    expect(second?.querySelector(".fnb-full")?.textContent).toBe("1.7 GB of 2.0 GB");
    expect(second?.textContent).toContain("r2/a1 <b>");
    expect(second?.textContent).toContain("short of memory");
    expect(third?.textContent).toContain("being started");
    first?.querySelector<HTMLElement>("button")?.click();
    expect(open).toHaveBeenCalledWith("n3");
  });
});

describe("where the time of a run went", () => {
  const timing: Timing = {
    parts: [
      ["own", "the cell's own code, and between calls", 1],
      ["running", "running", 3],
    ],
    actions: 81,
    count: 3,
    share: 0.741,
    more: "Two more slots would bring next to nothing.",
    path: [
      [7, 2],
      [9, 1],
      [1, 0.5],
      [2, 0.1],
    ],
    named: [
      [7, "fit(4)", 2],
      [9, "fit(2)", 1],
    ],
  };

  it("is one line once the run has ended, and lists those that made it last", async () => {
    const list = vi.fn();
    const fetch = vi.fn(() => Promise.resolve(timing));
    const open = vi.fn();
    const line = new TimingLine({ fetch, list, open });
    const model = new RunModel(() => 0);
    model.header = { total: 81, counts: [] } as unknown as Header;
    line.draw(model);
    expect(fetch).not.toHaveBeenCalled();
    model.header.ended = 4;
    line.draw(model);
    line.draw(model);
    await settled();
    expect(fetch).toHaveBeenCalledTimes(1);
    expect(line.el.hidden).toBe(false);
    const [toggle, link, first] = [...line.el.querySelectorAll<HTMLElement>("button")];
    expect(link?.textContent).toBe("3 of 81 actions made 74 % of the time");
    expect(line.el.querySelector(".fnb-times")?.getAttribute("aria-label")).toContain("running 3.00 s");
    expect(toggle?.getAttribute("aria-expanded")).toBe("false");
    toggle?.click();
    expect(toggle?.getAttribute("aria-expanded")).toBe("true");
    link?.click();
    expect(list).toHaveBeenCalledWith([7, 9, 1]);
    expect(line.el.textContent).toContain("a7 fit(4) 2.00 sa9 fit(2) 1.00 s…");
    first?.click();
    expect(open).toHaveBeenCalledWith(7);
    model.header.ended = 6;
    line.draw(model);
    expect(fetch).toHaveBeenCalledTimes(2);
  });
});

describe("tool tips of what waits", () => {
  it("ask when the pointer rests on a row that waits, and only then", async () => {
    const request = vi.fn(() => Promise.resolve({ reply: { why: "2 of 2 slots busy" } }));
    const rows = [{ name: "n0", phase: P.QUEUED } as Row, { name: "n1", phase: P.RUNNING } as Row];
    const el = h(
      "div",
      {},
      rows.map((_, i) => h("div", { class: "fnb-row", "aria-rowindex": i + 1 }, h("span", {}, "text"))),
    );
    const tree = { el, lineAt: (at: number) => ({ kind: "action", row: rows[at] }) } as unknown as TreeView;
    waitingTips({ model: new RunModel(() => 0), transport: { request } } as unknown as Context, tree);
    const over = (at: number): boolean =>
      el.children[at]?.firstElementChild?.dispatchEvent(new Event("pointerover", { bubbles: true })) ?? false;
    over(0);
    vi.advanceTimersByTime(50);
    over(1);
    vi.advanceTimersByTime(1_000);
    expect(request).not.toHaveBeenCalled();
    over(0);
    vi.advanceTimersByTime(300);
    await settled();
    expect(request).toHaveBeenCalledWith("why", { action: "n0" });
    expect((el.children[0] as HTMLElement).title).toBe("Waits: 2 of 2 slots busy");
  });
});
