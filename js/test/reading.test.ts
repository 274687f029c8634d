/** Ways from a text to what it is about: places in cells, a breakpoint's prompt, lines of the log. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RunModel } from "../src/model.ts";
import { P } from "../src/phases.ts";
import type { Detail, Header, Row, WireLine } from "../src/protocol.ts";
import { compare } from "../src/view/compare.ts";
import type { Context } from "../src/view/context.ts";
import { PromptSection } from "../src/view/detail/prompt.ts";
import { dock } from "../src/view/dock.ts";
import { append, h } from "../src/view/dom.ts";
import { HeaderView } from "../src/view/header.ts";
import { LogView } from "../src/view/logs.ts";
import { LogTail } from "../src/view/logtail.ts";
import { placed } from "../src/view/places.ts";
import { listRuns } from "../src/view/runs.ts";
import { Sheet } from "../src/view/sheet.ts";

beforeEach(() => document.body.replaceChildren());

const settle = () => new Promise((done) => setTimeout(done));

/** A notebook as JupyterLab draws one, of cells with these prompts. */
function notebook(...prompts: number[]): HTMLElement {
  const cells = prompts.map((prompt) =>
    h(
      "div",
      { class: "jp-CodeCell" },
      h("div", { class: "jp-InputPrompt" }, `[${prompt}]:`),
      // IPython takes empty lines at the top off, and counts from there.
      h(
        "div",
        { class: "cm-content" },
        ["", "a", "b"].map((line) => h("div", { class: "cm-line" }, line)),
      ),
    ),
  );
  for (const cell of cells) cell.scrollIntoView = vi.fn();
  const el = h("div", { class: "jp-Notebook" }, cells);
  document.body.append(el);
  return el;
}

const text = (said: string): HTMLElement => {
  const el = h("div", {});
  append(el, [placed(said)]);
  return el;
};

describe("a place in a cell", () => {
  it("is a button that goes to the line, in the notebook that it is in", () => {
    notebook(5);
    const own = notebook(4, 5);
    for (const said of ["Cell In[5]:2 in work", "breakpoint at In [5]:2 in work", "Cell In[5], line 2, in work"]) {
      for (const line of document.querySelectorAll(".fnb-marked")) line.classList.remove("fnb-marked");
      const el = text(said);
      expect(el.textContent).toBe(said);
      own.append(el);
      el.querySelector("button")?.click();
      expect(own.children[1]?.scrollIntoView).toHaveBeenCalled();
      expect(own.querySelector(".fnb-marked")?.textContent).toBe("b");
      expect(document.querySelectorAll(".fnb-marked").length).toBe(1);
    }
  });

  it("puts the cursor there where CodeMirror's view is found", () => {
    const own = notebook(5);
    const editor = {
      state: { doc: { lines: 2, line: (n: number) => ({ from: 10 * n, text: "x" }) } },
      dispatch: vi.fn(),
      focus: vi.fn(),
      domAtPos: () => ({ node: own.querySelector(".cm-line") as Node }),
    };
    Object.assign(own.querySelector(".cm-content") as object, { cmTile: { view: editor } });
    own.append(text("Cell In[5]:9"));
    own.querySelector("button")?.click();
    expect(editor.dispatch).toHaveBeenCalledWith({ selection: { anchor: 20 }, scrollIntoView: true });
    expect(editor.focus).toHaveBeenCalled();
  });

  it("is text where there is no notebook or no place, and says so where the cell was run again", () => {
    expect(text("Cell In[5]:2").querySelector("button")).toBeNull();
    const own = notebook(6);
    expect(text("model.py:12 in fit").querySelector("button")).toBeNull();
    const said = vi.fn();
    own.addEventListener("fnb-say", (event) => said((event as CustomEvent).detail));
    own.append(text("Cell In[5]:2"));
    own.querySelector("button")?.click();
    expect(said).toHaveBeenCalledWith("In [5] has been run again since.");
  });
});

describe("the panel's debugger", () => {
  const detail = { name: "n1", note: "" } as Detail;
  const row = (phase: number, note?: string) => ({ name: "n1", phase, note }) as Row;

  it("attaches, sends lines, shows what was printed, and ends where the action goes on", async () => {
    const answers = [
      { text: "-> y = 1\n", state: "prompt" },
      { text: "42\n", state: "prompt" },
      { text: "", state: "left" },
    ];
    const debug = vi.fn(() => Promise.resolve(answers.shift() as { text: string; state: string }));
    const prompt = new PromptSection({ debug });
    expect(prompt.draw(detail, row(P.RUNNING), P.RUNNING)).toBeNull();
    const el = prompt.draw(detail, row(P.PAUSED, "breakpoint at In [3]:4"), P.PAUSED) as HTMLElement;
    document.body.append(el);
    const find = <T extends HTMLElement>(id: string) => el.querySelector(`[data-testid=${id}]`) as T;
    find("fnb-attach").click();
    await settle();
    expect(find("fnb-debug").textContent).toBe("-> y = 1\n");
    for (const line of ["p x", "c"]) {
      find<HTMLInputElement>("fnb-debug-line").value = line;
      find("fnb-debug-line")
        .closest("form")
        ?.dispatchEvent(new Event("submit", { cancelable: true }));
      await settle();
    }
    for (const [key, line] of [
      ["ArrowUp", "c"],
      ["ArrowUp", "p x"],
      ["ArrowUp", "p x"],
      ["ArrowDown", "c"],
      ["ArrowDown", ""],
    ] as const) {
      find("fnb-debug-line").dispatchEvent(new KeyboardEvent("keydown", { key }));
      expect(find<HTMLInputElement>("fnb-debug-line").value).toBe(line);
    }
    expect(debug.mock.calls).toEqual([
      ["n1", undefined],
      ["n1", "p x"],
      ["n1", "c"],
    ]);
    expect(find("fnb-debug").textContent).toBe("-> y = 1\n> p x\n42\n> c\nIt goes on.\n");
    expect(find("fnb-debug-line").closest("form")?.hidden).toBe(true);
  });
});

describe("the header", () => {
  it("says Paused where nothing goes on before a person has decided, and Running else", () => {
    const none = vi.fn();
    const header = new HeaderView({ toggle: none, command: none, filter: none, compare: none, menu: () => [] });
    const model = new RunModel(() => 0);
    const counts = new Array(12).fill(0);
    const word = (...changes: [number, number][]): string | null | undefined => {
      for (const [code, n] of changes) counts[code] = n;
      model.header = { run: "r1", title: "t", phase: P.RUNNING, counts, total: 4, roots: [], epoch: 0, kind: "cell" };
      header.draw(model, true, new Set());
      return header.el.querySelector(".fnb-word")?.textContent;
    };
    expect(word([P.SUCCEEDED, 2], [P.PAUSED, 1], [P.QUEUED, 1])).toBe("Running");
    expect(word([P.QUEUED, 0])).toBe("Paused");
    expect(word([P.PAUSED, 0])).toBe("Running");
  });
});

describe("a run beside the notebook", () => {
  afterEach(() => Reflect.deleteProperty(window, "flyteNbPanel"));

  it("is in a panel of the front end's own where there is one, else over the page", async () => {
    dock("u1", "r1 fit");
    dock("u2", "r2 fit");
    const placeIn = (el: Element | null): string | undefined =>
      el?.querySelector<HTMLElement>(".flyte-nb-static")?.dataset.flyteView;
    expect([...document.querySelectorAll(".fnb-dock")].map(placeIn)).toEqual(["u2"]);
    document.querySelector<HTMLElement>(".fnb-dock button")?.click();
    expect(document.querySelector(".fnb-dock")).toBeNull();

    const made = vi.fn((_title: string, node: HTMLElement) => Promise.resolve(document.body.append(node)));
    Object.assign(window, { flyteNbPanel: made });
    dock("u3", "r3 fit");
    expect(placeIn(document.querySelector(".fnb-panel"))).toBe("u3");
    made.mockImplementation(() => Promise.reject(new Error("another version")));
    dock("u4", "r4 fit");
    await settle();
    expect(placeIn(document.querySelector(".fnb-dock"))).toBe("u4");
  });
});

describe("what is asked for below the header", () => {
  it("compares with the run before, and a second press closes it", async () => {
    const sheet = new Sheet();
    const open = vi.fn();
    const rows = [{ what: "slower", label: "fit(3)", ids: [2, 17], seconds: [0.5, 2], detail: "4.0 x" }];
    const reply = { said: "r1 and r2: 9 calls in both, 1 slower", total: 3, rows };
    const model = new RunModel(() => 0);
    model.header = { run: "r2", before: "r1" } as Header;
    const context = {
      model,
      transport: { request: () => Promise.resolve({ reply }) },
      notices: {},
    } as unknown as Context;
    compare(context, sheet, open);
    await settle();
    expect(sheet.el.textContent).toContain("1 slower");
    expect([...sheet.el.querySelectorAll("tbody td")].map((cell) => cell.textContent)).toEqual([
      "slower",
      "a17 fit(3)",
      "0.50 s",
      "2.00 s",
      "4.0 x",
    ]);
    expect(sheet.el.textContent).toContain("and 2 more: %flyte compare r1 r2");
    sheet.el.querySelector<HTMLElement>("tbody button")?.click();
    expect(open).toHaveBeenCalledWith(17);
    compare(context, sheet, open);
    expect(sheet.el.hidden).toBe(true);
  });

  it("lists the runs of the kernel: one in the page is gone to, another is put beside the notebook", async () => {
    const sheet = new Sheet();
    const listed = (run: string, view: string) => ({
      run,
      title: "fit",
      phase: P.SUCCEEDED,
      prompt: 3,
      counts: [],
      took: 1,
      view,
    });
    const reply = { runs: [listed("r2", "u2"), listed("r1", "u1"), listed("r0", "")] };
    const say = vi.fn();
    const context = {
      transport: { request: () => Promise.resolve({ reply }) },
      notices: { say },
    } as unknown as Context;
    const shown = h("div", { class: "fnb", "data-run": "r2" });
    Object.defineProperty(shown, "offsetParent", { value: document.body });
    shown.scrollIntoView = vi.fn();
    document.body.append(shown);
    listRuns(context, sheet);
    await settle();
    for (const button of sheet.el.querySelectorAll<HTMLElement>("tbody button")) button.click();
    expect(shown.scrollIntoView).toHaveBeenCalled();
    expect(document.querySelector<HTMLElement>(".fnb-dock .flyte-nb-static")?.dataset.flyteView).toBe("u1");
    expect(say.mock.calls[0]?.[0]).toContain("%flyte show r0");
  });
});

describe("a line of the log", () => {
  const line: WireLine = ["abc123", 1, "stdout", "step 7"];
  const model = new RunModel(() => 0);
  model.labels.set("abc123", [17, "fit depth=6"]);
  model.logTotal = 1;
  model.setLogs([{ line }]);

  it("opens its action", () => {
    const open = vi.fn();
    const tail = new LogTail(vi.fn(), open);
    document.body.append(tail.el);
    tail.draw(model, 5);
    (tail.el.querySelector(".fnb-logtext") as HTMLElement).click();
    expect(open).toHaveBeenCalledWith(17);
  });

  it("is what the log is opened at", () => {
    const view = new LogView(model, { search: vi.fn(), download: vi.fn(), reload: vi.fn(), openNumber: vi.fn() });
    document.body.append(view.el);
    const follow = [...view.el.querySelectorAll("button")].find((one) => one.textContent === "Follow");
    view.showAction("abc123", "fit depth=6", { head: [], hidden: 0, tail: [line], total: 1 }, line);
    expect(follow?.getAttribute("aria-pressed")).toBe("false");
  });

  it("is looked for in all lines that Python keeps, by text and level; by a pattern in those at hand", () => {
    const search = vi.fn();
    const view = new LogView(model, { search, download: vi.fn(), reload: vi.fn(), openNumber: vi.fn() });
    const [input, level] = ["input", "select"].map((tag) => view.el.querySelector<HTMLInputElement>(tag));
    const say = (box: HTMLInputElement | null | undefined, value: string, kind: string): void => {
      if (box) box.value = value;
      box?.dispatchEvent(new Event(kind));
    };
    const said = (): string => view.el.querySelector(".fnb-logsaid")?.textContent ?? "";
    model.logTotal = 9_000;
    document.body.append(view.el);
    say(input, "a17", "input");
    say(level, "warning", "change");
    expect(search.mock.calls).toEqual([[{ text: "a17", level: "" }], [{ text: "a17", level: "warning" }]]);
    view.found({ text: "a17", level: "" }, { head: [], hidden: 0, tail: [line, line], total: 2 });
    expect(said()).toBe("0 of 9,000 lines · 8,999 lines hidden"); // an answer to what is not asked any more
    view.found({ text: "a17", level: "warning" }, { head: [], hidden: 1, tail: [line, line], total: 3 });
    expect(said()).toBe("3 of 9,000 lines · 1 lines hidden");
    say(level, "", "change");
    say(input, "/step [0-9]/", "input");
    expect(search).toHaveBeenCalledTimes(3);
    expect(said()).toBe("1 in the 1 shown of 9,000 lines · 8,999 lines hidden");
    model.logTotal = 1;
  });
});
