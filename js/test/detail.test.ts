/** The panel of an action, the answer to a condition, and what redraws do to the focus. */

import { beforeEach, describe, expect, it, vi } from "vitest";
import { RunModel } from "../src/model.ts";
import type { Detail, Part, Row } from "../src/protocol.ts";
import { Transport } from "../src/transport.ts";
import { answerForm } from "../src/view/answer.ts";
import { DetailView } from "../src/view/detail/view.ts";
import { h, keepFocus } from "../src/view/dom.ts";

const EVIL = "<img src=x onerror=alert(1)>";

const row = (more: Partial<Row> = {}): Row => ({
  name: "n1",
  id: 1,
  parent: "a0",
  group: "g",
  index: 0,
  label: "work(1)",
  phase: 7,
  queued: 0,
  started: 0.1,
  ended: 0.2,
  ...more,
});

const detail = (more: Partial<Detail> = {}): Detail => ({
  name: "n1",
  id: 1,
  task: "demo.work",
  label: "work(1)",
  kind: "task",
  note: "",
  queued: 0,
  started: 0.1,
  ended: 0.2,
  max_attempts: 1,
  cached: false,
  attempts: [],
  reports: [],
  path: [],
  log: { head: [], hidden: 0, tail: [], total: 0 },
  row: row(),
  ...more,
});

let host: ReturnType<typeof makeHost>;
let view: DetailView;

const makeHost = () => ({
  close: vi.fn(),
  command: vi.fn(),
  ask: vi.fn(() => Promise.resolve("stack of work")),
  report: vi.fn((_action: string, tab: string) => Promise.resolve(`<p>${tab}</p>`)),
  openLog: vi.fn(),
  openNumber: vi.fn(),
  signal: vi.fn(),
  why: vi.fn(() => Promise.resolve("1 before it")),
  copy: vi.fn(),
  debug: vi.fn((_action: string, line?: string) =>
    Promise.resolve({ text: line === undefined ? "-> y = 1" : "", state: line === "c" ? "left" : "prompt" }),
  ),
});

beforeEach(() => {
  document.body.replaceChildren();
  host = makeHost();
  view = new DetailView(new RunModel(() => 0), host);
  document.body.append(view.el);
  view.waiting(row(), "work(1)");
});

const query = <T extends Element = HTMLElement>(selector: string): T => view.el.querySelector(selector) as T;

describe("the panel of an action", () => {
  it("shows the parts of a time, and lets the one grow that goes on", () => {
    const attempt = (cpu: number) => ({
      number: 0,
      started: 1,
      ended: 11,
      worker: "w0",
      address: "tls://127.0.0.1:1",
      pid: 1,
      slot: "0",
      busy: 3,
      cpu,
      memory: 310_000_000,
      taken: 1_200,
      given: 0,
      ok: true,
      error: null,
    });
    const words = (more: Partial<Detail>): string | null => {
      view.draw(detail({ queued: 0, started: 1, ...more }));
      return query(".fnb-times").getAttribute("aria-label");
    };
    const parts: Part[] = [
      ["slot", "waited for a slot", 1],
      ["running", "running", 3],
      ["children", "awaiting its actions", 6],
      ["result", "its result's way back", 0.001],
    ];

    expect(words({ ended: 11, parts, attempts: [attempt(2.4)] })).toBe(
      "waited for a slot 1.00 s, running 3.00 s (CPU 80 %), awaiting its actions 6.00 s",
    );
    expect(query(".fnb-attempt").textContent).toContain("CPU 2.40 s · process up to 310 MB · 1.2 kB in");
    const clock = vi.spyOn(RunModel.prototype, "elapsed").mockReturnValue(15);
    expect(words({ ended: null, parts: parts.slice(0, 2), at: 13, grows: "running" })).toBe(
      "waited for a slot 1.00 s, running 5.00 s",
    );
    expect(words({ ended: null, parts: parts.slice(0, 1), at: 13, grows: "person" })).toBe(
      "waited for a slot 1.00 s, waiting for a person 2.00 s",
    );
    clock.mockRestore();
  });

  it("says what an action waits for, and asks again once a second until it runs", async () => {
    const clock = vi.spyOn(RunModel.prototype, "elapsed").mockReturnValue(1);
    const queued = row({ phase: 0 });
    delete queued.started;
    delete queued.ended;
    view.draw(
      detail({
        row: queued,
        started: null,
        ended: null,
        parts: [["slot", "waited for a slot", 1]],
        why: "2 of 2 slots busy",
      }),
    );
    expect(query("[data-testid=fnb-why]").textContent).toBe("Waits: 2 of 2 slots busy");
    clock.mockReturnValue(2);
    view.tick();
    await Promise.resolve();
    expect(host.why).toHaveBeenCalledTimes(1);
    expect(query("[data-testid=fnb-why]").textContent).toBe("Waits: 1 before it");
    view.draw(detail({ parts: [["slot", "waited for a slot", 1]] }));
    clock.mockReturnValue(3);
    view.tick();
    expect(host.why).toHaveBeenCalledTimes(1);
    clock.mockRestore();
  });

  it("draws tables, pictures and text, and makes no markup of them", () => {
    const table = {
      head: ["", "a"],
      rows: [
        ["0", EVIL],
        ["1", "2"],
      ],
      said: "2 × 1",
      index: true,
    };
    view.draw(
      detail({
        inputs: [
          { name: EVIL, text: "frame", table },
          { name: "x", text: EVIL },
        ],
        output: { text: "picture", png: "iVBORw0KGgo=" },
      }),
    );
    expect(query("tbody th").textContent).toBe("0");
    expect(query("thead").querySelectorAll("th")).toHaveLength(1);
    expect(query(".fnb-tablesaid").textContent).toBe("2 × 1");
    expect(query<HTMLImageElement>("img").alt).toBe("picture");
    expect(view.el.querySelectorAll("img")).toHaveLength(1);
    expect(view.el.textContent).toContain(EVIL);
  });

  it("marks the line that failed, and opens the function around a comprehension too", () => {
    const frame = (name: string) => ({
      file: "Cell In[1]",
      line: 3,
      function: name,
      source: "  2  a = 1\n> 3  fail()",
      locals: { a: "1" },
      user: true,
    });
    view.draw(
      detail({
        failure: {
          text: "",
          frames: [frame("main"), frame("work"), { ...frame("lib"), user: false }, frame("<listcomp>")],
        },
      }),
    );
    expect(query(".fnb-failing").textContent).toBe("> 3  fail()");
    const open = [...view.el.querySelectorAll("details.fnb-frame[open] > summary code")].map((one) => one.textContent);
    expect(open).toEqual(["work", "<listcomp>"]);
  });

  it("keeps the focus, what was unfolded and what was typed over updates", () => {
    const asks = { type: "str", prompt: "Deploy?" } as const;
    const one = detail({
      kind: "condition",
      row: row({ phase: 4, kind: "condition", asks }),
      failure: { frames: [], text: "Traceback" },
    });
    view.draw(one);
    query<HTMLDetailsElement>("details").open = true;
    const input = query<HTMLInputElement>(".fnb-signal input");
    input.value = "v7";
    input.focus();
    view.draw({ ...one });
    expect(query<HTMLInputElement>(".fnb-signal input")).not.toBe(input);
    expect(document.activeElement).toBe(query(".fnb-signal input"));
    expect(query<HTMLInputElement>(".fnb-signal input").value).toBe("v7");
    expect(query<HTMLDetailsElement>("details").open).toBe(true);
  });

  it("resumes a parked action with a value", () => {
    view.draw(detail({ row: row({ phase: 4 }) }));
    [...view.el.querySelectorAll("button")].find((one) => one.textContent === "Resume with…")?.click();
    query<HTMLInputElement>("[data-testid=fnb-resume]").value = "0.5";
    query("form").dispatchEvent(new Event("submit", { cancelable: true }));
    expect(host.command).toHaveBeenCalledWith("resume", { action: "n1", value: "0.5" });
  });

  it("follows a report that changes, and shows tabs that come", async () => {
    view.draw(detail({ reports: ["main"] }));
    await vi.waitFor(() => expect(query<HTMLIFrameElement>("iframe").srcdoc).toContain("<p>main</p>"));
    expect(query("iframe").getAttribute("sandbox")).toBe("");
    expect(query<HTMLIFrameElement>("iframe").srcdoc).toMatch(
      /^<meta http-equiv="Content-Security-Policy" content="default-src 'none'/,
    );
    view.reported("n1", "more");
    [...view.el.querySelectorAll("button")].find((one) => one.textContent === "more")?.click();
    await vi.waitFor(() => expect(query<HTMLIFrameElement>("iframe").srcdoc).toContain("<p>more</p>"));
    view.reported("another", "main");
    expect(host.report.mock.calls.map(([, tab]) => tab)).toEqual(["main", "more"]);
  });
});

describe("the answer to a condition", () => {
  it("is yes or no where a bool is asked for", () => {
    const send = vi.fn();
    const form = answerForm({ type: "bool", prompt: "" }, "go: now?", send);
    (form.querySelector("[data-testid=fnb-answer-no]") as HTMLButtonElement).click();
    expect(send).toHaveBeenCalledWith("no");
    expect(form.querySelector("input")).toBeNull();
  });

  it("is a number where one is asked for", () => {
    const send = vi.fn();
    const form = answerForm({ type: "int", prompt: "" }, "n", send);
    form.dispatchEvent(new Event("submit", { cancelable: true }));
    expect(send).not.toHaveBeenCalled();
    (form.querySelector("input[type=number]") as HTMLInputElement).value = "3";
    form.dispatchEvent(new Event("submit", { cancelable: true }));
    expect(send).toHaveBeenCalledWith("3");
  });
});

describe("a redraw", () => {
  it("leaves the focus on the control of the same name, whatever its number", () => {
    const box = h("div", {}, h("button", {}, "3 × KeyError"), h("button", {}, "5 × OSError"));
    document.body.append(box);
    (box.lastChild as HTMLElement).focus();
    keepFocus(box, () => box.replaceChildren(h("button", {}, "7 × OSError"), h("button", {}, "4 × KeyError")));
    expect(document.activeElement?.textContent).toBe("7 × OSError");
  });
});

describe("a command", () => {
  it("says what came of it, and that nothing answered", async () => {
    vi.useFakeTimers();
    const sent: { nonce: string }[] = [];
    const transport = new Transport({ get: () => "u", send: (one: never) => sent.push(one), on() {}, off() {} });
    const say = vi.fn();
    for (let i = 0; i < 3; i++) transport.command("retry_failed", {}, say);
    transport.take({ kind: "reply", to: sent[0]?.nonce ?? "", text: "Retrying 3." }, []);
    transport.take({ kind: "reply", to: sent[1]?.nonce ?? "", error: "Nothing failed." }, []);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(say.mock.calls).toEqual([
      ["Retrying 3.", false],
      ["Nothing failed.", true],
      ["The kernel did not answer. Is it still running?", true],
    ]);
    vi.useRealTimers();
  });
});
