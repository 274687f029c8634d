/** The view in a page: what it shows and what it sends. */

import { beforeEach, describe, expect, it, vi } from "vitest";
import { RunModel } from "../src/model.ts";
import type { Message, Picture, Row } from "../src/protocol.ts";
import { App } from "../src/view/app.ts";
import { RowView } from "../src/view/rowview.ts";

const EVIL = "<img src=x onerror=alert(1)>";

class FakeModel {
  sent: { op: string; args: Record<string, unknown>; nonce: string; comm_id: string }[] = [];
  control: unknown[] = [];
  slots: ((kernel: unknown, status: string) => void)[] = [];
  widget_manager = {
    kernel: {
      clientId: "c",
      sendControlMessage: (message: unknown) => this.control.push(message),
      statusChanged: {
        connect: (slot: (kernel: unknown, status: string) => void) => this.slots.push(slot) > 0,
        disconnect: () => true,
      },
    },
  };
  get(key: string) {
    return key === "uid"
      ? "u1"
      : key === "first"
        ? { run: "r1", title: EVIL, phase: 3, counts: [], total: 0, roots: [""] }
        : null;
  }
  send(content: (typeof this.sent)[0]) {
    this.sent.push(content);
  }
  on() {}
  off() {}
}

const header = {
  run: "r1",
  title: EVIL,
  kind: "cell",
  phase: 3,
  epoch: 0,
  counts: [0, 0, 0, 2],
  total: 2,
  roots: ["", "a0"],
};
const row = (id: number, more: Partial<Row> = {}): Row => ({
  name: `n${id}`,
  id,
  parent: "a0",
  group: "g",
  index: id - 1,
  label: `${EVIL}(${id})`,
  phase: 3,
  queued: 0,
  started: 0.1,
  ...more,
});
const replay = (rows: Row[], seq = 1): Picture => ({
  kind: "replay",
  v: 1,
  seq,
  now: 1,
  small: true,
  run: header,
  rows,
  groups: [{ key: "g", parent: "a0", label: EVIL, n: rows.length, counts: [0, 0, 0, rows.length], queued: 0 }],
  errors: [{ key: "k", n: 3, text: EVIL, where: EVIL, name: "n1", id: 1, label: EVIL, common: EVIL }],
  logs: { lines: [["n1", 0.5, "stdout", EVIL]], labels: { n1: [1, EVIL] }, skipped: 7, total: 8 },
});

let model: FakeModel;
let app: App;
const frame = () => vi.waitFor(() => expect(app.root.querySelector(".fnb-body")?.hasAttribute("hidden")).toBe(false));

beforeEach(() => {
  document.body.replaceChildren();
  model = new FakeModel();
  app = new App(model as never);
  document.body.append(app.root);
});

describe("a view", () => {
  it("says ready, on both ways and with one nonce", () => {
    app.start();
    expect(model.sent[0]).toMatchObject({ op: "ready", comm_id: "u1" });
    expect(model.control[0]).toMatchObject({
      header: { msg_type: "flyte_ui" },
      content: { op: "ready", nonce: model.sent[0]?.nonce },
    });
  });

  it("shows its header before the first message", () => {
    expect(app.root.querySelector(".fnb-run")?.textContent).toBe("r1");
  });

  it("makes no markup of any string", async () => {
    app.receive(replay([row(1), row(2, { error: EVIL, note: EVIL, preview: EVIL })]) as Message, []);
    app.receive({ kind: "notice", text: EVIL, error: true }, []);
    await frame();
    expect(app.root.querySelector("img, script, iframe")).toBeNull();
    expect(app.root.textContent).toContain(EVIL);
  });

  it("asks for a snapshot once when a message is missing", () => {
    app.receive(replay([row(1), row(2)]) as Message, []);
    for (const seq of [3, 4]) app.receive({ ...replay([]), kind: "patch", seq } as Message, []);
    expect(model.sent.filter(({ op }) => op === "snapshot")).toHaveLength(1);
  });

  it("sends what its buttons say", async () => {
    app.receive(replay([row(1), row(2)]) as Message, []);
    await frame();
    app.root.querySelector<HTMLButtonElement>("[data-testid=fnb-cancel]")?.click();
    expect(model.sent.at(-1)).toMatchObject({ op: "cancel_run", args: { run: "r1" } });
  });

  it("keeps the keyboard to itself", () => {
    const heard = vi.fn();
    document.body.addEventListener("keydown", heard);
    app.root.querySelector(".fnb-scroll")?.dispatchEvent(new KeyboardEvent("keydown", { key: "d", bubbles: true }));
    expect(heard).not.toHaveBeenCalled();
    expect(app.root.getAttribute("data-lm-suppress-shortcuts")).toBe("true");
  });

  it("stops counting when the kernel is gone, and says so", () => {
    app.receive(replay([row(1), row(2)]) as Message, []);
    for (const slot of model.slots) slot(null, "restarting");
    expect(app.root.querySelector(".fnb-notice")?.textContent).toContain("The kernel is gone");
    expect(app.root.classList.contains("fnb-orphan")).toBe(true);
  });

  it("offers nothing and says nothing of running once the kernel is gone", async () => {
    app.receive(replay([row(1), row(2)]) as Message, []);
    await frame();
    for (const slot of model.slots) slot(null, "dead");
    await vi.waitFor(() => expect(app.root.querySelector(".fnb-state")?.textContent).toBe("Kernel gone"));
    expect(app.root.querySelector("[data-testid=fnb-cancel]")?.hasAttribute("hidden")).toBe(true);
    expect(app.root.querySelector("[data-testid=fnb-retry-failed]")?.hasAttribute("hidden")).toBe(true);
  });

  it("says what waits for a person, and lists it", async () => {
    const counts = [0, 0, 0, 1, 2];
    const parked = [row(1, { phase: 4, error: "KeyError" }), row(2, { phase: 4, kind: "condition", note: "Go?" })];
    app.receive({ ...replay([...parked, row(3)]), run: { ...header, counts, total: 3 } } as Message, []);
    const bar = app.root.querySelector("[data-testid=fnb-waits]");
    await vi.waitFor(() => expect(bar?.hasAttribute("hidden")).toBe(false));
    expect(bar?.textContent).toContain("Waits for you: 1 failed and is paused, 1 question");
    bar?.querySelector("button")?.click();
    expect(model.sent.at(-1)).toMatchObject({ op: "query", args: { states: [4] } });
    app.receive(
      { ...replay([row(1, { phase: 6 })], 2), run: { ...header, counts: [0, 0, 0, 2], total: 2 } } as Message,
      [],
    );
    await vi.waitFor(() => expect(bar?.hasAttribute("hidden")).toBe(true));
  });

  it("sorts by a column's heading, and back", async () => {
    app.receive(replay([row(1), row(2)]) as Message, []);
    await frame();
    const time = app.root.querySelector<HTMLButtonElement>("[data-sort='-duration']");
    time?.click();
    expect(model.sent.at(-1)).toMatchObject({ op: "query", args: { sort: "duration", desc: true } });
    await vi.waitFor(() => expect(time?.getAttribute("aria-pressed")).toBe("true"));
    time?.click();
    await vi.waitFor(() => expect(time?.getAttribute("aria-pressed")).toBe("false"));
  });

  it("goes to its filter with a slash, and tells its keys with a question mark", async () => {
    app.receive(replay([row(1), row(2)]) as Message, []);
    await frame();
    const scroll = app.root.querySelector(".fnb-scroll");
    scroll?.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
    expect(document.activeElement).toBe(app.root.querySelector("[data-testid=fnb-search]"));
    scroll?.dispatchEvent(new KeyboardEvent("keydown", { key: "?", bubbles: true }));
    expect(app.root.querySelector(".fnb-notice")?.textContent).toContain("Keys:");
  });

  it("announces its state politely", async () => {
    app.receive(replay([row(1), row(2)]) as Message, []);
    await vi.waitFor(() => expect(app.root.querySelector(".fnb-sr")?.textContent).toBe("Run r1 running. 2 running."));
  });
});

describe("a row", () => {
  const draw = (one: Row, took?: number) => {
    const host = { toggle: vi.fn(), select: vi.fn(), signal: vi.fn(), tabulate: vi.fn() };
    const view = new RowView(host);
    view.draw(
      { kind: "action", id: "a:x", depth: 0, group: "g", index: 0, row: one, open: false, took },
      new RunModel(() => 0),
      0,
    );
    return { view, host };
  };

  it("tells state by word and icon", () => {
    const { view } = draw(row(1, { phase: 7, error: "KeyError: 'a'" }));
    expect(view.el.querySelector(".fnb-stateword")?.textContent).toBe("failed");
    expect(view.el.querySelector("svg")).not.toBeNull();
    expect(view.el.querySelector(".fnb-infotext")?.textContent).toBe("KeyError: 'a'");
  });

  it("keeps the end of its label, and shows by what it is sorted", () => {
    const { view } = draw(row(1, { label: "get  url='https://a.org/news?page=12'", phase: 6, ended: 9.1, kids: 2 }), 2);
    const label = view.el.querySelector(".fnb-label");
    expect(label?.textContent).toBe("get  url='https://a.org/news?page=12'");
    expect(label?.lastChild?.textContent).toBe("ews?page=12'");
    const time = view.el.querySelector(".fnb-dur");
    expect(time?.textContent).toBe("2.00 s");
    expect(time?.getAttribute("title")).toBe("9.00 s with the actions that it awaited");
  });

  it("does not count what a person took", () => {
    const time = (more: Partial<Row>) => draw(row(1, more)).view.el.querySelector(".fnb-dur")?.textContent;
    expect(time({ phase: 4, ran: 3 })).toBe("3.00 s");
    expect(time({ started: -10, away: 4 })).toBe("6.0 s");
  });

  it("asks for a condition's answer, and keeps what was typed over updates", () => {
    const one = row(1, { phase: 4, kind: "condition", note: "Deploy?" });
    const { view, host } = draw(one);
    const input = view.el.querySelector("input") as HTMLInputElement;
    input.value = "yes";
    view.draw(
      { kind: "action", id: "a:x", depth: 0, group: "g", index: 0, row: { ...one, note: "Deploy now?" }, open: false },
      new RunModel(() => 0),
      0,
    );
    expect((view.el.querySelector("input") as HTMLInputElement).value).toBe("yes");
    view.el.querySelector("form")?.dispatchEvent(new Event("submit", { cancelable: true }));
    expect(host.signal).toHaveBeenCalledWith(expect.objectContaining({ name: "n1" }), "yes");
  });

  it("shows attempts and the cache", () => {
    const { view } = draw(row(1, { attempt: 2, of: 3, cached: true }));
    expect(view.el.querySelector(".fnb-tries")?.getAttribute("aria-label")).toBe("attempt 2 of 3");
    expect(view.el.querySelector(".fnb-cached")).not.toBeNull();
    const marks = (one: Row) => draw(one).view.el.querySelectorAll(".fnb-try-failed").length;
    expect(marks(row(1, { attempt: 2, of: 3 }))).toBe(1);
    expect(marks(row(1, { attempt: 2, of: 2, phase: 7, error: "KeyError" }))).toBe(2);
  });
});
