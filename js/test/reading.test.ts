/** Ways from a text to what it is about: places in cells, a breakpoint's prompt, lines of the log. */

import { beforeEach, describe, expect, it, vi } from "vitest";
import { RunModel } from "../src/model.ts";
import { P } from "../src/phases.ts";
import type { Detail, Row, WireLine } from "../src/protocol.ts";
import { PromptSection } from "../src/view/detail/prompt.ts";
import { append, h } from "../src/view/dom.ts";
import { LogView } from "../src/view/logs.ts";
import { LogTail } from "../src/view/logtail.ts";
import { placed } from "../src/view/places.ts";

beforeEach(() => document.body.replaceChildren());

const settle = () => new Promise((done) => setTimeout(done));

/** A notebook as JupyterLab draws one, of cells with these prompts. */
function notebook(...prompts: number[]): HTMLElement {
  const cells = prompts.map((prompt) =>
    h(
      "div",
      { class: "jp-CodeCell" },
      h("div", { class: "jp-InputPrompt" }, `[${prompt}]:`),
      h("div", { class: "cm-content" }, h("div", { class: "cm-line" }, "a"), h("div", { class: "cm-line" }, "b")),
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
      state: { doc: { lines: 2, line: (n: number) => ({ from: 10 * n }) } },
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
    expect(debug.mock.calls).toEqual([
      ["n1", undefined],
      ["n1", "p x"],
      ["n1", "c"],
    ]);
    expect(find("fnb-debug").textContent).toBe("-> y = 1\n> p x\n42\n> c\nIt goes on.\n");
    expect(find("fnb-debug-line").closest("form")?.hidden).toBe(true);
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
});
